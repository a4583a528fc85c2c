"""Keys and roles: who is let into the API, and to what."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.test import Client
from django.urls import include, path
from rest_framework.response import Response
from rest_framework.views import APIView

from contacts.models import Contact
from kaanha import api as shell
from kaanha.lib import public_ids
from kaanha.organizations import api
from kaanha.organizations.access import Area
from kaanha.organizations.api import OwnedAPI
from kaanha.organizations.models import APIKey, Role
from tests.callers import Caller, error
from tests.factories import ContactFactory, MembershipFactory, OrganizationFactory

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class CampaignsAPI(OwnedAPI):
    area = Area.CAMPAIGNS

    def get(self, request):
        return Response({"organization": self.organization.name, "now": self.now})

    def post(self, request):
        return Response({"sent": request.data, "person": str(request.user)})


class ContactsAPI(CampaignsAPI):
    area = Area.CONTACTS


class ContactAPI(OwnedAPI):
    area = Area.CONTACTS

    def get(self, request, contact):
        return Response({"name": self.found(Contact, contact).name})


class ForgottenAPI(APIView):
    """A view whose author forgot the base."""

    def get(self, request):
        return Response({"secret": 1})


urlpatterns = [
    path(
        "api/",
        include(
            [
                shell.at("campaigns", CampaignsAPI, "campaigns"),
                shell.at("contacts", ContactsAPI, "contacts"),
                shell.at("contacts/(?P<contact>[^/]+)", ContactAPI, "contact"),
                shell.at("forgotten", ForgottenAPI, "forgotten"),
            ]
        ),
    )
]
pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


@pytest.fixture
def organization():
    return OrganizationFactory(name="Sample Store")


def get(authorization, **client):
    return Client(**client).get("/api/campaigns", headers=authorization and {"Authorization": authorization})


# --- authentication ----------------------------------------------------------------------------------------------


@time_machine.travel(NOW, tick=False)
def test_a_key_opens_its_organization(organization):
    OrganizationFactory(name="Another")

    response = Caller(organization).get("/api/campaigns")

    assert response.status_code == 200
    assert response.json() == {"organization": "Sample Store", "now": "2026-03-01T09:30:00Z"}


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER   {} "])
def test_the_scheme_is_bearer_in_any_case(organization, form):
    assert get(form.format(Caller(organization).text)).status_code == 200


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "{key}",
        "Basic {key}",
        "Token {key}",
        "Bearer{key}",
        "Bearer {key}x",
        "Bearer {key} {key}",
        "Bearer {hint}",
        "Bearer {digest}",
        "Bearer kaanha_",
        "Bearer kaanha_é",
        "Bearer kaanha_\x00",
        "Bearer " + "kaanha_" * 1_000,
    ],
)
def test_what_is_no_key_is_refused(organization, authorization):
    caller = Caller(organization)
    known = {"key": caller.text, "hint": caller.key.hint, "digest": caller.key.digest}

    response = get(authorization and authorization.format(**known))

    assert error(response) == (401, "unauthorized")
    assert response.headers["WWW-Authenticate"] == "Bearer"


@time_machine.travel(NOW, tick=False)
@pytest.mark.parametrize("change", [{"revoked_at": NOW}, {"expires_at": NOW}, {"expires_at": NOW - MINUTE}])
def test_a_revoked_or_expired_key_is_refused_like_an_unknown_one(organization, change):
    caller = Caller(organization)
    APIKey.objects.filter(pk=caller.key.pk).update(**change)

    response = caller.get("/api/campaigns")

    assert error(response) == (401, "unauthorized")
    assert response.content == get("Bearer kaanha_unknown").content
    caller.key.refresh_from_db()
    assert caller.key.last_used_at is None


@time_machine.travel(NOW, tick=False)
def test_a_key_that_expires_later_is_good(organization):
    caller = Caller(organization)
    APIKey.objects.filter(pk=caller.key.pk).update(expires_at=NOW + MINUTE)

    assert caller.get("/api/campaigns").status_code == 200


def test_a_session_is_no_key(organization):
    browser = Client()
    browser.force_login(MembershipFactory(organization=organization, user__is_superuser=True).user)

    assert error(browser.get("/api/campaigns")) == (401, "unauthorized")
    assert error(browser.post("/api/campaigns", {}, content_type="application/json")) == (401, "unauthorized")


def test_no_csrf_token_is_asked_and_no_person_stands_behind_a_key(organization):
    caller = Caller(organization, enforce_csrf_checks=True)

    response = caller.post("/api/campaigns", {"a": 1})

    assert response.json() == {"sent": {"a": 1}, "person": "AnonymousUser"}
    assert response.cookies == {}


def test_who_is_not_let_in_is_not_read(organization):
    response = Client().post("/api/campaigns", b"{" * 2_000_000, content_type="text/plain")

    assert error(response) == (401, "unauthorized")


def test_a_view_without_the_base_lets_nobody_in(organization):
    assert Caller(organization, Role.OWNER).get("/api/forgotten").status_code == 403


# --- last used ---------------------------------------------------------------------------------------------------


def last_used(caller):
    caller.key.refresh_from_db()
    return caller.key.last_used_at


def test_the_last_use_is_noted_once_a_minute(organization, django_assert_num_queries):
    caller = Caller(organization)

    with time_machine.travel(NOW, tick=False), django_assert_num_queries(2):
        caller.get("/api/campaigns")
    assert last_used(caller) == NOW

    with time_machine.travel(NOW + MINUTE - timedelta(seconds=1), tick=False), django_assert_num_queries(1):
        caller.get("/api/campaigns")
    assert last_used(caller) == NOW

    with time_machine.travel(NOW + MINUTE, tick=False), django_assert_num_queries(2):
        caller.get("/api/campaigns")
    assert last_used(caller) == NOW + MINUTE


def test_using_a_key_notes_nothing_about_others(organization):
    caller, other = Caller(organization), Caller(organization)

    caller.get("/api/campaigns")

    assert last_used(other) is None


def test_of_requests_at_the_same_moment_one_notes_the_use(organization):
    caller = Caller(organization)
    first, second = APIKey.usable(caller.text), APIKey.usable(caller.text)
    APIKey.objects.filter(pk=caller.key.pk).update(revoked_at=NOW)

    api._note_use(first, now=NOW)
    api._note_use(second, now=NOW + timedelta(seconds=1))

    assert last_used(caller) == NOW
    assert caller.key.revoked_at == NOW  # which came in between


# --- roles -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "reads", "changes", "reads_contacts", "changes_contacts"),
    [
        (Role.OWNER, 200, 200, 200, 200),
        (Role.ADMIN, 200, 200, 200, 200),
        (Role.AGENT, 403, 403, 200, 200),
        (Role.VIEWER, 200, 403, 200, 403),
    ],
)
def test_a_role_opens_what_the_table_says(organization, role, reads, changes, reads_contacts, changes_contacts):
    caller = Caller(organization, role)

    assert caller.get("/api/campaigns").status_code == reads
    assert caller.post("/api/campaigns", {}).status_code == changes
    assert caller.get("/api/contacts").status_code == reads_contacts
    assert caller.post("/api/contacts", {}).status_code == changes_contacts


def test_a_role_that_may_not_hears_which_may(organization):
    response = Caller(organization, Role.VIEWER).post("/api/campaigns", {})

    assert error(response) == (403, "forbidden")
    assert response.json()["error"]["message"] == (
        "A key of role viewer may not change campaigns. Use one of role owner or admin."
    )


# --- rows --------------------------------------------------------------------------------------------------------


def test_a_row_is_found_by_its_public_id(organization):
    contact = ContactFactory(organization=organization, name="Asha")

    assert Caller(organization).get(f"/api/contacts/{contact.public_id}/").json() == {"name": "Asha"}


def test_another_organizations_row_is_as_missing_as_one_that_never_was(organization):
    foreign = ContactFactory()
    caller = Caller(organization)

    answers = [
        caller.get(f"/api/contacts/{public_id}")
        for public_id in (
            foreign.public_id,
            public_ids.encode("ct", 10**12),
            organization.public_id,
            str(foreign.pk),
            "ct_" + "a" * 26,
            "ct_%00",
            "%F0%9F%99%82",
        )
    ]

    assert {error(answer) for answer in answers} == {(404, "contact_not_found")}
    assert len({answer.content for answer in answers}) == 1


def test_an_id_of_strange_letters_spoils_none_that_come_after(organization):
    contact = ContactFactory(organization=organization, name="Asha")
    caller = Caller(organization)

    caller.get("/api/contacts/ct_" + "a" * 22 + "%EF%AC%83" * 4)  # ligatures: three letters each in upper case

    assert caller.get(f"/api/contacts/{contact.public_id}").json() == {"name": "Asha"}
