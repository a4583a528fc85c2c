"""The law of a message's life, row by row."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaanha.messaging import counting, fates
from kaanha.messaging.fates import Row
from kaanha.messaging.models import RECEIVED, TRANSITIONS, Status
from kaanha.whatsapp.cloud_api.errors import ErrorClass, Verdict

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LEASED = {"lease_until": NOW + timedelta(seconds=60), "lease_token": 7}


def row(status=Status.SENDING, **fields):
    empty = dict.fromkeys(Row.__slots__)
    basis = {
        "id": 1,
        "dispatch_id": 1,
        "contact_id": 1,
        "category": "MARKETING",
        "kind": "broadcast",
        "status": status,
        "skip_reason": "",
        "error_text": "",
        "error_in_callback": False,
        "attempt": 1,
        "tries": 0,
        "held_by_meta": False,
    }
    return Row(**empty | basis | (LEASED if status == Status.SENDING else {}) | fields)


def verdict(error_class, code=1):
    return Verdict(error_class=error_class, code=code, text="said Meta", words="")


PERMANENT = verdict(ErrorClass.RECIPIENT, 131026)
TRANSIENT = verdict(ErrorClass.TRANSIENT, 131016)
THROTTLED = verdict(ErrorClass.THROUGHPUT, 130429)


def receive(message, status, *, seconds=0, wamid="wamid.1", attempt=1, verdict=None):
    fates.receive(message, status, at=NOW + timedelta(seconds=seconds), wamid=wamid, attempt=attempt, verdict=verdict)


def test_acceptance_writes_the_facts_and_ends_the_lease():
    message = row()

    fates.accept(message, wamid="wamid.1", held=False, at=NOW)

    assert (message.status, message.wamid, message.accepted_at, message.sent_at) == (Status.SENT, "wamid.1", NOW, NOW)
    assert (message.lease_until, message.lease_token) == (None, None)


def test_a_receipt_before_the_answer_stands_and_the_answer_only_adds_facts():
    message = row()
    receive(message, "delivered", seconds=2)

    fates.accept(message, wamid="wamid.1", held=False, at=NOW)

    assert (message.status, message.delivered_at) == (Status.DELIVERED, NOW + timedelta(seconds=2))
    assert message.accepted_at == NOW + timedelta(seconds=2)


def test_an_acceptance_does_not_undo_a_failure_that_a_callback_reported():
    message = row()
    receive(message, "failed", verdict=PERMANENT)

    fates.accept(message, wamid="wamid.1", held=False, at=NOW)

    assert (message.status, message.error_code, message.wamid) == (Status.FAILED, 131026, "wamid.1")


def test_a_late_delivered_corrects_a_failure():
    message = row(Status.SENT, wamid="wamid.1", accepted_at=NOW)
    receive(message, "failed", verdict=PERMANENT)
    receive(message, "delivered", seconds=5)

    assert (message.status, message.error_code, message.error_text, message.failed_at) == ("delivered", None, "", None)


def test_a_late_sent_does_not_correct_a_failure_that_a_callback_reported():
    message = row(Status.SENT, wamid="wamid.1", accepted_at=NOW)
    receive(message, "failed", verdict=PERMANENT)
    receive(message, "sent", seconds=-5)

    assert (message.status, message.error_code) == (Status.FAILED, 131026)


def test_a_sent_corrects_a_failure_that_we_concluded_ourselves():
    message = row()
    fates.refuse(message, PERMANENT, now=NOW)
    receive(message, "sent")

    assert (message.status, message.error_code) == (Status.SENT, None)


def test_a_failure_after_delivery_moves_nothing():
    message = row(Status.DELIVERED, wamid="wamid.1", accepted_at=NOW)
    receive(message, "failed", verdict=PERMANENT)

    assert (message.status, message.error_code) == (Status.DELIVERED, None)


def test_a_failure_of_an_older_attempt_moves_nothing():
    message = row(attempt=2)
    receive(message, "failed", attempt=1, verdict=PERMANENT)

    assert (message.status, message.lease_token) == (Status.SENDING, 7)


def test_a_receipt_for_a_message_that_waits_for_a_retry_cancels_the_retry():
    message = row()
    fates.refuse(message, TRANSIENT, now=NOW)
    receive(message, "sent")

    assert (message.status, message.due_at) == (Status.SENT, None)


def test_a_transient_refusal_comes_back_later_each_time_and_fails_at_the_fifth():
    message, pauses = row(), []
    for _ in range(5):
        message.status, message.lease_token = Status.SENDING, 7
        fates.refuse(message, TRANSIENT, now=NOW)
        pauses.append(message.due_at - NOW if message.due_at else None)

    seconds = [pause.total_seconds() for pause in pauses[:4]]
    assert all(low / 2 <= value <= low for value, low in zip(seconds, (2, 16, 128, 1024), strict=True))
    assert (message.status, pauses[4], message.tries) == (Status.FAILED, None, 5)


def test_a_refusal_an_hour_after_the_first_is_final():
    message = row(tries=1, first_tried_at=NOW - timedelta(hours=1))

    fates.refuse(message, TRANSIENT, now=NOW)

    assert message.status == Status.FAILED


@pytest.mark.parametrize("error_class", [ErrorClass.THROUGHPUT, ErrorClass.TEMPLATE, ErrorClass.ACCOUNT])
def test_refusals_that_say_nothing_about_the_row_are_no_tries(error_class):
    message = row(tries=4, first_tried_at=NOW - timedelta(hours=2))

    fates.refuse(message, verdict(error_class), now=NOW)

    assert (message.status, message.tries) == (Status.QUEUED, 4)


def test_a_late_refusal_of_a_message_given_up_as_unconfirmed_ends_it_without_a_retry():
    message = row()
    fates.lose_sight(message, "the lease ended", now=NOW)

    fates.refuse(message, TRANSIENT, now=NOW)

    assert (message.status, message.due_at) == (Status.FAILED, None)


EVENTS = st.one_of(
    st.tuples(st.just("claim")),
    st.tuples(st.just("accept")),
    st.tuples(st.just("refuse"), st.sampled_from([PERMANENT, TRANSIENT, THROTTLED])),
    st.tuples(st.just("lose_sight")),
    st.tuples(st.just("skip")),
    st.tuples(
        st.just("receive"), st.sampled_from(["sent", "delivered", "read", "failed"]), st.sampled_from([None, 1, 2, 3])
    ),
)


def happen(message, event, second):
    now = NOW + timedelta(seconds=second)
    match event:
        case ("claim",) if message.status == Status.QUEUED:
            message.status, message.due_at = Status.SENDING, None
            message.lease_until, message.lease_token = now + timedelta(seconds=60), second
            message.attempt += 1
        case ("accept",) if message.attempt:
            fates.accept(message, wamid=f"wamid.{message.attempt}", held=False, at=now)
        case ("refuse", refusal) if message.status in (Status.SENDING, Status.UNCONFIRMED):
            fates.refuse(message, refusal, now=now)
        case ("lose_sight",):
            fates.lose_sight(message, "lost", now=now)
        case ("skip",) if message.status == Status.QUEUED:
            fates.skip(message, "canceled", now=now)
        case ("receive", status, attempt):
            wamid = f"wamid.{attempt or message.attempt}"
            refusal = PERMANENT if status == "failed" else None
            fates.receive(message, status, at=now, wamid=wamid, attempt=attempt, verdict=refusal)


@given(st.lists(EVENTS, max_size=25))
def test_whatever_happens_in_whatever_order_the_law_holds(events):
    message = row(Status.QUEUED, attempt=0, due_at=NOW)
    for second, event in enumerate(events):
        before = replace(message)
        happen(message, event, second)

        assert message.status == before.status or message.status in TRANSITIONS[before.status]
        assert fates.RANK.get(message.status, 0) >= fates.RANK.get(before.status, 0) or message.status == Status.FAILED
        assert (message.due_at is not None) == (message.status == Status.QUEUED)
        assert (message.lease_until is not None) == (message.status == Status.SENDING)
        assert message.accepted_at is not None or before.accepted_at is None
        if before.status in (Status.DELIVERED, Status.READ):
            assert message.status in (Status.DELIVERED, Status.READ)
        if message.status in RECEIVED:
            assert message.accepted_at is not None
            assert message.error_code is None
        assert sum(
            counting.weight(message.status, accepted=bool(message.accepted_at))[place] for place in (1, 4, 5, 6)
        ) == (message.status not in (Status.QUEUED, Status.SENDING))
