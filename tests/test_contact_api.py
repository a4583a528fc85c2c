"""A contact's timeline in the API, and deleting tags that something uses."""

from datetime import UTC, datetime, timedelta

import pytest

from contacts import consent, tagging
from contacts.models import AutoTagRule, ConsentSource, ContactTag, Tag
from kaanha.lib import pagination
from kaanha.messaging.models import InboundMessage, Message, Status
from sequences.models import EnrollmentRefusal
from tests.callers import Caller, error
from tests.factories import (
    BroadcastFactory,
    ContactFactory,
    MessageFactory,
    OrganizationFactory,
    SequenceFactory,
    TagFactory,
)

pytestmark = pytest.mark.django_db

AT = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def contact():
    return ContactFactory(opted_in=False)


@pytest.fixture
def organization(contact):
    return contact.organization


@pytest.fixture
def caller(organization):
    return Caller(organization).ready()


def told(caller, contact, query=""):
    response = caller.get(f"/api/contacts/{contact.public_id}/timeline{query}")
    assert response.status_code == 200, response.json()
    return response.json()


def write(contact, text, at):
    number = MessageFactory(organization=contact.organization).dispatch.phone_number
    return InboundMessage.objects.create(
        organization=contact.organization,
        phone_number=number,
        contact=contact,
        wamid=f"wamid.{text}",
        kind="text",
        text=text,
        payload={},
        written_at=at,
    )


def message(contact, at, **columns):
    one = MessageFactory(contact=contact, organization=contact.organization, **columns)
    Message.objects.filter(pk=one.pk).update(created_at=at)
    return one


def test_a_contact_to_whom_nothing_happened(caller, contact):
    assert told(caller, contact) == {"data": [], "limit": 20, "nextCursor": None}


def test_everything_in_one_order_the_latest_first(caller, contact, organization):
    tag = TagFactory(organization=organization, name="VIP")
    sequence = SequenceFactory(organization=organization, name="Welcome")
    consent.opt_in([contact.pk], source=ConsentSource.API, proof="form 7", at=AT)
    tagging.add(organization, [contact.pk], [tag.pk], source=ConsentSource.API, at=AT + HOUR)
    skipped = message(contact, AT + 2 * HOUR, status=Status.SKIPPED, skip_reason="frequency_cap", due_at=None)
    write(contact, "hello", AT + 3 * HOUR)
    EnrollmentRefusal.objects.create(
        sequence=sequence, contact=contact, code="not_opted_in", source="api", at=AT + 4 * HOUR
    )
    stranger = ContactFactory(organization=organization)
    write(stranger, "not mine", AT)
    message(stranger, AT)

    data = told(caller, contact)["data"]

    assert [entry["type"] for entry in data] == ["not_enrolled", "inbound", "message", "contact", "consent"]
    refused, inbound, sent, tagged, agreed = data
    assert (refused["sequence"], refused["code"], refused["at"]) == ("Welcome", "not_opted_in", "2026-03-01T13:30:00Z")
    assert (inbound["text"], inbound["replyTo"]) == ("hello", None)
    assert (sent["messageId"], sent["status"], sent["skipReason"]) == (skipped.public_id, "skipped", "frequency_cap")
    assert (tagged["event"], tagged["tag"]) == ("tag_added", "VIP")
    assert (agreed["optedIn"], agreed["source"], agreed["proof"]) == (True, "api", "form 7")


def test_what_became_of_a_message(caller, contact):
    message(contact, AT, status=Status.FAILED, error_code=131026, error_text="Undeliverable", due_at=None, failed_at=AT)

    [entry] = told(caller, contact)["data"]

    assert entry["error"] == {"code": 131026, "text": "Undeliverable"}
    assert (entry["failedAt"], entry["sentAt"]) == ("2026-03-01T09:30:00Z", None)


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 7])
def test_cursors_lead_through_everything_once_whatever_happens_at_the_same_time(caller, contact, limit):
    for place in range(3):
        write(contact, f"text {place}", AT)
        message(contact, AT)
    consent.opt_in([contact.pk], source=ConsentSource.API, proof="form 7", at=AT)
    whole = told(caller, contact, "?limit=100")["data"]
    assert len(whole) == 7

    seen, query = [], f"?limit={limit}"
    while query:
        page = told(caller, contact, query)
        write(contact, f"later {len(seen)} {limit}", AT + HOUR)
        seen += page["data"]
        query = page["nextCursor"] and f"?limit={limit}&cursor={page['nextCursor']}"

    assert seen == whole


