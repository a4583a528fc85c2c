"""The funnel's numbers: how a row counts, the difference a change makes, and the sum anew."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from django.db import connection, transaction

from kaanha.messaging.models import OPEN, RECEIVED, WAITING, DispatchCount, Status

COLUMNS = ("total", "dispatched", "sent", "delivered", "read", "failed", "skipped", "unconfirmed")

Vector = tuple[int, ...]
Place = TypeVar("Place", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Funnel:
    """A dispatch's messages. `sent`, `delivered` and `read` are "at least"; `dispatched` is all that Meta ever took."""

    total: int = 0
    dispatched: int = 0
    sent: int = 0
    delivered: int = 0
    read: int = 0
    failed: int = 0
    skipped: int = 0
    unconfirmed: int = 0

    @property
    def waiting(self) -> int:
        return self.total - self.sent - self.failed - self.skipped - self.unconfirmed

    @property
    def by_standing(self) -> dict[str, int]:
        """How many stand where, each message once: waiting, or with the status that it has."""
        return {
            OPEN: self.waiting,
            Status.SENT: self.sent - self.delivered,
            Status.DELIVERED: self.delivered - self.read,
            Status.READ: self.read,
            Status.FAILED: self.failed,
            Status.SKIPPED: self.skipped,
            Status.UNCONFIRMED: self.unconfirmed,
        }

    @property
    def delivery_rate(self) -> float:
        return self.delivered / self.dispatched if self.dispatched else 0.0

    @property
    def read_rate(self) -> float:
        return self.read / self.delivered if self.delivered else 0.0


@cache
def weight(status: str, *, accepted: bool) -> Vector:
    """How one row counts in each of COLUMNS but the first."""
    return (
        int(accepted),
        int(status in RECEIVED),
        int(status in (Status.DELIVERED, Status.READ)),
        int(status == Status.READ),
        int(status == Status.FAILED),
        int(status == Status.SKIPPED),
        int(status == Status.UNCONFIRMED),
    )


QUEUED = weight(Status.QUEUED, accepted=False)
SKIPPED = weight(Status.SKIPPED, accepted=False)


def summed(more: Mapping[tuple[Place, Vector], int]) -> dict[Place, list[int]]:
    """What it adds up to, place by place, when so many messages more of a place count in a way."""
    sums: dict[Place, list[int]] = {}
    for (place, counted), messages in more.items():
        mine = sums.setdefault(place, [0] * len(counted))
        for column, part in enumerate(counted):
            mine[column] += part * messages
    return sums


class Difference:
    """What a batch of changes does to the counters, gathered per dispatch and written once."""

    def __init__(self) -> None:
        # How many messages more count so: of a batch, many change in the same way.
        self._more: Counter[tuple[int, Vector]] = Counter()
        self._joined: Counter[int] = Counter()

    def joined(self, dispatch_id: int, rows: int) -> None:
        """`rows` new messages."""
        self._joined[dispatch_id] += rows

    def changed(self, dispatch_id: int, before: Vector, after: Vector) -> None:
        """A message counted as `before` and now counts as `after`."""
        if before != after:
            self._more[dispatch_id, before] -= 1
            self._more[dispatch_id, after] += 1

    def moved(self, source: int, target: int, counted: Vector) -> None:
        """A message of the dispatch `source`, counted as `counted`, now belongs to `target`."""
        for dispatch_id, sign in ((source, -1), (target, 1)):
            self._joined[dispatch_id] += sign
            self._more[dispatch_id, counted] += sign

    def write(self) -> None:
        """Add it to one slot of each dispatch, in id order. The last statement of a transaction."""
        sums, nothing = summed(self._more), [0] * (len(COLUMNS) - 1)
        added = [(key, self._joined[key], *sums.get(key, nothing)) for key in sorted(self._joined.keys() | sums.keys())]
        rows = [(key, random.randrange(DispatchCount.SLOTS), *each) for key, *each in added if any(each)]  # noqa: S311
        if rows:
            with connection.cursor() as cursor:
                cursor.execute(_ADD, [list(column) for column in zip(*rows, strict=True)])


