"""When a delay is over, across clock changes. Pure."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sequences.tree_nodes import Delay, Until

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)  # no clock change is known more exactly


def due(delay: Delay, since: datetime, zone: ZoneInfo) -> datetime:
    """The moment, in UTC, at which a wait is over that began at `since`. `zone` is the organization's.

    A span counts hours, whatever the clocks do. A time of day is the next moment strictly after `since` at which the
    clocks show it on one of its weekdays. Where they skip it on such a day, it is the moment at which they went on;
    where they show it twice, it is the first time.
    """
    if delay.until is None:
        return since.astimezone(UTC) + (delay.span or timedelta())
    return _next(delay.until, since, ZoneInfo(delay.until.timezone) if delay.until.timezone else zone)


def _next(until: Until, since: datetime, zone: ZoneInfo) -> datetime:
    today = since.astimezone(zone).date()
    # The same weekday of next week: today's time may have passed.
    for day in (today + DAY * ahead for ahead in range(8)):
        if day.weekday() in until.weekdays and (moment := _shown(day, until.time, zone)) > since:
            return moment
    raise ValueError("a time of day needs a weekday")


def _shown(day: date, clock: time, zone: ZoneInfo) -> datetime:
    """The first moment at which clocks in `zone` show this day and time, or at which they went past it."""
    first = datetime.combine(day, clock.replace(fold=0), zone)
    second = first.replace(fold=1)
    before, after = first.utcoffset() or timedelta(), second.utcoffset() or timedelta()
    if before >= after:
        return first.astimezone(UTC)
    # Skipped. Read with the later offset it lies before the change, with the earlier one at or after it.
    low, high = second.astimezone(UTC), first.astimezone(UTC)
    while high - low > SECOND:
        middle = low + (high - low) // (2 * SECOND) * SECOND
        low, high = (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
    return high
