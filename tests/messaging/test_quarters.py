"""What Home reads against the ledger, also while it changes."""

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from kaanha.messaging import fates, inbox, ledger, quarters, receipts
from kaanha.messaging.claiming import callback_data
from kaanha.messaging.models import Message, QuarterCount
from kaanha.messaging.quarters import Sums
from kaanha.whatsapp.cloud_api.errors import classify
from kaanha.whatsapp.cloud_api.events import Inbound, Receipt
from tests.contacts.threads import at_once
from tests.factories import DispatchFactory, OrganizationFactory
from tests.messaging.test_counting import queued

NOW = datetime(2026, 11, 23, 12, 7, tzinfo=UTC)
INDIA = ZoneInfo("Asia/Kolkata")

pytestmark = pytest.mark.django_db


def told(organization, since=NOW - timedelta(days=30), until=NOW + timedelta(days=1), zone=INDIA):
    return quarters.between(organization.pk, since, until, zone=zone)


def receipt(message, status, at):
    error = {"code": 131026, "title": "Undeliverable"} if status == "failed" else None
    known = {"wamid": f"wamid.{message.pk}", "status": status, "at": at, "error": error}
    return Receipt("", **known, callback_data=callback_data(message.pk, 1))


def accept(messages, at=NOW):
    Message.objects.filter(pk__in=[row.pk for row in messages]).update(attempt=1)
    with ledger.changing([row.pk for row in messages], now=at) as rows:
        for key, row in rows.items():
            fates.accept(row, wamid=f"wamid.{key}", held=False, at=at)


def test_a_message_counts_in_the_hour_and_on_the_day_of_its_zone_in_which_meta_took_it(queue, number):
    early, late = queue(1), queue(2)
    accept(early, at=datetime(2026, 11, 22, 18, 29, 59, tzinfo=UTC))  # 23:59:59 in India
    accept(late, at=datetime(2026, 11, 22, 18, 30, tzinfo=UTC))  # midnight

    period = told(number.organization)
    assert period.total == Sums(3)
    assert period.days == {"2026-11-22": Sums(1), "2026-11-23": Sums(2)}
    assert period.hours == {23: Sums(1), 0: Sums(2)}
    assert told(number.organization, since=datetime(2026, 11, 22, 18, 30, tzinfo=UTC)).total == Sums(2)
    assert told(number.organization, until=datetime(2026, 11, 22, 18, 30, tzinfo=UTC)).total == Sums(1)
    assert told(OrganizationFactory()) == quarters.Period(Sums(), {}, {}, {})


def test_receipts_count_where_their_message_was_taken_however_late_they_come(queue, number):
    messages = queue(3)
    accept(messages)
    later = NOW + timedelta(days=3)
    failed = receipt(messages[2], "failed", later)
    found = [receipt(messages[0], "read", later), receipt(messages[1], "delivered", later), failed]
    receipts.apply(found * 2, app=number.account.app_id, now=later)

    period = told(number.organization)
    assert period.total == Sums(sent=3, delivered=2, read=1, failed=1)
    assert period.total.failure_rate == 1 / 3  # it was sent, and is no fourth
    assert period.days == {"2026-11-23": period.total}
    assert period.failures == {131026: 1}


def test_what_meta_refused_counts_where_it_failed_and_what_it_took_after_all_is_no_failure(queue, number):
    (message,) = queue(1)
    Message.objects.filter(pk=message.pk).update(attempt=1)
    with ledger.changing([message.pk], now=NOW) as rows:
        fates.refuse(rows[message.pk], classify({"code": 131008}), now=NOW)
    assert told(number.organization).total == Sums(failed=1, refused=1)
    assert told(number.organization).failures == {131008: 1}

    hour_later = NOW + timedelta(hours=1)
    receipts.apply([receipt(message, "read", hour_later)], app=number.account.app_id, now=hour_later)
    period = told(number.organization)
    assert (period.total, period.failures) == (Sums(1, 1, 1), {})
    assert period.hours[18] == Sums(1, 1, 1)  # 13:07 in London is 18:37 in India
    assert quarters.recount(number.organization_id) is False


def test_the_first_reply_counts_once(queue, number):
    (message,) = queue(1)
    accept([message])
    reply = {
        "wa_id": message.contact.phone[1:],
        "user_id": None,
        "name": "",
        "kind": "text",
        "text": "Yes",
        "choice": None,
        "quoted": None,
    }
    for wamid in ("in.1", "in.2", "in.1"):
        written = Inbound(number.phone_number_id, wamid, at=NOW + timedelta(minutes=5), payload={}, **reply)
        inbox.store([written], number, now=NOW + timedelta(minutes=6))
        inbox.attach_replies([written], number)

    assert told(number.organization).total == Sums(sent=1, replied=1)
    assert quarters.recount(number.organization_id) is False


def test_tests_count_nowhere(queue, number):
    accept(queue(1, dispatch=DispatchFactory(organization=number.organization, phone_number=number, kind="test")))

    assert not QuarterCount.objects.exists()
    assert quarters.recount(number.organization_id) is False


@pytest.mark.parametrize("seed", range(4))
def test_shuffled_and_repeated_receipts_leave_what_a_recount_finds(queue, number, seed):
    chance = random.Random(seed)
    messages = queue(12)
    found = [
        receipt(message, status, NOW + timedelta(minutes=chance.randrange(90)))
        for message in messages
        for status in ("sent", "delivered", "read", "failed", "sent")
        if chance.random() < 0.6
    ]
    chance.shuffle(found)
    half = len(messages) // 2
    accept(messages[:half])  # the others are known by their receipts alone, or settled after them
    for start in range(0, len(found), 7):
        receipts.apply(found[start : start + 7] * chance.choice((1, 2)), app=number.account.app_id, now=NOW)
    accept(messages[half:], at=NOW + timedelta(minutes=40))

    kept = told(number.organization)
    assert kept.total.sent == 12
    assert quarters.recount(number.organization_id) is False
    QuarterCount.objects.all().delete()
    assert quarters.recount(number.organization_id) is True
    assert told(number.organization) == kept


@pytest.mark.django_db(transaction=True)
def test_a_recount_while_messages_settle_finds_no_drift_and_makes_none():
    """Without the lock a recount took a settle that committed between its two readings for drift."""
    messages = queued(200)
    organization = messages[0].organization
    keys = [message.pk for message in messages]

    def settle(mine):
        for key in mine:
            with ledger.changing([key], now=NOW) as rows:
                fates.accept(rows[key], wamid=f"wamid.{key}", held=False, at=NOW)
        return 0

    def recount():
        return sum(quarters.recount(organization.pk) for _ in range(40))

    assert at_once(lambda: settle(keys[::2]), lambda: settle(keys[1::2]), recount) == [0, 0, 0]
    assert told(organization).total == Sums(200)
