"""What the sequences are told of their messages, and what they are not."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from kaanha.messaging import claiming, fates, holding, inbox, ledger, receipts, settling, sweeping
from kaanha.messaging.models import Message, StepNews
from kaanha.messaging.settling import NotStarted, Result
from kaanha.whatsapp.cloud_api.client import Accepted, NotMeta, Refused, Unknown
from kaanha.whatsapp.cloud_api.errors import classify
from kaanha.whatsapp.cloud_api.events import Inbound, Receipt
from tests.factories import ContactFactory, DispatchFactory

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ACCEPTED = Accepted(wamid="wamid.1", wa_id=None, user_id=None, held=False)

pytestmark = pytest.mark.django_db


@pytest.fixture
def step(number):
    """step() makes the dispatch of a sequence's step; or step("broadcast"), of something else."""

    def make(kind="step"):
        return DispatchFactory(
            organization=number.organization,
            phone_number=number,
            kind=kind,
            variables={"body.first_name": {"field": "first_name"}},
        )

    return make


def news():
    """The messages that were told of since the last look."""
    told = list(StepNews.objects.order_by("pk").values_list("message_id", flat=True))
    StepNews.objects.all().delete()
    return told


def claim(number):
    return claiming.claim(claiming.live(number.pk, now=NOW), limit=100, now=NOW).envelopes


def settle(envelopes, answer):
    settling.settle([Result(envelope, answer, NOW) for envelope in envelopes], now=NOW)


def error(code):
    return Refused(classify({"code": code, "message": "No."}))


def receipt(message, status, *, code=None):
    row = Message.objects.get(pk=message.pk)
    return Receipt(
        phone_number_id="200000000000001",
        wamid=row.wamid or "wamid.1",
        status=status,
        at=NOW,
        callback_data=claiming.callback_data(row.pk, row.attempt),
        error={"code": code} if code else None,
    )


def said(contact, *, quoted=None, wamid="wamid.in", at=NOW):
    return Inbound(
        phone_number_id="200000000000001",
        wamid=wamid,
        wa_id=contact.phone[1:],
        user_id=None,
        name="",
        kind="text",
        text="Yes, please",
        choice=None,
        quoted=quoted,
        payload={"context": {"id": quoted}} if quoted else {},
        at=at,
    )


@pytest.fixture
def sent(number, queue, step):
    """A step's message that Meta has taken."""
    (message,) = queue(1, dispatch=step())
    settle(claim(number), ACCEPTED)
    news()
    return message


@pytest.mark.parametrize(
    ("answer", "status"),
    [(ACCEPTED, "sent"), (error(131026), "failed"), (Unknown("No answer."), "unconfirmed")],
)
def test_they_are_told_what_meta_answered_for_good(number, queue, step, answer, status):
    messages = queue(3, dispatch=step())
    envelopes = claim(number)
    assert news() == []

    settle(envelopes, answer)

    assert news() == [message.pk for message in messages]
    assert set(Message.objects.values_list("status", flat=True)) == {status}


@pytest.mark.parametrize(
    "answer", [error(131016), error(131056), error(130429), NotStarted(), NotMeta(502, "A proxy.")]
)
def test_they_are_not_told_of_what_is_tried_again(number, queue, step, answer):
    queue(1, dispatch=step())

    settle(claim(number), answer)

    assert Message.objects.get().status == "queued"
    assert news() == []


def test_they_are_told_when_the_last_try_has_failed(number, queue, step):
    (message,) = queue(1, dispatch=step(), tries=fates.MAX_TRIES - 1, first_tried_at=NOW)

    settle(claim(number), error(131016))

    assert Message.objects.get().status == "failed"
    assert news() == [message.pk]


def test_they_are_told_of_who_is_skipped_in_a_claim_and_of_nobody_else(number, queue, step):
    gone = ContactFactory(organization=number.organization, opted_in=False)
    dispatch = step()
    (skipped,) = queue(contacts=[gone], dispatch=dispatch)
    queue(1, dispatch=dispatch)

    claim(number)

    assert news() == [skipped.pk]


def test_they_are_not_told_of_who_waits_for_the_cap(number, queue, step):
    contact = ContactFactory(organization=number.organization)
    queue(contacts=[contact])
    claim(number)
    dispatch = step()
    dispatch.when_capped = "wait"
    dispatch.save()
    queue(contacts=[contact], dispatch=dispatch)

    assert claim(number) == []

    assert set(Message.objects.values_list("status", flat=True)) == {"sending", "queued"}
    assert news() == []


