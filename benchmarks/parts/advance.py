"""Running the steps that are due, in the sweep's batches, against the bare writes in one statement."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.utils import timezone

from benchmarks.measuring import Cost, cost
from benchmarks.reporting import Bound, Row, bounded, ratio
from benchmarks.scale import Scale
from benchmarks.sequence import happen, started, undone
from benchmarks.store import execute
from sequences import advancing, triggers

PACE = Bound("≥", 5_000, "steps/s")
FAR = timedelta(days=9)


def measure(scale: Scale) -> Iterator[Row]:
    """Each round takes the next tenth of the people: they begin to wait, and two days later go on to their message."""
    people, now = scale.people // 10, timezone.now()
    course = started(people * scale.rounds)
    happen(course, people * scale.rounds)
    while triggers.handle(now=now):
        pass
    execute("UPDATE sequences_enrollment SET next_run_at = %s", [now + FAR])
    costs = [_round(people, now) for _ in range(scale.rounds)]
    for name, place in (("begin to wait", 0), ("wait is over: condition, message", 1)):
        took = [one[place] for one in costs]
        detail: dict[str, float | str] = {"ratio to SQL": ratio(took, [one[2] for one in costs])} if place else {}
        yield bounded(name, [people / one.wall for one in took], PACE, costs=took, units=people, detail=detail)


def _round(people: int, now: datetime) -> tuple[Cost, Cost, Cost]:
    """What it costs to begin to wait, to go on, and to go on by hand."""
    later = now + timedelta(days=2)
    execute(_DUE, [now, now + FAR, people])
    execute("VACUUM ANALYZE sequences_enrollment")
    begin = cost(lambda: _advance(people, now))
    execute("VACUUM ANALYZE sequences_enrollment, sequences_steprun")
    bare = undone(_ADVANCE, [later])
    return begin, cost(lambda: _advance(people, later)), bare


def _advance(people: int, now: datetime) -> None:
    done = 0
    while part := advancing.advance(now=now):
        done += part
    if done != people:
        raise SystemExit(f"{done:,} steps were run instead of {people:,}.")


_DUE = """
UPDATE sequences_enrollment SET next_run_at = %s
WHERE id IN (SELECT id FROM sequences_enrollment WHERE next_run_at = %s ORDER BY id LIMIT %s)
"""
# The least that a message after a wait and a condition must write: one run ended, two added, a message, the move.
_ADVANCE = """
WITH due AS (SELECT * FROM sequences_enrollment WHERE next_run_at < %s),
ended AS (UPDATE sequences_steprun r SET ended_at = now(), outcome = 'waited' FROM due WHERE r.enrollment_id = due.id),
sent AS (
  INSERT INTO messaging_message (created_at, due_at, organization_id, dispatch_id, contact_id, template_id, status,
    skip_reason, error_text, error_in_callback, attempt, tries, held_by_meta)
  SELECT now(), now(), organization_id, 0, contact_id, 1, 'queued', '', '', false, 0, 0, false FROM due
  RETURNING id, contact_id),
taken AS (
  INSERT INTO sequences_steprun (enrollment_id, step_id, key, at, outcome, reason)
  SELECT due.id, due.step_id, key, now(), '', '' FROM due, (VALUES ('bare1'), ('bare2')) AS k (key))
UPDATE sequences_enrollment e SET message = sent.id, next_run_at = NULL, entered_at = now()
FROM sent WHERE sent.contact_id = e.contact_id
"""