@pytest.mark.parametrize("key", [(1,), ("x", 1), ("x", "message", 1), (1, 2, 3), (AT.isoformat(), "message", "x"), ()])
def test_a_cursor_of_another_list_is_refused(caller, contact, key):
    response = caller.get(f"/api/contacts/{contact.public_id}/timeline?cursor={pagination.sealed(key)}")

    assert error(response) == (422, "invalid")
    assert set(response.json()["error"]["fields"]) == {"cursor"}


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "page=1", "cursor=x", "since=2026"])
def test_what_a_timeline_can_not_be_asked(caller, contact, query):
    assert error(caller.get(f"/api/contacts/{contact.public_id}/timeline?{query}")) == (422, "invalid")


@pytest.mark.parametrize("many", [1, 5])
def test_a_timeline_costs_the_same_however_long(caller, contact, many, django_assert_num_queries):
    for place in range(many):
        write(contact, f"text {place}", AT)
        message(contact, AT)

    # the key, the contact, each kind of entry
    with django_assert_num_queries(10):
        told(caller, contact)


# --- deleting tags -----------------------------------------------------------------------------------------------


@pytest.fixture
def tag(organization):
    return TagFactory(organization=organization, name="VIP")


def test_deleting_a_tag_takes_it_off_and_says_how_many_held_it(caller, contact, organization, tag):
    tagging.add(organization, [contact.pk], [tag.pk], source=ConsentSource.API, at=AT)

    response = caller.delete(f"/api/tags/{tag.public_id}")

    assert (response.status_code, response.json()["name"], response.json()["contacts"]) == (200, "VIP", 1)
    assert (Tag.objects.count(), ContactTag.objects.count()) == (0, 0)
    assert error(caller.delete(f"/api/tags/{tag.public_id}")) == (404, "tag_not_found")


def exclude(tag, broadcast):
    broadcast.excluded_tags.add(tag)


@pytest.mark.parametrize(
    "use",
    [
        lambda tag: SequenceFactory(organization=tag.organization, name="Welcome", trigger_tag=tag),
        lambda tag: SequenceFactory(organization=tag.organization, name="Welcome", exit_tag=tag, status="archived"),
        lambda tag: SequenceFactory(
            organization=tag.organization, name="Welcome", draft=[{"condition": {"tag": tag.public_id}}]
        ),
        lambda tag: BroadcastFactory(organization=tag.organization, name="Welcome", tags=[tag]),
        lambda tag: exclude(tag, BroadcastFactory(organization=tag.organization, name="Welcome")),
        lambda tag: AutoTagRule.objects.create(organization=tag.organization, match="exact", text="hi", tag=tag),
    ],
    ids=["trigger", "exit", "draft", "target", "excluded", "rule"],
)
def test_a_tag_that_is_used_stays(caller, tag, use):
    use(tag)

    response = caller.delete(f"/api/tags/{tag.public_id}")

    assert error(response) == (409, "tag_in_use")
    assert "Welcome" in response.json()["error"]["message"] or "a rule for tags" in response.json()["error"]["message"]
    assert Tag.objects.filter(pk=tag.pk).exists()


def test_what_only_once_used_it_keeps_no_tag(caller, organization, tag):
    BroadcastFactory(organization=organization, tags=[tag], status="canceled")
    SequenceFactory(organization=organization, draft=[{"condition": {"tag": tag.public_id}}], status="archived")
    BroadcastFactory(organization=OrganizationFactory())

    assert caller.delete(f"/api/tags/{tag.public_id}").status_code == 200
