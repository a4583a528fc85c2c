"""After a pause or downtime: the overdue go on one after the other, at the sequence's rate, never all at once."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef

from contacts.models import ContactEvent
from sequences import locks
from sequences.models import Pulse, Sequence, Status, WhenLate

DOWNTIME = timedelta(minutes=2)  # so long without a look means that nothing ran
EVERY = timedelta(seconds=10)  # how often a look is noted down
NAME = "sweep"


def notice_downtime(*, now: datetime) -> bool:
    """Note that the sweep looks; after a long silence ask every active sequence to spread its overdue people."""
    with transaction.atomic():
        pulse = Pulse.objects.select_for_update().filter(name=NAME).first()
        if pulse is None:
            Pulse.objects.bulk_create([Pulse(name=NAME, at=now)], ignore_conflicts=True)
            return False
        if now - pulse.at < EVERY:
            return False
        Pulse.objects.filter(name=NAME).update(at=now)
        silent = now - pulse.at > DOWNTIME
        if silent:
            Sequence.objects.filter(status=Status.ACTIVE).update(spread_asked_at=now)
    return silent


def spread(*, now: datetime) -> int:
    """Spread the overdue people of the sequences that were asked to; how many sequences.

    One statement for each. What happened to contacts before is decided first, so that those whom it enrolls are spread
    with the others. Until then nobody of the sequence moves.
    """
    undecided = ContactEvent.objects.filter(organization=OuterRef("organization"), handled_at=None)
    asked = Sequence.objects.filter(status=Status.ACTIVE, spread_asked_at__isnull=False)
    ready = asked.exclude(Exists(undecided.filter(at__lt=OuterRef("spread_asked_at"))))
    return sum(_spread(key, now=now) for key in ready.values_list("pk", flat=True))


def _spread(key: int, *, now: datetime) -> bool:
    with transaction.atomic():
        locks.have_alone(key)
        asked = Sequence.objects.filter(pk=key, spread_asked_at__isnull=False)
        sequence = asked.filter(status=Status.ACTIVE).first()
        if sequence is None:
            return False
        # Those too late to be sent keep their time: what is run late by more than the limit follows the policy.
        # For who waits in a condition that is its deadline: the timer is only the next look at it.
        judged = sequence.late_limit is not None and sequence.when_late != WhenLate.SEND
        since = now - sequence.late_limit if judged else None
        with connection.cursor() as cursor:
            pause = timedelta(minutes=1) / sequence.spread_per_minute
            cursor.execute(_SPREAD, {"sequence": key, "now": now, "since": since, "pause": pause})
        Sequence.objects.filter(pk=key).update(spread_asked_at=None, updated_at=F("updated_at"))
    return True


_SPREAD = """
WITH overdue AS MATERIALIZED (
  SELECT e.id, e.next_run_at FROM sequences_enrollment e JOIN sequences_step st ON st.id = e.step_id
  LEFT JOIN sequences_steprun r ON st.kind = 'condition' AND r.enrollment_id = e.id AND r.ended_at IS NULL
  WHERE e.sequence_id = %(sequence)s AND e.status = 'active' AND e.next_run_at <= %(now)s
    AND (%(since)s::timestamptz IS NULL OR coalesce(r.until, e.next_run_at) >= %(since)s)
  ORDER BY e.id FOR UPDATE OF e
), turns AS (
  SELECT id, row_number() OVER (ORDER BY next_run_at, id) - 1 AS turn FROM overdue
)
UPDATE sequences_enrollment e SET next_run_at = %(now)s + turns.turn * %(pause)s::interval
FROM turns WHERE e.id = turns.id
"""
