"""How long a broadcast takes: before it starts at the most that its number may send, then at the pace it really has."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from kaanha.messaging import reach
from kaanha.whatsapp.models import PhoneNumber

SHORT = timedelta(minutes=1)
# A pace is told over so many seconds at least; the place from which it is measured then moves on.
LEAST, MOVES = 2.0, 10.0
OLDEST = 60.0  # an older mark is of a page that has slept


def expected(people: int, number: PhoneNumber) -> timedelta:
    """The time that so many messages take at the number's throughput, with nothing else to send."""
    return timedelta(seconds=people / number.throughput)


def words(span: timedelta) -> str:
    """A duration as people say it: less than a minute, about 4 minutes, about 2.5 hours, about 3 days."""
    if span < SHORT:
        return "less than a minute"
    minutes = round(span / timedelta(minutes=1))
    if minutes < 90:
        return _about(minutes, "minute")
    hours = round(2 * (span / timedelta(hours=1))) / 2
    return _about(hours, "hour") if hours < 48 else _about(round(hours / 24), "day")


def sentence(people: int, number: PhoneNumber) -> str:
    """What to expect of a broadcast to so many people; nothing of one to nobody. Needs the number's portfolio."""
    if not people:
        return ""
    takes = f"It takes {words(expected(people, number))}, at up to {number.throughput:,} messages a second."
    limit = number.account.portfolio.messaging_limit
    if limit is None or people <= limit * reach.SHARE:
        return takes
    return (
        f"{takes} Your portfolio may write to {limit:,} different people in 24 hours, so that it takes "
        f"{words(people / (limit * reach.SHARE) * reach.WINDOW)} or more: the others wait until Meta lets them go."
    )


@dataclass(frozen=True, slots=True)
class Mark:
    """How many were settled at a time, in seconds."""

    at: float
    settled: int

    def __str__(self) -> str:
        return f"{self.at:.1f}:{self.settled}"


@dataclass(frozen=True, slots=True)
class Pace:
    """Messages settled per second, and the marks that the next look is measured from. None before it is known."""

    rate: float | None
    marks: tuple[Mark, ...]

    @property
    def asked(self) -> str:
        """The marks for the address of the next look."""
        return ",".join(map(str, self.marks))


def pace(asked: str, *, settled: int, at: float) -> Pace:
    """The pace since the marks of an earlier look at the same page; marks that can't be true are none."""
    now = Mark(at, settled)
    marks = [mark for mark in _marks(asked) if 0 < at - mark.at <= OLDEST and 0 <= mark.settled <= settled]
    if not marks:
        return Pace(None, (now,))
    first = marks[0]
    rate = (settled - first.settled) / (at - first.at) if at - first.at >= LEAST else None
    if at - marks[-1].at >= MOVES:
        return Pace(rate, (marks[-1], now))
    return Pace(rate, tuple(marks[:2]))


def _marks(asked: str) -> list[Mark]:
    try:
        parts = [part.split(":") for part in asked.split(",")[:2]]
        return [Mark(float(at), int(settled)) for at, settled in parts]
    except ValueError:
        return []


def _about(count: float, unit: str) -> str:
    return f"about {count:g} {unit}{'' if count == 1 else 's'}"
