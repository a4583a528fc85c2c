"""What may happen to a ledger row, as pure functions on a copy of it. The whole law of a message's life is here.

Each function takes the row as it is (locked by the caller), changes it or leaves it, and says nothing to the network or
the database. Settles, receipts and sweeps all go through these, so they can't disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from kaanha.lib.backoff import exponential
from kaanha.messaging.models import RECEIVED, TRANSITIONS, Status
from kaanha.whatsapp.cloud_api.errors import ErrorClass, Verdict

MAX_TRIES = 5  # refusals that count, within …
TRIES_WINDOW = timedelta(hours=1)  # … this long from the first of them
THROTTLED_PAUSE = timedelta(seconds=2)  # the number's pace does the rest
HELD_PAUSE = timedelta(seconds=5)  # until the hold of its dispatch is seen
PAIR_BASE = timedelta(seconds=6)  # one message per 6 s to a person, then 4^x; Cloud API, "Pair rate limits"
# 2 s, 16 s, 2 min, 17 min: an outage of Meta of a quarter of an hour costs nobody his message.
RETRY_BASE, RETRY_FACTOR, RETRY_CEILING = timedelta(seconds=2), 8.0, timedelta(minutes=20)

# How far along each status is; receipts never take a row back.
RANK = {Status.SENT: 1, Status.DELIVERED: 2, Status.READ: 3}
# Refusals that say nothing about this row: they don't count against its tries.
NOT_A_TRY = frozenset({ErrorClass.THROUGHPUT, ErrorClass.TEMPLATE, ErrorClass.ACCOUNT})
RETRIED = NOT_A_TRY | {ErrorClass.TRANSIENT, ErrorClass.PAIR_RATE}


@dataclass(slots=True)
class Row:
    """The columns of a message that change in its life, and the few that the changes depend on."""

    id: int
    dispatch_id: int
    contact_id: int
    category: str
    kind: str
    status: str
    skip_reason: str
    error_code: int | None
    error_text: str
    error_in_callback: bool
    due_at: datetime | None
    lease_until: datetime | None
    lease_token: int | None
    attempt: int
    tries: int
    first_tried_at: datetime | None
    wamid: str | None
    held_by_meta: bool
    accepted_at: datetime | None
    sent_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    failed_at: datetime | None
    closed_at: datetime | None
    replied_at: datetime | None
    organization_id: int


def may(row: Row, target: Status) -> bool:
    return target in TRANSITIONS[row.status]


def is_ours(row: Row, *, token: int, attempt: int) -> bool:
    """Whether the process that claimed under `token` still holds the row."""
    return row.status == Status.SENDING and row.lease_token == token and row.attempt == attempt


def accept(row: Row, *, wamid: str, held: bool, at: datetime) -> None:
    """Meta took it. The facts are written whatever the stage; the stage moves only forward."""
    row.wamid = wamid
    row.accepted_at = row.accepted_at or at
    reported = row.status == Status.FAILED and row.error_in_callback
    if may(row, Status.SENT) and not reported:
        _arrive(row, Status.SENT, at)
        row.held_by_meta = held
    _release(row)


def refuse(row: Row, verdict: Verdict, *, now: datetime) -> None:
    """Meta said no in its answer: the same row later, where the refusal is worth it, otherwise failed."""
    if verdict.error_class not in RETRIED or row.status != Status.SENDING:
        _fail(row, verdict, at=now, in_callback=False)
        return
    pause = retry_pause(verdict.error_class, row.tries + 1)
    if verdict.error_class in NOT_A_TRY:
        # The hour stands still while the number is slowed.
        row.first_tried_at = row.first_tried_at and row.first_tried_at + pause
    else:
        row.tries += 1
        row.first_tried_at = row.first_tried_at or now
        if row.tries >= MAX_TRIES or now - row.first_tried_at >= TRIES_WINDOW:
            _fail(row, verdict, at=now, in_callback=False)
            return
    row.error_code, row.error_text = verdict.code, verdict.text
    requeue(row, due_at=now + pause)


def retry_pause(error_class: ErrorClass, tries: int) -> timedelta:
    """How long a refused row waits."""
    if error_class == ErrorClass.THROUGHPUT:
        return THROTTLED_PAUSE
    if error_class in NOT_A_TRY:
        return HELD_PAUSE
    if error_class == ErrorClass.PAIR_RATE:
        return exponential(tries, base=PAIR_BASE, factor=4, ceiling=RETRY_CEILING)
    return exponential(tries, base=RETRY_BASE, factor=RETRY_FACTOR, ceiling=RETRY_CEILING)


def requeue(row: Row, *, due_at: datetime) -> None:
    """Back to the queue: Meta provably doesn't have it."""
    if may(row, Status.QUEUED):
        row.status = Status.QUEUED
        _release(row)
        row.due_at = due_at


