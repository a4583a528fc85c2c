"""Templates in the API."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from kaanha.organizations.models import Role
from kaanha.whatsapp.cloud_api.graph import Graph
from templates_app import api, syncing
from templates_app.models import MessageTemplate
from tests.callers import Caller, error
from tests.factories import BusinessAccountFactory, OrganizationFactory, TemplateFactory

pytestmark = pytest.mark.django_db

AT = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
GREETING = [
    {"type": "HEADER", "format": "IMAGE"},
    {"type": "BODY", "text": "Hi {{1}}, {{2}} is here.", "example": {"body_text": [["Asha", "spring"]]}},
]


@pytest.fixture
def organization():
    return OrganizationFactory()


@pytest.fixture
def caller(organization):
    return Caller(organization).ready()


@pytest.fixture
def account(organization, cloud_api):
    return BusinessAccountFactory(
        organization=organization, waba_id=cloud_api.options.waba_id, access_token=cloud_api.options.access_token
    )


def names(response):
    assert response.status_code == 200, response.json()
    return [(row["name"], row["language"]) for row in response.json()["data"]]


# --- list and get ------------------------------------------------------------------------------------------------


def test_the_list_is_by_name_without_the_deleted_and_the_foreign(organization, caller):
    for name, language, status in (("b", "hi", "APPROVED"), ("b", "en_US", "PAUSED"), ("a", "hi", "APPROVED")):
        TemplateFactory(organization=organization, name=name, language=language, status=status)
    TemplateFactory(organization=organization, name="gone", status="DELETED")
    TemplateFactory(name="foreign")

    answer = caller.get("/api/templates?limit=2")

    assert names(answer) == [("a", "hi"), ("b", "hi")]
    assert answer.json()["total"] == 3
    assert names(caller.get(f"/api/templates?limit=2&cursor={answer.json()['nextCursor']}")) == [("b", "en_US")]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("status=PAUSED", [("order_update", "en_US")]),
        ("status=DELETED", [("gone", "hi")]),
        ("category=UTILITY", [("order_update", "en_US")]),
        ("category=AUTHENTICATION", []),
        ("language=en_US", [("order_update", "en_US")]),
        ("language=en-US", [("order_update", "en_US")]),
        ("search=ALE", [("sale", "hi")]),
        ("search=%25", []),
        ("search=", [("order_update", "en_US"), ("sale", "hi")]),
        ("search=a&category=MARKETING", [("sale", "hi")]),
    ],
)
def test_filters(organization, caller, query, found):
    TemplateFactory(organization=organization, name="sale", language="hi")
    TemplateFactory(organization=organization, name="order_update", category="UTILITY", status="PAUSED")
    TemplateFactory(organization=organization, name="gone", language="hi", status="DELETED")

    assert names(caller.get(f"/api/templates?{query}")) == found


@pytest.mark.parametrize("query", ["status=paused", "category=x", "language=", "search=%00", "q=x", "status="])
def test_what_the_list_can_not_be_asked(caller, query):
    answer = caller.get(f"/api/templates?{query}")

    assert error(answer) == (422, "invalid")
    assert set(answer.json()["error"]["fields"]) == {query.partition("=")[0]}


def test_a_template_with_the_variables_that_a_message_has_to_fill(organization, caller):
    template = TemplateFactory(
        organization=organization, name="greeting", components=GREETING, quality="GREEN", synced_at=AT
    )

    told = caller.get(f"/api/templates/{template.public_id}").json()

    assert told.pop("createdAt")
    assert told == {
        "id": template.public_id,
        "name": "greeting",
        "language": "en_US",
        "category": "MARKETING",
        "status": "APPROVED",
        "sendable": True,
        "unsupported": None,
        "parameterFormat": "POSITIONAL",
        "components": GREETING,
        "variables": [
            {"key": "header", "kind": "image", "label": "The image of the header", "example": "", "required": True},
            {"key": "body.1", "kind": "text", "label": "{{1}} in the body", "example": "Asha", "required": True},
            {"key": "body.2", "kind": "text", "label": "{{2}} in the body", "example": "spring", "required": True},
        ],
        "quality": "GREEN",
        "rejectedReason": None,
        "syncedAt": "2026-03-01T09:30:00Z",
    }


def test_a_template_that_can_not_be_sent_says_why(organization, caller):
    strange = TemplateFactory(organization=organization, status="REJECTED", rejected_reason="ABUSE", components=[])

    told = caller.get(f"/api/templates/{strange.public_id}").json()

    assert (told["sendable"], told["rejectedReason"]) == (False, "ABUSE")
    assert told["unsupported"] == "The template has no body."


@pytest.mark.parametrize("public_id", ["tpl_x", "x", "ct_aaaaaaaaaaaaaaaaaaaaaaaaaa"])
def test_what_is_no_template_is_missing(caller, public_id):
    assert error(caller.get(f"/api/templates/{public_id}")) == (404, "template_not_found")


def test_a_foreign_template_is_missing(caller):
    assert error(caller.get(f"/api/templates/{TemplateFactory().public_id}")) == (404, "template_not_found")


def test_both_cost_the_same_however_many(organization, caller, django_assert_num_queries):
    for _ in range(3):
        template = TemplateFactory(organization=organization)

    # the key, the number, the templates
    with django_assert_num_queries(3):
        caller.get("/api/templates?search=t&status=APPROVED&language=en_US")
    # the key, the template
    with django_assert_num_queries(2):
        caller.get(f"/api/templates/{template.public_id}")


# --- sync --------------------------------------------------------------------------------------------------------


def sync(caller, **body):
    return caller.post("/api/templates/sync", body)


def test_a_sync_imports_everything_and_a_second_one_changes_nothing(account, caller):
    first, second = sync(caller).json(), sync(caller).json()

    count = MessageTemplate.objects.of(account.organization).count()
    assert (first["created"], first["unchanged"], first["deleted"]) == (count, 0, 0)
    assert (second["created"], second["updated"], second["unchanged"]) == (0, 0, count)
    assert first["problems"] == second["problems"]


def test_a_sync_of_one_name_in_all_its_languages(account, caller):
    told = sync(caller, name="autumn_sale").json()

    assert told["created"] == MessageTemplate.objects.filter(name="autumn_sale").count() > 0
    assert not MessageTemplate.objects.exclude(name="autumn_sale").exists()
    assert error(sync(caller, name="nothing_like_it")) == (404, "template_not_found")


def test_a_sync_without_an_account(caller):
    BusinessAccountFactory()

    assert error(sync(caller)) == (409, "not_connected")


def test_a_sync_with_a_token_that_meta_refuses(account, caller):
    account.access_token = "another"
    account.save()

    assert error(sync(caller)) == (502, "token_invalid")
    assert not MessageTemplate.objects.exists()


def test_a_sync_while_meta_is_away(account, caller, settings):
    settings.WHATSAPP_API_URL = "http://127.0.0.1:9/v25.0"

    assert error(sync(caller)) == (503, "meta_unreachable")


def test_a_sync_that_takes_too_long_is_given_up_and_changes_nothing(account, caller, monkeypatch):
    monkeypatch.setattr(api, "SYNC_AT_MOST", timedelta())

    assert error(sync(caller)) == (503, "meta_unreachable")
    assert not MessageTemplate.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_sync_waits_for_meta_in_no_transaction(account, caller, monkeypatch):
    """Also with a key for repeating it, which makes one transaction of every other POST."""
    within = []
    listed = Graph.templates

    def templates(self, waba_id, *, name=None, told=None):
        within.append(connection.in_atomic_block)
        return listed(self, waba_id, name=name)

    monkeypatch.setattr(Graph, "templates", templates)

    caller.post("/api/templates/sync", {}, headers={"Idempotency-Key": "one"})

    assert within == [False]


def test_syncing_takes_one_who_may_change_campaigns(account, organization):
    for role, status in ((Role.VIEWER, 403), (Role.AGENT, 403), (Role.OWNER, 200)):
        assert sync(Caller(organization, role)).status_code == status
    assert Caller(organization, Role.VIEWER).get("/api/templates").status_code == 200
    assert Caller(organization, Role.AGENT).get("/api/templates").status_code == 403


def test_the_outcomes_of_accounts_are_told_together():
    one = syncing.Outcome(created=1, updated=2, problems=["a"])
    other = syncing.Outcome(created=3, unchanged=4, deleted=5, problems=["b"])

    assert syncing.together([one, other]) == syncing.Outcome(4, 2, 4, 5, ["a", "b"])
