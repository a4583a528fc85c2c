"""How many are where in a sequence: the difference that a batch makes, gathered and written once."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from django.db import connection
from django.db.models import Sum

from kaanha.organizations.models import Organization
from sequences.models import Enrollment, EnrollmentStatus, Outcome, Sequence, SequenceCount, StepCount

PEOPLE = ("enrolled", "completed", "exited")
# What became of those who came to a step. Each counts in `arrived` and, once they went on, in one of the others.
ENDINGS = tuple(outcome.value for outcome in Outcome if outcome != Outcome.WAITING)
STAGES = ("arrived", *ENDINGS)


@dataclass(frozen=True, slots=True)
class People:
    """A sequence's people. `inside` are still on their way."""

    enrolled: int = 0
    completed: int = 0
    exited: int = 0

    @property
    def inside(self) -> int:
        return self.enrolled - self.completed - self.exited


@dataclass(frozen=True, slots=True)
class Passage:
    """A step's people: `arrived = waiting + sent + failed + skipped + unconfirmed + waited + yes + no + left`."""

    arrived: int = 0
    sent: int = 0
    failed: int = 0
    skipped: int = 0
    unconfirmed: int = 0
    waited: int = 0
    yes: int = 0
    no: int = 0
    left: int = 0

    @property
    def waiting(self) -> int:
        return self.arrived - sum(getattr(self, ending) for ending in ENDINGS)

    @property
    def passed(self) -> int:
        """Those who went on, whatever became of the step."""
        return self.arrived - self.waiting - self.left

    def __add__(self, other: Passage) -> Passage:
        return Passage(*(getattr(self, stage) + getattr(other, stage) for stage in STAGES))


class Tally:
    """What a transaction does to the counters. Written last, each table in the order of its keys."""

    def __init__(self) -> None:
        self._people: dict[int, Counter[str]] = defaultdict(Counter)
        self._steps: dict[int, Counter[str]] = defaultdict(Counter)

    def people(self, sequence: int, what: str, count: int = 1) -> None:
        """`count` more were enrolled, completed or exited."""
        self._people[sequence][what] += count

    def step(self, step: int, stage: str, count: int = 1) -> None:
        """`count` more arrived at a step, or ended it in the way `stage`."""
        self._steps[step][stage] += count

    def write(self) -> None:
        """Add it to one slot of each row. The last statements of a transaction."""
        _add(_ADD_STEPS, self._steps, STAGES, StepCount.SLOTS)
        _add(_ADD_PEOPLE, self._people, PEOPLE, SequenceCount.SLOTS)


def people(sequences: Iterable[int]) -> dict[int, People]:
    """The numbers of several sequences in one query; those without people are all zero."""
    keys = list(sequences)
    with connection.cursor() as cursor:
        cursor.execute(_PEOPLE, [keys])
        found = {key: People(*map(int, sums)) for key, *sums in cursor.fetchall()}
    return {key: found.get(key, People()) for key in keys}


def known_total(organization: Organization, *, sequence: Sequence | None, status: str | None) -> int:
    """How many people of the organization, or of one sequence, are in a status, or ever were in any.

    One query, whatever their number; of those inside a second one, which counts who is paused.
    """
    where = {"sequence__organization": organization} if sequence is None else {"sequence": sequence}
    sums = SequenceCount.objects.filter(**where).aggregate(**{what: Sum(what, default=0) for what in PEOPLE})
    told = People(**{what: int(count) for what, count in sums.items()})
    match status:
        case None:
            return told.enrolled
        case EnrollmentStatus.COMPLETED:
            return told.completed
        case EnrollmentStatus.EXITED:
            return told.exited
    # Few are paused, and an index knows them; the others who are inside may be a million.
    paused = Enrollment.objects.filter(**where, status=EnrollmentStatus.PAUSED).count()
    return paused if status == EnrollmentStatus.PAUSED else told.inside - paused


def passages(steps: Iterable[int]) -> dict[int, Passage]:
    """The numbers of several steps in one query; those nobody came to are all zero."""
    keys = list(steps)
    with connection.cursor() as cursor:
        cursor.execute(_PASSAGES, [keys])
        found = {key: Passage(*map(int, sums)) for key, *sums in cursor.fetchall()}
    return {key: found.get(key, Passage()) for key in keys}


def _add(statement: str, sums: dict[int, Counter[str]], columns: tuple[str, ...], slots: int) -> None:
    rows = [
        (key, random.randrange(slots), *(counts[column] for column in columns))  # noqa: S311
        for key, counts in sorted(sums.items())
        if any(counts.values())
    ]
    if rows:
        with connection.cursor() as cursor:
            cursor.execute(statement, [list(column) for column in zip(*rows, strict=True)])


def _upsert(table: str, owner: str, columns: tuple[str, ...]) -> str:
    # The names are ours, and "left" is a word of SQL.
    quoted = [f'"{column}"' for column in columns]
    listed = ", ".join(quoted)
    arrays = ", ".join(["%s::bigint[]"] * len(columns))
    sums = ", ".join(f"{column} = c.{column} + excluded.{column}" for column in quoted)
    return f"""
INSERT INTO {table} AS c ({owner}, slot, {listed})
SELECT * FROM unnest(%s::bigint[], %s::smallint[], {arrays}) AS d ({owner}, slot, {listed}) ORDER BY {owner}
ON CONFLICT ({owner}, slot) DO UPDATE SET {sums}
"""


def _sum(table: str, owner: str, columns: tuple[str, ...]) -> str:
    sums = ", ".join(f'sum("{column}")' for column in columns)
    return f"SELECT {owner}, {sums} FROM {table} WHERE {owner} = ANY(%s::bigint[]) GROUP BY {owner}"


_ADD_PEOPLE = _upsert("sequences_sequencecount", "sequence_id", PEOPLE)
_ADD_STEPS = _upsert("sequences_stepcount", "step_id", STAGES)
_PEOPLE = _sum("sequences_sequencecount", "sequence_id", PEOPLE)
_PASSAGES = _sum("sequences_stepcount", "step_id", STAGES)
