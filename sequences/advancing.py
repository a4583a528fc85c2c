"""Advancing everybody whose time has come: claimed in batches, walked in memory, written back in sets.

Locks in one order: the sequence (shared, see `locks`) → Enrollment (claims skip locked ones) → Message → counters.
Nothing is called while a transaction is open and nothing is claimed beyond it, so that a crash undoes a batch and the
next sweep does it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection, transaction

from kaanha.messaging import queueing
from kaanha.messaging.queueing import Queued
from kaanha.webhooks.models import Kind
from sequences import batches, customer_news, exiting
from sequences.batches import Known, Row
from sequences.conditions import Facts
from sequences.counting import Tally
from sequences.models import ExitReason
from sequences.walking import LOOK_AGAIN, Walk, walk

BATCH = 1_000

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Batch:
    walks: list[tuple[Row, Walk]] = field(default_factory=list)
    exits: dict[int, str] = field(default_factory=dict)


def advance(*, now: datetime, limit: int = BATCH) -> int:
    """Run the steps of up to `limit` enrollments that are due, an equal share for each sequence; how many.

    Some fifteen statements, whatever the number of people. Those who have to leave are ended in a transaction of their
    own, afterward: a message may have to be withdrawn.
    """
    with transaction.atomic(durable=True):
        courses = batches.open_courses(now)
        rows = batches.claim(list(courses), now=now, limit=limit) if courses else []
        if not rows:
            return 0
        known = batches.learn(rows, courses)
        batch = _walk_all(rows, known, now=now)
        _write(batch.walks, known, now=now)
    exiting.end(batch.exits, now=now)
    return len(rows)


# --- walking ------------------------------------------------------------------------------------------------------


def _walk_all(rows: list[Row], known: Known, *, now: datetime) -> _Batch:
    batch = _Batch()
    for row in rows:
        if reason := _must_leave(row, known):
            batch.exits[row.id] = reason
        else:
            batch.walks.append((row, _walk_one(row, known, now=now)))
    return batch


def _must_leave(row: Row, known: Known) -> str:
    """Why this contact may not go on: judged again in the moment of every step."""
    contact = known.people.get(row.contact)
    if contact is None or contact.deleted_at is not None:
        return ExitReason.DELETED
    if not contact.opted_in:
        return ExitReason.OPTED_OUT
    tagged = known.tags.get(row.contact, {}).get(known.courses[row.sequence].exit_tag or 0)
    return ExitReason.EXIT_TAG if tagged is not None and tagged >= row.enrolled_at else ""


def _walk_one(row: Row, known: Known, *, now: datetime) -> Walk:
    course = known.courses[row.sequence]
    start = Walk(known.stops[row.step], row.since, row.entered_at, row.next_run_at, row.message)
    try:
        return walk(
            start,
            known.stops,
            _facts(row, known),
            taken=known.taken.get(row.id, ()),
            policy=course.policy,
            zone=ZoneInfo(course.zone),
            now=now,
        )
    except Exception:
        # One contact must not stop everybody, whatever stands in its row.
        logger.exception("Enrollment %s can't go on", row.id)
        return Walk(known.stops[row.step], row.since, row.entered_at, now + LOOK_AGAIN, row.message)


def _facts(row: Row, known: Known) -> Facts:
    held = known.tags.get(row.contact, {})
    return Facts(
        tags=frozenset(known.names[tag] for tag in held if tag in known.names),
        values=known.people[row.contact].values() if known.values else {},
        letters=known.letters.get(row.id, {}),
    )


# --- writing ------------------------------------------------------------------------------------------------------


def _write(walks: list[tuple[Row, Walk]], known: Known, *, now: datetime) -> None:
    if walks:
        sent = _send(walks, known, now=now)
        _execute(_PLAN_RUNS, [(row.id, one.step.key, one.until) for row, one in walks if one.step and one.until])
        _execute(_END_RUNS, [values for row, one in walks for values in _ended(row, one)])
        _execute(_ADD_RUNS, [values for row, one in walks for values in _added(row, one, sent.get(row.id))])
        _execute(_MOVE, [_standing(row, one, sent.get(row.id), now) for row, one in walks])
        completed = [row.id for row, one in walks if one.step is None]
        customer_news.tell(Kind.SEQUENCE_COMPLETED, completed, now=now)
        _count(walks)


def _send(walks: list[tuple[Row, Walk]], known: Known, *, now: datetime) -> dict[int, int]:
    """Put the messages of steps that send into the ledger; {enrollment: message}."""
    wanted: dict[int, Queued] = {}
    for row, one in walks:
        for run in one.runs:
            if run.sends:
                wanted[row.id] = Queued(
                    row.organization, known.dispatches[run.stop.id], row.contact, known.templates[run.stop.id]
                )
    messages = queueing.put(list(wanted.values()), now=now) if wanted else {}
    return {key: messages[queued.dispatch_id, queued.contact_id] for key, queued in wanted.items()}


def _added(row: Row, one: Walk, message: int | None) -> list[tuple[Any, ...]]:
    return [
        (
            row.id,
            run.stop.id,
            run.stop.key,
            run.at,
            run.until,
            run.ended_at,
            str(run.outcome),
            run.reason[:300],
            message if run.sends else None,
        )
        for run in one.runs
    ]


def _ended(row: Row, one: Walk) -> list[tuple[Any, ...]]:
    run = one.ended
    return [(row.id, run.stop.key, run.ended_at, str(run.outcome), run.reason[:300])] if run else []


def _standing(row: Row, one: Walk, message: int | None, now: datetime) -> tuple[Any, ...]:
    left = one.step is None or one.exit_reason
    return (
        row.id,
        one.step.id if one.step else None,
        "exited" if one.exit_reason else "active" if one.step else "completed",
        str(one.exit_reason),
        one.since,
        one.entered_at,
        one.next_run_at,
        None if left else message or one.message,
        now if left else None,
    )


def _count(walks: list[tuple[Row, Walk]]) -> None:
    tally = Tally()
    for row, one in walks:
        for stop in one.arrivals:
            tally.step(stop.id, "arrived")
        for stop in one.passed_over:
            tally.step(stop.id, "arrived", -1)
        for run in [*one.runs, *([one.ended] if one.ended else [])]:
            if run.ended_at is not None:
                tally.step(run.stop.id, run.outcome)
        if one.exit_reason:
            tally.people(row.sequence, "exited")
        elif one.step is None:
            tally.people(row.sequence, "completed")
    tally.write()


def _execute(statement: str, rows: list[tuple[Any, ...]]) -> None:
    if rows:
        with connection.cursor() as cursor:
            cursor.execute(statement, [list(column) for column in zip(*rows, strict=True)])


_END_RUNS = """
UPDATE sequences_steprun r SET ended_at = new.ended_at, outcome = new.outcome, reason = new.reason
FROM unnest(%s::bigint[], %s::text[], %s::timestamptz[], %s::text[], %s::text[])
  AS new (enrollment_id, key, ended_at, outcome, reason)
WHERE r.enrollment_id = new.enrollment_id AND r.key = new.key
"""
# Who goes on waiting, by a plan that may have changed: it was moved, or the organization has another timezone.
_PLAN_RUNS = """
UPDATE sequences_steprun r SET until = new.until
FROM unnest(%s::bigint[], %s::text[], %s::timestamptz[]) AS new (enrollment_id, key, until)
WHERE r.enrollment_id = new.enrollment_id AND r.key = new.key AND r.until IS DISTINCT FROM new.until
"""
_ADD_RUNS = """
INSERT INTO sequences_steprun (enrollment_id, step_id, key, at, until, ended_at, outcome, reason, message)
SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[],
  %s::text[], %s::text[], %s::bigint[])
"""
_MOVE = """
UPDATE sequences_enrollment e SET step_id = new.step_id, status = new.status, exit_reason = new.exit_reason,
  since = new.since, entered_at = new.entered_at, next_run_at = new.next_run_at, message = new.message,
  ended_at = new.ended_at
FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[],
  %s::timestamptz[], %s::bigint[], %s::timestamptz[])
  AS new (id, step_id, status, exit_reason, since, entered_at, next_run_at, message, ended_at)
WHERE e.id = new.id
"""
