"""What became of an organization's messages, by the quarter of an hour: kept with every change, recomputable."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection, transaction

from kaanha.messaging import counting
from kaanha.messaging.models import Dispatch, QuarterCount, Status

SECONDS = 15 * 60
COLUMNS = ("sent", "delivered", "read", "replied", "failed", "refused")
Place = tuple[int, int, int]  # the organization, the quarter (they are numbered from 1970 on), the error's code
Counted = tuple[Place, tuple[int, ...]] | None


@dataclass(frozen=True, slots=True)
class Sums:
    """Messages that Meta took, and what became of them. `delivered` and `read` are "at least".

    Of those that failed, `refused` were never taken.
    """

    sent: int = 0
    delivered: int = 0
    read: int = 0
    replied: int = 0
    failed: int = 0
    refused: int = 0

    @property
    def failure_rate(self) -> float:
        tried = self.sent + self.refused
        return self.failed / tried if tried else 0.0

    @property
    def delivery_rate(self) -> float:
        return self.delivered / self.sent if self.sent else 0.0

    @property
    def read_rate(self) -> float:
        return self.read / self.delivered if self.delivered else 0.0

    @property
    def reply_rate(self) -> float:
        return self.replied / self.delivered if self.delivered else 0.0


@dataclass(frozen=True, slots=True)
class Period:
    """The sums of a time: altogether, by local day (as ISO date), by local hour of the day, and failures by code."""

    total: Sums
    days: dict[str, Sums]
    hours: dict[int, Sums]
    failures: dict[int | None, int]


def counted(
    *,
    organization_id: int,
    kind: str | None,
    status: str,
    error_code: int | None,
    accepted_at: datetime | None,
    failed_at: datetime | None,
    replied: bool,
) -> Counted:
    """Where a message counts, and as what in each of COLUMNS; None for what Home doesn't speak of."""
    failed = status == Status.FAILED
    at = accepted_at or (failed_at if failed else None)
    if at is None or kind == Dispatch.Kind.TEST:
        return None
    code = error_code if failed and error_code is not None else QuarterCount.NO_CODE
    quarter = int(at.timestamp()) // SECONDS
    return (organization_id, quarter, code), _weight(status, accepted=accepted_at is not None, replied=replied)


@cache
def _weight(status: str, *, accepted: bool, replied: bool) -> tuple[int, ...]:
    """How a message counts in each of COLUMNS."""
    delivered = status in (Status.DELIVERED, Status.READ)
    failed = status == Status.FAILED
    return tuple(map(int, (accepted, delivered, status == Status.READ, replied, failed, failed and not accepted)))


class Difference:
    """What a batch of changes does to the counters, gathered per place and written once."""

    def __init__(self) -> None:
        # How many messages more count so: of a batch, many change in the same way.
        self._more: Counter[tuple[Place, tuple[int, ...]]] = Counter()

    def changed(self, before: Counted, after: Counted) -> None:
        """A message counted as `before` and now counts as `after`."""
        if before != after:
            if before is not None:
                self._more[before] -= 1
            if after is not None:
                self._more[after] += 1

    def write(self) -> None:
        """Add it to one slot of each place, in their order. After the dispatches' counters: the last statement."""
        slot = random.randrange(QuarterCount.SLOTS)  # noqa: S311
        rows = [
            (owner, datetime.fromtimestamp(quarter * SECONDS, UTC), code, slot, *each)
            for (owner, quarter, code), each in sorted(counting.summed(self._more).items())
            if any(each)
        ]
        if rows:
            with connection.cursor() as cursor:
                cursor.execute(_ADD, [list(column) for column in zip(*rows, strict=True)])


def between(organization_id: int | None, since: datetime, until: datetime, *, zone: ZoneInfo) -> Period:
    """The sums from `since` until before `until`, days and hours in `zone`; of all organizations for None. One query.

    A few rows for each quarter in which something was sent, however many messages that were.
    """
    with connection.cursor() as cursor:
        cursor.execute(_BETWEEN, {"owner": organization_id, "since": since, "until": until, "zone": str(zone)})
        groups = cursor.fetchall()
    total = Sums()
    days: dict[str, Sums] = {}
    hours: dict[int, Sums] = {}
    failures: dict[int | None, int] = {}
    for level, day, hour, code, *sums in groups:
        row = Sums(*map(int, sums))
        if level == _BY_DAY:
            days[day.isoformat()] = row
        elif level == _BY_HOUR:
            hours[int(hour)] = row
        elif level == _BY_CODE and row.failed:
            failures[None if code == QuarterCount.NO_CODE else code] = row.failed
        elif level == _ALL:
            total = row
    return Period(total, days, hours, failures)


