"""The examples of docs/api.md, sent as they stand there."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import time_machine
from django.utils import timezone

from kaanha.messaging import fates, ledger
from kaanha.messaging.models import Message, Status
from kaanha.whatsapp.models import PhoneNumber
from sequences import advancing, waking
from tests.callers import Caller
from tests.factories import (
    ContactFactory,
    MessageFactory,
    OrganizationFactory,
    PhoneNumberFactory,
    TagFactory,
    TemplateFactory,
)

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


@pytest.fixture
def store(organization):
    """What the examples of sequences name, and when they happen."""
    number = PhoneNumberFactory(organization=organization, display_number="+1 555 555 0001")
    for name in ("basket", "purchased"):
        TagFactory(organization=organization, name=name)
    body = [{"type": "BODY", "text": "Your basket waits, {{1}}.", "example": {"body_text": [["Asha"]]}}]
    TemplateFactory(organization=organization, account=number.account, name="cart_saved", components=body)
    TemplateFactory(organization=organization, account=number.account, name="thank_you")
    with time_machine.travel(datetime(2026, 3, 1, 9, 30, tzinfo=UTC), tick=False):
        yield number


def without_ids(told):
    return json.loads(re.sub(r'"([a-z]+)_[a-z2-7]{26}"', r'"\1_…"', json.dumps(told)))


def activated(caller, store):
    """The documented sequence, complete and running; its id."""
    TemplateFactory(organization=store.organization, account=store.account, name="last_chance")
    told = caller.post("/api/sequences", examples("Sequences")[0]).json()
    answer = caller.post(f"/api/sequences/{told['id']}/activate", {"enrollHolders": True})
    assert (answer.status_code, answer.json()["status"]) == (200, "active")
    return told["id"]


def run(*acts, now):
    for act in (*acts, waking.wake, advancing.advance):
        while act(now=now):
            pass


def test_the_documented_sequence_is_the_answer_to_the_documented_draft(caller, store):
    [body, shown] = examples("Sequences")

    told = without_ids(caller.post("/api/sequences", body).json())

    assert [step["id"] for step in told["steps"]] == [step["id"] for step in body["steps"]]
    assert {**told, "steps": []} == shown
    assert list(told) == list(shown)


def test_the_documented_numbers_and_the_documented_enrollment(caller, store):
    sequence, now = activated(caller, store), timezone.now()
    people = [ContactFactory(organization=store.organization, phone=f"+91987654321{number}") for number in range(2)]
    silent = ContactFactory(organization=store.organization, opted_in=False)
    ids = [one.public_id for one in (*people[:1], silent)]
    told = caller.post("/api/sequences/enroll", {"sequenceId": sequence, "contacts": ids}).json()
    run(now=now)
    message = Message.objects.get()
    with ledger.changing([message.pk], now=now) as changing:
        fates.skip(changing[message.pk], "frequency_cap", now=now)
    run(now=now)

    stats = without_ids(caller.get(f"/api/sequences/{sequence}/stats").json())
    [shown] = examples("Numbers of a sequence")
    assert {**stats, "steps": stats["steps"][:1]} == shown

    second = {"sequenceId": sequence, "contactId": people[1].public_id}
    told = caller.post("/api/sequences/enroll", second).json()
    run(now=now)
    message = Message.objects.waiting().get()
    with ledger.changing([message.pk], now=now) as changing:
        fates.receive(changing[message.pk], "sent", at=now, wamid="wamid.x", attempt=None, verdict=None)
    run(now=now)

    enrollment = caller.get(f"/api/enrollments/{told['enrollmentId']}").json()
    [shown] = examples("Enrollments")
    assert without_ids({**enrollment, "phone": shown["phone"]}) == shown
    assert list(enrollment) == list(shown)


def test_a_list_looks_as_documented(caller):
    [block] = re.findall(r"^## Lists\n.*?```json\n(.*?)```", DOCS, re.DOTALL | re.MULTILINE)

    assert list(caller.get("/api/contacts").json()) == re.findall(r'"(\w+)":', block)