def test_they_are_told_of_a_lease_that_ended(number, queue, step):
    (message,) = queue(1, dispatch=step())
    claim(number)

    sweeping.expire_leases(now=NOW + timedelta(minutes=2))

    assert Message.objects.get().status == "unconfirmed"
    assert news() == [message.pk]


def test_they_are_told_of_what_was_canceled(queue, step):
    dispatch = step()
    messages = queue(2, dispatch=dispatch)
    holding.cancel(dispatch.pk, now=NOW)

    sweeping.skip_canceled(now=NOW)

    assert news() == [message.pk for message in messages]


@pytest.mark.parametrize(("status", "code"), [("delivered", None), ("read", None), ("failed", 131026)])
def test_they_are_told_once_of_every_receipt_that_moves_a_message(number, sent, status, code):
    receipts.apply([receipt(sent, status, code=code)], app=number.account.app_id, now=NOW)
    assert news() == [sent.pk]

    receipts.apply([receipt(sent, status, code=code)], app=number.account.app_id, now=NOW)
    receipts.apply([receipt(sent, "sent")], app=number.account.app_id, now=NOW)
    assert news() == []


def test_they_are_not_told_of_a_receipt_that_only_fills_in_a_time(number, sent):
    receipts.apply([receipt(sent, "read")], app=number.account.app_id, now=NOW)
    news()

    receipts.apply([receipt(sent, "delivered")], app=number.account.app_id, now=NOW)

    assert (Message.objects.get().status, Message.objects.get().delivered_at) == ("read", NOW)
    assert news() == []


def test_several_receipts_of_a_message_in_a_batch_are_told_as_one(number, sent):
    batch = [receipt(sent, "read"), receipt(sent, "delivered")]

    receipts.apply(batch, app=number.account.app_id, now=NOW)

    assert Message.objects.get().status == "read"
    assert news() == [sent.pk]


def test_they_are_told_of_a_receipt_that_revives_a_skipped_message(number, queue, step):
    (message,) = queue(1, dispatch=step(), status="skipped", skip_reason="canceled", due_at=None, attempt=1)

    receipts.apply([receipt(message, "delivered")], app=number.account.app_id, now=NOW)

    assert news() == [message.pk]


def test_they_are_told_once_of_an_answer(number, sent):
    answers = [said(sent.contact, quoted="wamid.1"), said(sent.contact, wamid="wamid.in2", at=NOW + timedelta(hours=1))]
    inbox.store(answers, number, now=NOW + timedelta(hours=1))

    inbox.attach_replies(answers, number)
    assert news() == [sent.pk]
    assert Message.objects.get().replied_at == NOW

    inbox.attach_replies(answers, number)
    assert news() == []


def test_nothing_is_told_of_other_messages(number, queue, step):
    for kind in ("broadcast", "api"):
        queue(contacts=[ContactFactory(organization=number.organization, opted_in=False)], dispatch=step(kind))
        queue(1, dispatch=step(kind))
        canceled = step(kind)
        queue(1, dispatch=canceled)
        holding.cancel(canceled.pk, now=NOW)
    envelopes = claim(number)
    settle(envelopes, ACCEPTED)
    sweeping.skip_canceled(now=NOW)
    message = Message.objects.filter(status="sent").first()
    receipts.apply([receipt(message, "read")], app=number.account.app_id, now=NOW)
    answer = said(message.contact)
    inbox.store([answer], number, now=NOW)
    inbox.attach_replies([answer], number)

    assert Message.objects.filter(status="skipped").count() == 4
    assert Message.objects.filter(status="read", replied_at=NOW).count() == 1
    assert news() == []


def test_of_mixed_messages_only_the_steps_are_told(number, queue, step):
    queue(2)
    (message,) = queue(1, dispatch=step())

    settle(claim(number), ACCEPTED)

    assert news() == [message.pk]


def test_what_is_told_is_undone_with_the_change(number, queue, step, sent):
    (queued,) = queue(1, dispatch=step())
    answer = said(sent.contact)
    inbox.store([answer], number, now=NOW)

    with transaction.atomic():
        with ledger.changing([queued.pk], now=NOW) as rows:
            fates.skip(rows[queued.pk], "canceled", now=NOW)
        inbox.attach_replies([answer], number)
        assert StepNews.objects.count() == 2
        transaction.set_rollback(True)

    assert news() == []


def test_telling_costs_one_statement_however_many_there_are(number, queue, step):
    dispatch = step()

    def statements(count):
        queue(count, dispatch=dispatch)
        envelopes = claim(number)
        with CaptureQueriesContext(connection) as captured:
            settle(envelopes, ACCEPTED)
        return [query["sql"] for query in captured]

    one, many = statements(1), statements(20)

    assert len(one) == len(many)
    assert sum("messaging_stepnews" in sql for sql in many) == 1