def funnel(dispatch_id: int | None) -> Funnel:
    """One dispatch's numbers; all zero for none."""
    return funnels([dispatch_id])[dispatch_id] if dispatch_id else Funnel()


def funnels(dispatch_ids: Iterable[int | None]) -> dict[int | None, Funnel]:
    """The numbers of several dispatches in one query; those without messages are all zero."""
    keys = [key for key in dispatch_ids if key is not None]
    with connection.cursor() as cursor:
        cursor.execute(_SUM, [keys])
        found = {key: Funnel(*map(int, sums)) for key, *sums in cursor.fetchall()}
    return {key: found.get(key, Funnel()) for key in keys}


def counted_from_ledger(dispatch_id: int) -> Funnel:
    """The same from the messages themselves: what the counters ought to say."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, [dispatch_id])
        groups = cursor.fetchall()
    sums = [0] * len(COLUMNS)
    for status, accepted, rows in groups:
        sums[0] += rows
        for place, part in enumerate(weight(status, accepted=accepted), start=1):
            sums[place] += part * rows
    return Funnel(*sums)


def recount(dispatch_id: int, *, repair: bool = True) -> bool:
    """Set the counters to what the ledger says; whether they had drifted. Exact while messages are sent and settled.

    Without `repair` it only looks.

    Every change of a message writes its counters last. With all counters of the dispatch locked, whatever has committed
    is both in the ledger and in them; whatever has not is in neither and waits as long as the count takes (150 ms
    for a million messages). Counters stand last in the order of locks, and this takes those of one dispatch: call it in
    no transaction that holds more.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        # A slot that isn't there can't be locked, and a settle could come in through it.
        cursor.execute(_ALL_SLOTS, [dispatch_id, DispatchCount.SLOTS])
        cursor.execute(_LOCK, [dispatch_id])
        # Read in statements of their own: only those see what had committed when the locks were granted.
        told, true = funnel(dispatch_id), counted_from_ledger(dispatch_id)
        if told != true and repair:
            cursor.execute(_SET, [*(getattr(true, column) for column in COLUMNS), dispatch_id])
    return told != true


assert set(Status) == WAITING | RECEIVED | {Status.FAILED, Status.SKIPPED, Status.UNCONFIRMED}  # each counts once

_ADD = """
INSERT INTO messaging_dispatchcount AS c (dispatch_id, slot, {columns})
SELECT * FROM unnest(%s::bigint[], %s::smallint[], {arrays}) AS d (dispatch_id, slot, {columns})
ORDER BY dispatch_id
ON CONFLICT (dispatch_id, slot) DO UPDATE SET {sums}
""".format(
    columns=", ".join(COLUMNS),
    arrays=", ".join(["%s::bigint[]"] * len(COLUMNS)),
    sums=", ".join(f"{column} = c.{column} + excluded.{column}" for column in COLUMNS),
)
_COUNT = """
SELECT status, accepted_at IS NOT NULL, count(*) FROM messaging_message WHERE dispatch_id = %s GROUP BY 1, 2
"""
_SUM = """
SELECT dispatch_id, {sums} FROM messaging_dispatchcount WHERE dispatch_id = ANY(%s::bigint[]) GROUP BY dispatch_id
""".format(sums=", ".join(f"sum({column})" for column in COLUMNS))
_ALL_SLOTS = """
INSERT INTO messaging_dispatchcount (dispatch_id, slot, {columns})
SELECT %s, slot, {zeros} FROM generate_series(0, %s - 1) AS slot ON CONFLICT DO NOTHING
""".format(columns=", ".join(COLUMNS), zeros=", ".join("0" for _ in COLUMNS))
_LOCK = "SELECT slot FROM messaging_dispatchcount WHERE dispatch_id = %s ORDER BY slot FOR UPDATE"
# The truth in the first slot, nothing in the others.
_SET = """
UPDATE messaging_dispatchcount SET {sets} WHERE dispatch_id = %s
""".format(sets=", ".join(f"{column} = CASE slot WHEN 0 THEN %s ELSE 0 END" for column in COLUMNS))