def recount(organization_id: int, *, repair: bool = True) -> bool:
    """Set the organization's counters to what the ledger says; whether they had drifted. Exact while messages move.

    Without `repair` it only looks. The lock lets nobody write counters as long as the count takes (some seconds for
    ten million messages): whatever has committed is both in the ledger and in them, whatever has not is in neither.
    Counters stand last in the order of locks: call it in no transaction that holds more.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE messaging_quartercount IN SHARE ROW EXCLUSIVE MODE")
        drift = _told(organization_id) != _true(organization_id)
        if drift and repair:
            cursor.execute("DELETE FROM messaging_quartercount WHERE organization_id = %s", [organization_id])
            cursor.execute(_FILL, {"owner": organization_id})
    return drift


def _told(organization_id: int) -> list[tuple[Any, ...]]:
    return _rows(_TOLD, organization_id)


def _true(organization_id: int) -> list[tuple[Any, ...]]:
    return _rows(_TRUE, organization_id)


def _rows(question: str, organization_id: int) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(f"{question} ORDER BY 1, 2", {"owner": organization_id})
        return cursor.fetchall()


assert tuple(field.name for field in fields(Sums)) == COLUMNS

_BY_DAY, _BY_HOUR, _BY_CODE, _ALL = 3, 5, 6, 7  # what GROUPING says: a bit for each of (day, hour, code) not grouped by
_SUMS = ", ".join(f"sum({column})" for column in COLUMNS)
_ADD = """
INSERT INTO messaging_quartercount AS c (organization_id, at, error_code, slot, {columns})
SELECT * FROM unnest(%s::bigint[], %s::timestamptz[], %s::int[], %s::smallint[], {arrays})
  AS d (organization_id, at, error_code, slot, {columns})
ORDER BY organization_id, at, error_code, slot
ON CONFLICT (organization_id, at, error_code, slot) DO UPDATE SET {sums}
""".format(
    columns=", ".join(COLUMNS),
    arrays=", ".join(["%s::bigint[]"] * len(COLUMNS)),
    sums=", ".join(f"{column} = c.{column} + excluded.{column}" for column in COLUMNS),
)
_BETWEEN = f"""
WITH told AS (
  SELECT (at AT TIME ZONE %(zone)s) AS moment, error_code, {", ".join(COLUMNS)} FROM messaging_quartercount
  WHERE (%(owner)s::bigint IS NULL OR organization_id = %(owner)s) AND at >= %(since)s AND at < %(until)s
), places AS (
  SELECT moment::date AS day, extract(hour FROM moment) AS hour, error_code AS code, {", ".join(COLUMNS)} FROM told
)
SELECT grouping(day, hour, code), day, hour, code, {", ".join(f"coalesce(sum({column}), 0)" for column in COLUMNS)}
FROM places
GROUP BY GROUPING SETS ((day), (hour), (code), ())
"""
_TOLD = f"""
SELECT at, error_code, {_SUMS} FROM messaging_quartercount WHERE organization_id = %(owner)s
GROUP BY at, error_code HAVING {" OR ".join(f"sum({column}) <> 0" for column in COLUMNS)}
"""
_TRUE = """
SELECT date_bin('15 minutes', coalesce(accepted_at, failed_at), '2000-01-01T00:00Z') AS at,
  CASE status WHEN 'failed' THEN coalesce(error_code, -1) ELSE -1 END AS code,
  count(accepted_at), count(*) FILTER (WHERE status IN ('delivered', 'read')), count(*) FILTER (WHERE status = 'read'),
  count(replied_at), count(*) FILTER (WHERE status = 'failed'),
  count(*) FILTER (WHERE status = 'failed' AND accepted_at IS NULL)
FROM messaging_message m JOIN messaging_dispatch d ON d.id = m.dispatch_id
WHERE m.organization_id = %(owner)s AND d.kind <> 'test' AND (accepted_at IS NOT NULL OR status = 'failed')
  AND coalesce(accepted_at, failed_at) IS NOT NULL
GROUP BY 1, 2
"""
_FILL = f"""
INSERT INTO messaging_quartercount (organization_id, at, error_code, slot, {", ".join(COLUMNS)})
SELECT %(owner)s, at, code, 0, {", ".join(COLUMNS)} FROM ({_TRUE}) AS counted (at, code, {", ".join(COLUMNS)})
"""
