"""What customers' webhooks are told of messages, and what it costs where nobody listens."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from kaanha.messaging import claiming, inbox, receipts, settling
from kaanha.messaging.models import InboundMessage, Message
from kaanha.messaging.settling import Result
from kaanha.webhooks.models import Delivery, Event
from kaanha.whatsapp.cloud_api.client import Accepted, Refused, Unknown
from kaanha.whatsapp.cloud_api.errors import classify
from kaanha.whatsapp.cloud_api.events import Inbound, Receipt
from tests.factories import ContactFactory, EndpointFactory

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ACCEPTED = Accepted(wamid="wamid.1", wa_id=None, user_id=None, held=False)


@pytest.fixture
def listener(number):
    return EndpointFactory(organization=number.organization)


def claim(number):
    return claiming.claim(claiming.live(number.pk, now=NOW), limit=100, now=NOW).envelopes


def settle(envelopes, answer):
    settling.settle([Result(envelope, answer, NOW) for envelope in envelopes], now=NOW)


def refused(code):
    return Refused(classify({"code": code, "message": "No."}))


def receive(message, *statuses, code=None, at=NOW):
    row = Message.objects.get(pk=message.pk)
    data = claiming.callback_data(row.pk, row.attempt)
    said = [
        Receipt("200000000000001", row.wamid or "wamid.1", status, at, data, {"code": code} if code else None)
        for status in statuses
    ]
    receipts.apply(said, app=row.dispatch.phone_number.account.app_id, now=NOW + timedelta(minutes=1))


def told():
    """The kinds that were told since the last look."""
    kinds = list(Event.objects.order_by("pk").values_list("kind", flat=True))
    Event.objects.all().delete()
    return kinds


def test_each_stage_is_told_once_as_it_is_reached(number, queue, listener):
    (queued,) = queue(1)
    settle(claim(number), ACCEPTED)

    event = Event.objects.get()
    assert event.organization_id == number.organization_id
    assert event.data == {
        "messageId": queued.public_id,
        "contactId": queued.contact.public_id,
        "phone": queued.contact.phone,
        "templateId": queued.template.public_id,
        "template": "new_arrivals",
        "source": "broadcast",
        "wamid": "wamid.1",
        "at": "2026-11-23T12:00:00Z",
    }
    assert list(Delivery.objects.values_list("endpoint", "event")) == [(listener.pk, event.pk)]
    assert told() == ["message.sent"]
    for status, kinds in (
        ("sent", []),
        ("delivered", ["message.delivered"]),
        ("delivered", []),
        ("read", ["message.read"]),
        ("read", []),
        ("delivered", []),
    ):
        receive(queued, status)
        assert told() == kinds, status


def test_stages_that_come_together_are_all_told(number, queue, listener):
    (queued,) = queue(1)
    settle(claim(number), ACCEPTED)
    told()

    receive(queued, "read", "delivered", "sent")

    assert told() == ["message.delivered", "message.read"]


def test_receipts_before_our_own_settle_tell_each_stage_once(number, queue, listener):
    (queued,) = queue(1)
    envelopes = claim(number)

    receive(queued, "delivered")
    assert told() == ["message.sent", "message.delivered"]
    settle(envelopes, ACCEPTED)
    assert told() == []


def test_a_failure_is_told_with_metas_code(number, queue, listener):
    queue(1)
    settle(claim(number), refused(131026))

    event = Event.objects.get()
    assert event.kind == "message.failed"
    assert (event.data["errorCode"], event.data["at"]) == (131026, "2026-11-23T12:00:00Z")
    assert event.data["errorText"] == Message.objects.get().error_text


def test_a_failure_in_a_callback_is_told(number, queue, listener):
    (queued,) = queue(1)
    settle(claim(number), ACCEPTED)
    told()

    receive(queued, "failed", code=131026)
    receive(queued, "failed", code=131026)

    assert told() == ["message.failed"]


@pytest.mark.parametrize("answer", [refused(131056), Unknown("reset")], ids=["retried", "unconfirmed"])
def test_what_has_come_to_no_stage_is_not_told(number, queue, listener, answer):
    queue(1)
    settle(claim(number), answer)

    assert told() == []


def test_only_the_chosen_stages_are_told_and_no_other_organization_hears(number, queue):
    EndpointFactory(organization=number.organization, kinds=["message.read"])
    EndpointFactory()
    (queued,) = queue(1)
    settle(claim(number), ACCEPTED)
    receive(queued, "delivered", "read")

    assert list(Delivery.objects.values_list("event__kind", "organization")) == [
        ("message.read", number.organization_id)
    ]


def test_where_nobody_listens_it_costs_one_statement_however_many_there_are(number, queue):
    EndpointFactory(kinds=["contact.created"])
    queue(20)
    envelopes = claim(number)
    with CaptureQueriesContext(connection) as captured:
        settle(envelopes, ACCEPTED)

    assert sum("webhooks_" in query["sql"] for query in captured) == 1
    assert not Event.objects.exists()


def test_a_batch_costs_the_same_however_many_there_are(number, queue, listener):
    def statements(count):
        queue(count)
        envelopes = claim(number)
        with CaptureQueriesContext(connection) as captured:
            settle(envelopes, ACCEPTED)
        return len(captured)

    assert statements(1) == statements(20)
    assert told() == ["message.sent"] * 21


def said(contact, wamid="wamid.in", text="Yes, please"):
    return Inbound(
        phone_number_id="200000000000001",
        wamid=wamid,
        wa_id=contact.phone[1:],
        user_id=None,
        name="",
        kind="text",
        text=text,
        choice=None,
        quoted=None,
        payload={"text": {"body": text}},
        at=NOW,
    )


def test_what_people_write_is_told_once(number, listener):
    contact = ContactFactory(organization=number.organization)
    for _ in range(2):
        inbox.store([said(contact)], number, now=NOW)

    event = Event.objects.get(kind="message.received")
    assert event.data == {
        "messageId": InboundMessage.objects.get().public_id,
        "contactId": contact.public_id,
        "phone": contact.phone,
        "phoneNumber": number.display_number,
        "type": "text",
        "text": "Yes, please",
        "wamid": "wamid.in",
        "at": "2026-11-23T12:00:00Z",
        "message": {"text": {"body": "Yes, please"}},
    }


def test_what_people_write_is_told_to_nobody_who_did_not_choose_it(number):
    EndpointFactory(organization=number.organization, kinds=["message.sent"])
    EndpointFactory(kinds=["message.received"])
    inbox.store([said(ContactFactory(organization=number.organization))], number, now=NOW)

    assert not Event.objects.exists()
