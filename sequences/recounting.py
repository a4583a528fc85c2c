"""A sequence's counters, counted anew from its rows."""

from __future__ import annotations

from django.db import connection, transaction

from sequences import counting
from sequences.counting import PEOPLE, STAGES, Passage, People, Tally
from sequences.models import SequenceCount, Step, StepCount

Counts = tuple[People, dict[int, Passage]]


def recount(sequence: int, *, repair: bool = True) -> bool:
    """Set a sequence's counters to what its rows say; whether they had drifted. Without `repair` it only looks.

    Every change writes its counters last. With all of them locked, whatever has committed is both in the rows and in
    them; whatever has not is in neither and waits. Call it in no transaction that holds more.
    """
    steps = list(Step.objects.filter(revision__sequence=sequence).order_by("pk").values_list("pk", flat=True))
    with transaction.atomic():
        _lock(sequence, steps)
        # Read in statements of their own: only those see what had committed when the locks were granted.
        told = counting.people([sequence])[sequence], counting.passages(steps)
        true = counted_from_rows(sequence, steps)
        if told != true and repair:
            _correct(sequence, told, true)
    return told != true


def counted_from_rows(sequence: int, steps: list[int]) -> Counts:
    """What the counters ought to say."""
    with connection.cursor() as cursor:
        cursor.execute(_PEOPLE, [sequence])
        everybody = People(*cursor.fetchone())
        cursor.execute(_PASSAGES, {"sequence": sequence, "steps": steps})
        passages = {step: Passage(*sums) for step, *sums in cursor.fetchall()}
    return everybody, {step: passages.get(step, Passage()) for step in steps}


def _lock(sequence: int, steps: list[int]) -> None:
    """Lock every slot in the order in which they are written. One that isn't there can't be locked, so all are made."""
    StepCount.objects.bulk_create(
        [StepCount(step_id=step, slot=slot) for step in steps for slot in range(StepCount.SLOTS)],
        ignore_conflicts=True,
    )
    list(StepCount.objects.select_for_update().filter(step__in=steps).order_by("step_id", "slot"))
    SequenceCount.objects.bulk_create(
        [SequenceCount(sequence_id=sequence, slot=slot) for slot in range(SequenceCount.SLOTS)], ignore_conflicts=True
    )
    list(SequenceCount.objects.select_for_update().filter(sequence=sequence).order_by("slot"))


def _correct(sequence: int, told: Counts, true: Counts) -> None:
    tally = Tally()
    for what in PEOPLE:
        tally.people(sequence, what, getattr(true[0], what) - getattr(told[0], what))
    for step, passage in true[1].items():
        for stage in STAGES:
            tally.step(step, stage, getattr(passage, stage) - getattr(told[1][step], stage))
    tally.write()


_PEOPLE = """
SELECT count(*), count(*) FILTER (WHERE status = 'completed'), count(*) FILTER (WHERE status = 'exited')
FROM sequences_enrollment WHERE sequence_id = %s
"""
# A run for each step taken. Who has come to a step and not taken it yet has none, nor has who left before taking it.
_PASSAGES = """
SELECT step_id, count(*), {endings} FROM (
  SELECT r.step_id, r.outcome FROM sequences_steprun r WHERE r.step_id = ANY(%(steps)s)
  UNION ALL
  SELECT e.step_id, CASE e.status WHEN 'exited' THEN 'left' ELSE '' END FROM sequences_enrollment e
  WHERE e.sequence_id = %(sequence)s AND e.entered_at IS NULL AND e.step_id IS NOT NULL
) AS come (step_id, outcome) GROUP BY step_id
""".format(endings=", ".join(f"count(*) FILTER (WHERE outcome = '{ending}')" for ending in counting.ENDINGS))
