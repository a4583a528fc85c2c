"""What a release makes of the messages that waited for it."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from kaanha.messaging import claiming, holding, ledger, queueing
from kaanha.messaging.models import PUT_OFF, Message
from tests.contacts.threads import at_once

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HELD_AT = NOW - timedelta(hours=5)
SECOND = timedelta(seconds=1)

pytestmark = pytest.mark.django_db


@pytest.fixture
def held(queue):
    """held(due_at, …) puts messages of one held dispatch into the ledger, each due at its moment."""

    def put(*moments, **fields):
        (first,) = queue(1, due_at=moments[0], **fields)
        rest = [queue(1, dispatch=first.dispatch, due_at=moment, **fields)[0] for moment in moments[1:]]
        holding.hold(first.dispatch_id, reason="template", detail="", now=HELD_AT)
        return [first, *rest]

    return put


def due(messages):
    found = dict(Message.objects.values_list("pk", "due_at"))
    return [found[message.pk] for message in messages]


def test_overdue_messages_fall_due_one_after_the_other_in_the_order_in_which_they_were(held):
    messages = held(NOW - SECOND, NOW - 3 * SECOND, NOW, NOW - 3 * SECOND)

    assert holding.release(messages[0].dispatch_id, now=NOW, per_minute=30) is True

    assert due(messages) == [NOW + 4 * SECOND, NOW, NOW + 6 * SECOND, NOW + 2 * SECOND]


def test_a_claim_takes_no_more_of_them_than_the_rate(held, number):
    messages = held(*[NOW - SECOND] * 12)
    holding.release(messages[0].dispatch_id, now=NOW, per_minute=6)

    later = NOW + timedelta(seconds=25)
    taken = claiming.claim(claiming.live(number.pk, now=later), limit=100, now=later).envelopes

    assert [envelope.id for envelope in taken] == [message.pk for message in messages[:3]]


def test_what_is_due_later_or_put_off_stays_so(held):
    later, put_off, overdue = messages = held(NOW + SECOND, NOW - 2 * SECOND, NOW - SECOND)
    queueing.put_off([put_off.pk], until=None, now=NOW - SECOND)

    holding.release(overdue.dispatch_id, now=NOW, per_minute=1)

    assert due(messages) == [NOW + SECOND, PUT_OFF, NOW]
    assert later.dispatch_id == overdue.dispatch_id


def test_without_a_rate_nobodys_moment_changes(held):
    messages = held(NOW - SECOND, NOW - 2 * SECOND)

    holding.release(messages[0].dispatch_id, now=NOW)

    assert due(messages) == [NOW - SECOND, NOW - 2 * SECOND]


def test_messages_of_other_dispatches_are_left_alone(held):
    (message,), (other,) = held(NOW - SECOND), held(NOW - SECOND)

    holding.release(message.dispatch_id, now=NOW, per_minute=1)

    assert due([message, other]) == [NOW, NOW - SECOND]


@pytest.mark.parametrize(("per_minute", "second"), [(None, 0), (1, 60)])
def test_the_hour_of_their_tries_stood_still_and_does_until_their_turn(held, per_minute, second):
    first_tried = HELD_AT - timedelta(minutes=10)
    messages = held(NOW - 2 * SECOND, NOW - SECOND, tries=2, first_tried_at=first_tried)

    holding.release(messages[0].dispatch_id, now=NOW, per_minute=per_minute)

    tried = Message.objects.order_by("pk").values_list("first_tried_at", flat=True)
    assert list(tried) == [NOW - timedelta(minutes=10), NOW - timedelta(minutes=10) + second * SECOND]


def test_a_retried_message_that_is_put_off_counts_the_wait_once(held):
    (message,) = held(NOW - SECOND, tries=1, first_tried_at=HELD_AT)
    queueing.put_off([message.pk], until=None, now=HELD_AT)

    holding.release(message.dispatch_id, now=NOW, per_minute=1)
    queueing.put_off([message.pk], until=NOW, now=NOW)

    row = Message.objects.get()
    assert (row.due_at, row.first_tried_at) == (NOW, NOW)


def test_what_is_not_held_is_not_released_and_nothing_is_spread(held):
    (message,) = held(NOW - SECOND)
    holding.release(message.dispatch_id, now=NOW)

    assert holding.release(message.dispatch_id, now=NOW, per_minute=1) is False
    assert due([message]) == [NOW - SECOND]


def test_a_hold_for_another_reason_changes_nothing(held):
    (message,) = held(NOW)

    assert holding.hold(message.dispatch_id, reason="account", detail="Other words.", now=NOW) is False

    message.dispatch.refresh_from_db()
    assert (message.dispatch.hold_reason, message.dispatch.held_at) == ("template", HELD_AT)


@pytest.mark.django_db(transaction=True)
def test_a_message_that_is_withdrawn_meanwhile_is_not_made_due_again(held, monkeypatch):
    message, other = held(NOW - SECOND, NOW - SECOND)
    written, released, write = threading.Event(), threading.Event(), ledger._write

    def write_and_wait(*rows):
        write(*rows)
        written.set()
        released.wait(1)  # in vain: the release waits for the locks of this transaction

    def release():
        written.wait(10)
        holding.release(message.dispatch_id, now=NOW, per_minute=1)
        released.set()

    monkeypatch.setattr(ledger, "_write", write_and_wait)

    at_once(lambda: queueing.withdraw([message.pk], now=NOW), release)

    assert due([message, other]) == [None, NOW]


def test_it_costs_the_same_however_many(held):
    def queries(count):
        messages = held(*[NOW - SECOND] * count)
        with CaptureQueriesContext(connection) as captured:
            holding.release(messages[0].dispatch_id, now=NOW, per_minute=60)
        return len(captured)

    # savepoint; lock the dispatch, let its messages go, release it; release
    assert queries(1) == queries(20) == 5
