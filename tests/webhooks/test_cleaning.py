"""Old events go, with all that hangs on them; what is pending stays."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from kaanha.webhooks import cleaning
from kaanha.webhooks.models import Attempt, Delivery, Endpoint, Event, Status
from kaanha.webhooks.tasks import drop_old
from tests.factories import EndpointFactory
from tests.webhooks.conftest import NOW, happen

pytestmark = pytest.mark.django_db(transaction=True)
OLD, YOUNG = NOW - timedelta(days=30, seconds=1), NOW - timedelta(days=30)


@pytest.fixture
def organization():
    return EndpointFactory().organization


def ended(organization, at, status=Status.DELIVERED):
    (delivery,) = happen(organization, at=at)
    Delivery.objects.filter(pk=delivery.pk).update(status=status, next_attempt_at=None)
    Attempt.objects.create(delivery=delivery, number=1, at=at, milliseconds=1)
    return delivery


def test_what_is_older_than_thirty_days_goes_with_its_deliveries_and_attempts(organization):
    ended(organization, OLD)
    ended(organization, OLD, Status.FAILED)
    Event.objects.create(organization=organization, kind="webhook.disabled", data={}, occurred_at=OLD)
    kept = ended(organization, YOUNG)

    assert cleaning.drop_old(now=NOW) == 3

    assert list(Delivery.objects.all()) == [kept]
    assert (Event.objects.count(), Attempt.objects.count()) == (1, 1)
    assert cleaning.drop_old(now=NOW) == 0


def test_how_long_is_a_setting(organization, settings):
    settings.WEBHOOKS_KEEP = timedelta(days=7)
    ended(organization, NOW - timedelta(days=8))

    assert cleaning.drop_old(now=NOW) == 1


def test_what_is_pending_anywhere_stays_whole(organization):
    EndpointFactory(organization=organization)
    first, second = happen(organization, at=OLD)
    Delivery.objects.filter(pk=first.pk).update(status=Status.DELIVERED, next_attempt_at=None)

    assert cleaning.drop_old(now=NOW) == 0
    assert Delivery.objects.count() == 2
    Delivery.objects.filter(pk=second.pk).update(status=Status.FAILED, next_attempt_at=None)
    assert cleaning.drop_old(now=NOW) == 1


def test_all_of_it_goes_however_many_batches_past_what_stays(organization, monkeypatch):
    monkeypatch.setattr(cleaning, "AT_ONCE", 2)
    happen(organization, at=OLD)
    for _ in range(5):
        ended(organization, OLD)

    assert cleaning.drop_old(now=NOW) == 5
    assert Delivery.objects.get().status == Status.PENDING


def test_what_somebody_is_about_to_replay_is_left(organization):
    delivery = ended(organization, OLD)
    held, go_on = threading.Event(), threading.Event()

    def replay():
        with transaction.atomic():
            Delivery.objects.filter(pk=delivery.pk).replay(now=NOW)
            held.set()
            go_on.wait(10)
        connections.close_all()

    thread = threading.Thread(target=replay)
    thread.start()
    held.wait(10)
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '2s'")
        try:
            assert cleaning.drop_old(now=NOW) == 0
        finally:
            go_on.set()
            thread.join()
            cursor.execute("RESET lock_timeout")
    delivery.refresh_from_db()
    assert delivery.status == Status.PENDING


def test_a_deleted_endpoint_goes_with_the_last_of_its_log(organization):
    endpoint = Endpoint.objects.get()
    kept = ended(organization, YOUNG)
    Endpoint.objects.update(deleted_at=OLD, active=False)

    cleaning.drop_old(now=NOW)
    assert Endpoint.objects.get() == endpoint
    cleaning.drop_old(now=NOW + timedelta(seconds=1))
    assert not Endpoint.objects.exists()
    assert not Delivery.objects.filter(pk=kept.pk).exists()


def test_the_task_drops(organization):
    ended(organization, timezone.now() - timedelta(days=31))

    assert drop_old() == 1
