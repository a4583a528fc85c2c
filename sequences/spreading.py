"""After a pause or downtime: the overdue go on one after the other, at the sequence's rate, never all at once."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Exists, OuterRef

from contacts.models import ContactEvent
from sequences import locks
from sequences.models import Pulse, Sequence, Status, WhenLate

DOWNTIME = timedelta(minutes=2)  # so long without a look means that nothing ran
EVERY = timedelta(seconds=10)  # how often a look is noted down
NAME = "sweep"
BATCH = 20_000


def notice_downtime(*, now: datetime) -> bool:
    """Note that the sweep looks; after a long silence ask every active sequence to spread its overdue people."""
    with transaction.atomic():
        pulse = Pulse.objects.select_for_update().filter(name=NAME).first()
        if pulse is None:
            Pulse.objects.bulk_create([Pulse(name=NAME, at=now)], ignore_conflicts=True)
            return False
        if pulse.at <= now < pulse.at + EVERY:
            return False
        # A note of the future is of a clock that was set back since.
        Pulse.objects.filter(name=NAME).update(at=now)
        silent = now - pulse.at > DOWNTIME
        if silent:
            Sequence.objects.filter(status=Status.ACTIVE).update(spread_asked_at=now, spread_turn=0)
    return silent


def spread(*, now: datetime, limit: int = BATCH) -> int:
    """Give up to `limit` overdue people of each sequence that was asked to spread their turns; how many sequences.

    One statement for each. What happened to contacts before is decided first, so that those whom it enrolls are spread
    with the others. Nobody of the sequence moves before everybody has a turn.
    """
    undecided = ContactEvent.objects.filter(organization=OuterRef("organization"), handled_at=None)
    asked = Sequence.objects.filter(status=Status.ACTIVE, spread_asked_at__isnull=False)
    ready = asked.exclude(Exists(undecided.filter(at__lt=OuterRef("spread_asked_at"))))
    return sum(_spread(key, now=now, limit=limit) for key in list(ready.values_list("pk", flat=True)))


def _spread(key: int, *, now: datetime, limit: int) -> bool:
    with transaction.atomic(), connection.cursor() as cursor:
        locks.have_alone(key)
        asked = Sequence.objects.filter(pk=key, spread_asked_at__isnull=False, status=Status.ACTIVE)
        sequence = asked.first()
        if sequence is None or sequence.spread_asked_at is None:
            return False
        # Those too late to be sent keep their time: what is run late by more than the limit follows the policy.
        # For who waits in a condition that is its deadline: the timer is only the next look at it.
        judged = sequence.late_limit is not None and sequence.when_late != WhenLate.SEND
        values = {
            "sequence": key,
            "asked": sequence.spread_asked_at,
            "since": sequence.spread_asked_at - sequence.late_limit if judged and sequence.late_limit else None,
            "first": sequence.spread_turn,
            "pause": timedelta(minutes=1) / sequence.spread_per_minute,
            "limit": limit,
        }
        cursor.execute(_SPREAD, values)
        done = cursor.rowcount < limit
        turn = sequence.spread_turn + cursor.rowcount
        asked.update(spread_turn=turn, spread_asked_at=None if done else sequence.spread_asked_at)
    return True


# Who has a turn is due from the asking on.
_SPREAD = """
WITH overdue AS MATERIALIZED (
  SELECT e.id, e.next_run_at FROM sequences_enrollment e JOIN sequences_step st ON st.id = e.step_id
  LEFT JOIN sequences_steprun r ON st.kind = 'condition' AND r.enrollment_id = e.id AND r.ended_at IS NULL
  WHERE e.sequence_id = %(sequence)s AND e.status = 'active' AND e.next_run_at < %(asked)s
    AND (%(since)s::timestamptz IS NULL OR coalesce(r.until, e.next_run_at) >= %(since)s)
  ORDER BY e.next_run_at, e.id LIMIT %(limit)s
), turns AS (
  SELECT id, %(first)s + row_number() OVER (ORDER BY next_run_at, id) - 1 AS turn FROM overdue
)
UPDATE sequences_enrollment e SET next_run_at = %(asked)s + turns.turn * %(pause)s::interval
FROM turns WHERE e.id = turns.id AND e.status = 'active'
"""
