"""Requests that say which one they are: repeated, they are answered as the first time and do nothing twice."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.urls import include, path
from django.utils import timezone
from rest_framework.response import Response

from contacts.models import Contact
from kaanha import api as shell
from kaanha import urls
from kaanha.organizations import idempotency
from kaanha.organizations.access import Area
from kaanha.organizations.api import OwnedAPI
from kaanha.organizations.models import APIKey, KeptAnswer, Role
from kaanha.organizations.tasks import drop_kept_answers
from tests.callers import Caller, error
from tests.factories import OrganizationFactory

BODY = {"phone": "+919876543210", "name": "Asha Example"}
broken = False


class BreakingAPI(OwnedAPI):
    """Writes a contact, and breaks while the module says so."""

    area = Area.CONTACTS

    def post(self, request):
        contact = Contact.objects.create(organization=self.organization, phone="+919876543210")
        if broken:
            raise ZeroDivisionError
        return Response({"id": contact.public_id})


handler400, handler500 = urls.handler400, urls.handler500
urlpatterns = [path("api/", include([shell.at("breaking", BreakingAPI, "breaking")])), *urls.urlpatterns]
pytestmark = pytest.mark.django_db


@pytest.fixture
def caller():
    return Caller(OrganizationFactory(), raise_request_exception=False)


def post(caller, body=BODY, key="order-77", address="/api/contacts"):
    return caller.post(address, body, headers={"Idempotency-Key": key})


def test_the_same_request_again_has_the_same_answer_and_does_nothing(caller):
    first, second = post(caller), post(caller)

    assert (first.status_code, second.status_code) == (201, 201)
    assert second.content == first.content
    assert second.headers["ETag"] == first.headers["ETag"]
    assert (first.headers.get("Idempotent-Replayed"), second.headers["Idempotent-Replayed"]) == (None, "true")
    assert Contact.objects.count() == 1


def test_how_the_body_is_written_does_not_matter(caller):
    first = post(caller)

    again = post(caller, b'{ "name": "Asha Example",  "phone": "+919876543210" }', address="/api/contacts/")

    assert (again.status_code, again.content) == (201, first.content)


def test_the_same_key_with_another_request_is_refused(caller):
    post(caller)

    assert error(post(caller, {**BODY, "name": "Ravi"})) == (409, "idempotency_key_reused")
    assert error(post(caller, {"name": "VIP"}, address="/api/tags")) == (409, "idempotency_key_reused")
    assert list(Contact.objects.values_list("name", flat=True)) == ["Asha Example"]


def test_without_a_key_each_request_is_one_of_its_own(caller):
    assert caller.post("/api/contacts", BODY).status_code == 201
    assert error(caller.post("/api/contacts", BODY)) == (409, "contact_already")
    assert KeptAnswer.objects.count() == 0


def test_a_refusal_is_kept_as_well(caller):
    caller.post("/api/contacts", BODY)
    assert error(post(caller)) == (409, "contact_already")
    Contact.objects.all().delete()

    assert error(post(caller)) == (409, "contact_already")
    assert post(caller, key="order-78").status_code == 201
    assert Contact.objects.count() == 1


def test_what_can_not_be_understood_is_refused_the_same_each_time(caller):
    for _ in range(2):
        assert error(post(caller, {"phone": 7})) == (422, "invalid")
    assert error(post(caller, b"{", key="order-79")) == (400, "malformed")
    assert list(KeptAnswer.objects.values_list("key", flat=True)) == ["order-77"]


@pytest.mark.urls(__name__)
def test_a_fault_of_ours_keeps_nothing_and_the_next_try_works(caller, monkeypatch):
    monkeypatch.setitem(globals(), "broken", True)
    assert error(post(caller, {}, address="/api/breaking")) == (500, "server_error")
    assert (Contact.objects.count(), KeptAnswer.objects.count()) == (0, 0)
    monkeypatch.setitem(globals(), "broken", False)

    assert post(caller, {}, address="/api/breaking").status_code == 200
    assert post(caller, {}, address="/api/breaking").headers["Idempotent-Replayed"] == "true"
    assert Contact.objects.count() == 1


@pytest.mark.parametrize("key", ["", " ", "a b", "ü", "a" * 256])
def test_a_key_that_is_none_is_refused(caller, key):
    assert error(post(caller, key=key)) == (400, "idempotency_key_malformed")
    assert Contact.objects.count() == 0


def test_organizations_do_not_share_keys(caller):
    other = Caller(OrganizationFactory())

    assert post(caller).json()["id"] != post(other).json()["id"]
    assert Contact.objects.count() == 2


def test_who_may_not_do_it_is_not_told_what_was_answered(caller):
    post(caller)
    viewer = Caller(caller.key.organization, Role.VIEWER)

    assert error(post(viewer)) == (403, "forbidden")
    APIKey.objects.filter(pk=caller.key.pk).update(revoked_at=timezone.now())
    assert error(post(caller)) == (401, "unauthorized")


def test_answers_stand_encrypted_and_are_forgotten_after_a_day(caller):
    post(caller)
    with connection.cursor() as cursor:
        cursor.execute("SELECT body FROM organizations_keptanswer")
        assert "Asha" not in cursor.fetchone()[0]
    assert drop_kept_answers() == 0
    KeptAnswer.objects.update(created_at=timezone.now() - idempotency.KEPT - timedelta(seconds=1))

    assert drop_kept_answers() == 1
    assert error(post(caller)) == (409, "contact_already")


@pytest.mark.django_db(transaction=True)
def test_of_eight_that_come_at_once_one_is_done_and_all_are_told_the_same(caller):
    barrier, answers = threading.Barrier(8), []

    def send():
        try:
            barrier.wait()
            answers.append(post(caller))
        finally:
            connection.close()

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {(answer.status_code, answer.content) for answer in answers} == {(201, answers[0].content)}
    assert sum("Idempotent-Replayed" in answer.headers for answer in answers) == 7
    assert Contact.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_who_waits_too_long_for_the_first_is_told_to_come_again(caller, monkeypatch):
    monkeypatch.setattr(idempotency, "PATIENCE", "50ms")
    claimed, done = threading.Event(), threading.Event()

    def hold():
        from django.db import transaction

        try:
            with transaction.atomic():
                KeptAnswer.objects.create(
                    organization=caller.key.organization, key="order-77", digest="x", created_at=timezone.now()
                )
                claimed.set()
                done.wait(30)
                transaction.set_rollback(True)
        finally:
            connection.close()

    first = threading.Thread(target=hold)
    first.start()
    claimed.wait(30)
    assert error(post(caller)) == (409, "idempotency_key_busy")
    done.set()
    first.join()

    assert post(caller).status_code == 201
