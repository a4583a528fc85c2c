"""The examples of docs/api.md about templates, broadcasts and messages, sent as they stand there."""

from datetime import UTC, datetime

import pytest

from broadcasts.models import Broadcast
from contacts.models import Contact
from kaanha.messaging import counting
from tests.callers import Caller
from tests.factories import (
    BusinessAccountFactory,
    ContactFactory,
    DispatchFactory,
    MessageFactory,
    OrganizationFactory,
    PhoneNumberFactory,
    TagFactory,
    TemplateFactory,
)
from tests.test_api_docs import examples

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
TIMES = ("queuedAt", "startedAt", "completedAt")


@pytest.fixture
def organization():
    return OrganizationFactory(name="Sample Store")


@pytest.fixture
def caller(organization):
    return Caller(organization)


def assert_documented(told, shown):
    """The answer is what is documented, but for ids and times."""
    assert told.keys() == shown.keys()
    for name, value in shown.items():
        if isinstance(value, dict):
            assert_documented(told[name], value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            assert len(told[name]) == len(value)
            for inner, documented in zip(told[name], value, strict=True):
                assert_documented(inner, documented)
        elif "…" not in str(value) and not str(value).startswith("2026-03-01T"):
            assert told[name] == value, name


@pytest.fixture
def number(organization):
    return PhoneNumberFactory(organization=organization, display_number="+1 555 555 0001")


@pytest.fixture
def order_update(organization, number):
    return TemplateFactory(
        organization=organization,
        account=number.account,
        name="order_update",
        category="UTILITY",
        quality="GREEN",
        synced_at=NOW,
        components=[{"type": "BODY", "text": "Hi {{1}}, your order {{2}} is on its way."}],
    )


@pytest.fixture
def broadcast(organization, number, caller):
    """What the documented creation answers."""
    TemplateFactory(
        organization=organization,
        account=number.account,
        name="new_arrivals",
        parameter_format="NAMED",
        components=[{"type": "BODY", "text": "Hi {{first_name}}, new things are in."}],
    )
    vip = TagFactory(organization=organization, name="VIP")
    contact = ContactFactory(organization=organization, phone="+919876543210")
    contact.tags.set([vip], through_defaults={"added_at": NOW})
    response = caller.post("/api/broadcasts", examples("Broadcasts")[0])
    assert response.status_code == 201
    return response.json()


def test_the_documented_template(caller, order_update):
    assert_documented(caller.get(f"/api/templates/{order_update.public_id}").json(), examples("Templates")[0])


def test_the_documented_sync(caller, cloud_api, organization):
    BusinessAccountFactory(
        organization=organization, waba_id=cloud_api.options.waba_id, access_token=cloud_api.options.access_token
    )
    _, asked, shown = examples("Templates")

    told = caller.post("/api/templates/sync", asked)

    assert (told.status_code, told.json()) == (200, shown)


def test_the_documented_broadcast_its_change_and_its_preview(caller, broadcast):
    assert_documented(broadcast, examples("Broadcasts")[1])
    address = f"/api/broadcasts/{broadcast['id']}"
    assert_documented(caller.get(f"{address}/preview").json(), examples("Preview and test")[0])

    told = caller.patch(address, examples("Broadcasts")[2]).json()
    assert (told["name"], [tag["name"] for tag in told["excludedTags"]]) == ("Spring sale, second round", ["VIP"])


def test_the_documented_variables_are_taken(caller, broadcast):
    [variables] = examples("Variables")

    told = caller.patch(f"/api/broadcasts/{broadcast['id']}", {"variables": variables}).json()

    assert told["variables"] == {**variables, "body.2": {"text": "30 November"}}


def test_the_documented_test_and_the_documented_time(caller, broadcast):
    address = f"/api/broadcasts/{broadcast['id']}"

    assert caller.post(f"{address}/test", examples("Preview and test")[1]).status_code == 202
    assert caller.post(f"{address}/schedule", examples("Sending")[0]).json()["status"] == "scheduled"


def test_the_documented_numbers_and_recipients(caller, organization, broadcast):
    Broadcast.objects.update(dispatch=DispatchFactory(organization=organization))
    row = {"organization": organization, "dispatch": Broadcast.objects.get().dispatch, "due_at": None}
    asha = Contact.objects.get()
    MessageFactory(**row, contact=asha, status="skipped", skip_reason="opted_out", closed_at=NOW)
    MessageFactory(**row, status="delivered", accepted_at=NOW)
    MessageFactory(**row, status="read", accepted_at=NOW, replied_at=NOW)
    MessageFactory(**row, status="failed", error_code=131026)
    counting.recount(row["dispatch"].pk)
    address = f"/api/broadcasts/{broadcast['id']}"

    [numbers], told = examples("Numbers"), caller.get(f"{address}/stats").json()
    assert_documented({**told, "status": "completed"}, {**numbers, **{name: told[name] for name in TIMES}})
    [shown] = examples("Recipients")
    assert_documented(caller.get(f"{address}/recipients?reason=opted_out").json(), shown)


def test_the_documented_message(caller, order_update, organization):
    ContactFactory(organization=organization, phone="+919876543210")
    asked, shown = examples("Messages")

    response = caller.post("/api/messages", asked)

    assert response.status_code == 202
    assert_documented(response.json(), shown)