def lose_sight(row: Row, reason: str, *, now: datetime) -> None:
    """Meta may or may not have it: never sent again by itself, a receipt settles it whenever it comes."""
    if may(row, Status.UNCONFIRMED):
        row.status = Status.UNCONFIRMED
        row.error_text = reason[:500]
        row.closed_at = now
        _release(row)


def skip(row: Row, reason: str, *, now: datetime) -> None:
    """Not sent, for a reason of ours."""
    if may(row, Status.SKIPPED):
        row.status, row.skip_reason, row.closed_at = Status.SKIPPED, reason, now
        _release(row)


def give_up(row: Row, reason: str, *, now: datetime) -> None:
    """Not sent, and never by itself again: what kept it from being sent isn't about this message alone."""
    if may(row, Status.FAILED):
        row.status, row.error_text, row.error_in_callback = Status.FAILED, reason[:500], False
        row.failed_at, row.closed_at = now, None
        _release(row)


def receive(row: Row, status: str, *, at: datetime, wamid: str, attempt: int | None, verdict: Verdict | None) -> None:
    """A callback told what became of it. Receipts may come twice, late, and in any order.

    `attempt` is the one that the receipt names, None if it names none. A `failed` of an older attempt moves nothing.
    """
    if row.wamid is None or attempt == row.attempt:
        row.wamid = wamid
    row.accepted_at = row.accepted_at or at
    if status in RECEIVED:
        _receive_stage(row, Status(status), at=at, wamid=wamid)
    elif verdict is not None:
        older = (attempt is not None and attempt < row.attempt) or (attempt is None and wamid != row.wamid)
        if not older:
            _fail(row, verdict, at=at, in_callback=True)


def _receive_stage(row: Row, stage: Status, *, at: datetime, wamid: str) -> None:
    setattr(row, f"{stage}_at", _earliest(getattr(row, f"{stage}_at"), at))
    # Meta said that it failed: a `sent` of the same message that comes later is only older news.
    stale = stage == Status.SENT and row.status == Status.FAILED and row.error_in_callback and wamid == row.wamid
    if may(row, stage) and not stale:
        _arrive(row, stage, at)
        row.held_by_meta = False
    _release_if_settled(row)


def _arrive(row: Row, stage: Status, at: datetime) -> None:
    row.status = stage
    row.skip_reason = ""
    row.error_code, row.error_text, row.error_in_callback = None, "", False
    row.failed_at = row.closed_at = None
    if stage == Status.SENT:
        row.sent_at = _earliest(row.sent_at, at)
    _release(row)


def _fail(row: Row, verdict: Verdict, *, at: datetime, in_callback: bool) -> None:
    if not may(row, Status.FAILED):
        return
    row.status = Status.FAILED
    row.error_code, row.error_text, row.error_in_callback = verdict.code, verdict.text, in_callback
    row.failed_at, row.closed_at = at, None
    _release(row)


def _release_if_settled(row: Row) -> None:
    if row.status not in (Status.QUEUED, Status.SENDING):
        _release(row)


def _release(row: Row) -> None:
    row.due_at = row.lease_until = row.lease_token = None


def _earliest(known: datetime | None, new: datetime) -> datetime:
    return new if known is None else min(known, new)
