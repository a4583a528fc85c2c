"""The examples of docs/api.md, sent as they stand there."""

import json
import re
from pathlib import Path

import pytest

from kaanha.messaging.models import Status
from kaanha.whatsapp.models import PhoneNumber
from tests.callers import Caller
from tests.factories import ContactFactory, MessageFactory, OrganizationFactory, PhoneNumberFactory

pytestmark = pytest.mark.django_db

DOCS = (Path(__file__).parents[1] / "docs" / "api.md").read_text(encoding="utf-8")


def examples(title):
    """The JSON examples of one section, in their order."""
    [section] = re.findall(rf"^##+ {title}\n(.*?)(?=^##+ |\Z)", DOCS, re.DOTALL | re.MULTILINE)
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", section, re.DOTALL)]


@pytest.fixture
def organization():
    return OrganizationFactory(name="Sample Store")


@pytest.fixture
def caller(organization):
    return Caller(organization)


def created(caller):
    response = caller.post("/api/contacts", examples("Contacts")[1])
    assert response.status_code == 201
    return response.json()


def test_the_status_looks_as_documented(caller, organization):
    PhoneNumberFactory(organization=organization, display_number="+1 555 555 0001")

    assert caller.get("/api/status").json() == examples("Status")[0]
    PhoneNumber.objects.all().delete()
    assert caller.get("/api/status").json().keys() == examples("Status")[0].keys()


def test_the_documented_contact_is_the_answer_to_the_documented_creation(caller):
    shown = examples("Contacts")[0]
    changing = ("id", "optedInAt", "createdAt", "updatedAt")

    told = created(caller)

    assert list(told) == list(shown)
    assert {**told, **{name: shown[name] for name in changing}} == shown


def test_the_documented_change(caller):
    contact = created(caller)

    told = caller.patch(f"/api/contacts/{contact['id']}", examples("Contacts")[2]).json()

    assert (told["name"], told["attributes"]) == ("Asha", {"size": "M"})


def test_the_documented_tags_and_the_documented_consent(caller):
    contact = created(caller)
    tag = caller.get("/api/tags").json()["data"][0]
    [shown, listed] = examples("Tags")
    body = json.loads(json.dumps(examples("Contacts")[3]).replace(json.dumps("tag_…"), json.dumps(tag["id"])))

    assert caller.post(f"/api/contacts/{contact['id']}/tags", body).json()["tags"] == ["VIP"]
    assert caller.post(f"/api/contacts/{contact['id']}/consent", examples("Consent")[0]).json()["optedIn"] is True
    assert (list(tag), tag["name"]) == (list(listed), shown["name"])


def test_the_documented_timeline(caller, organization):
    contact = ContactFactory(organization=organization)
    one = MessageFactory(
        organization=organization,
        contact=contact,
        status=Status.SKIPPED,
        skip_reason="frequency_cap",
        due_at=None,
        template__name="spring_sale",
    )
    told = caller.get(f"/api/contacts/{contact.public_id}/timeline").json()

    [shown] = examples("Timeline")
    [entry] = told["data"]
    [documented] = shown["data"]
    assert told.keys() == shown.keys()
    assert list(entry) == list(documented)
    assert entry == {**documented, "at": entry["at"], "messageId": one.public_id}


def test_a_list_looks_as_documented(caller):
    [block] = re.findall(r"^## Lists\n.*?```json\n(.*?)```", DOCS, re.DOTALL | re.MULTILINE)

    assert list(caller.get("/api/contacts").json()) == re.findall(r'"(\w+)":', block)
