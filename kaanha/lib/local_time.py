"""Times as people type them in a named timezone. What doesn't exist or exists twice is asked about, not guessed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from kaanha.lib.errors import Refusal

EXAMPLE = "2026-12-24 09:30"


def parse(text: str, zone: ZoneInfo) -> datetime:
    """The moment that `text` names, in UTC: ISO 8601, local to `zone` unless it carries an offset of its own.

    Refusal for anything else, and for local times that a clock change leaves out or repeats.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
        return localize(moment, zone) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:  # the first and the last day there is may have no UTC
        raise Refusal(f"{text!r} is not a date and time. Write it like {EXAMPLE}.", code="bad_time") from error


def localize(moment: datetime, zone: ZoneInfo) -> datetime:
    """The UTC moment at which clocks in `zone` show the naive `moment`. Refusal where they never do, or do twice."""
    first = moment.replace(tzinfo=zone, fold=0)
    second = moment.replace(tzinfo=zone, fold=1)
    if first.utcoffset() == second.utcoffset():
        return first.astimezone(UTC)
    shown = f"{moment:%Y-%m-%d %H:%M}"
    if (first.utcoffset() or timedelta()) < (second.utcoffset() or timedelta()):
        raise Refusal(
            f"{shown} doesn't exist in {zone.key}: the clocks skip it on that day. Choose another time.",
            code="nonexistent_time",
        )
    choices = " or ".join(f"{one:%Y-%m-%dT%H:%M%z}" for one in (first, second))
    raise Refusal(
        f"{shown} comes twice in {zone.key}: the clocks go back on that day. Say which one: {choices}.",
        code="ambiguous_time",
    )
