"""Enrolling everybody whom an event concerns, in the sweep's batches, against the two bare writes in one statement."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from django.utils import timezone

from benchmarks.measuring import Cost, cost, in_turns
from benchmarks.reporting import Bound, Row, bounded, ratio
from benchmarks.scale import Scale
from benchmarks.sequence import Course, happen, started, undone
from benchmarks.store import execute
from sequences import triggers
from sequences.models import Enrollment

MINUTE = Bound("<", 60, "s for 1,000,000")


def measure(scale: Scale) -> Iterator[Row]:
    """A tenth of the people in several rounds, all of them in one."""
    course = started(scale.people)
    for people, rounds in ((scale.people // 10, scale.rounds), (scale.people, 1)):
        ours, theirs = in_turns(rounds, partial(_enroll, course, people), partial(_by_hand, course, people))
        seconds = [one.wall / people * 1_000_000 for one in ours]
        detail: dict[str, float | str] = {"ratio to SQL": ratio(ours, theirs)}
        yield bounded(f"{people:,} people", seconds, MINUTE, costs=ours, units=people, detail=detail)


def _enroll(course: Course, people: int) -> Cost:
    _ready(course, people)
    took = cost(_handle_all)
    found = Enrollment.objects.count()
    if found != people:
        raise SystemExit(f"{found:,} were enrolled instead of {people:,}.")
    return took


def _handle_all() -> None:
    while triggers.handle(now=timezone.now()):
        pass


def _by_hand(course: Course, people: int) -> Cost:
    _ready(course, people)
    return undone(_ENROLL)


def _ready(course: Course, people: int) -> None:
    execute("TRUNCATE sequences_enrollment, contacts_contactevent CASCADE")
    happen(course, people)
    execute("CHECKPOINT")


# The least that must be written: the enrollments, and the events marked.
_ENROLL = """
WITH marked AS (UPDATE contacts_contactevent SET handled_at = now() WHERE handled_at IS NULL RETURNING contact_id, at)
INSERT INTO sequences_enrollment (organization_id, sequence_id, contact_id, revision_id, step_id, status, exit_reason,
  source, enrolled_at, since, next_run_at)
SELECT s.organization_id, s.id, m.contact_id, r.id, st.id, 'active', '', 'tag_added', m.at, m.at, m.at
FROM marked m, sequences_sequence s JOIN sequences_revision r ON r.sequence_id = s.id
JOIN sequences_step st ON st.revision_id = r.id AND st.position = 0
"""
