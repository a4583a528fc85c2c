"""Home's numbers: what was sent in the last days and what became of it, as tiles, charts and reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Exists, OuterRef

from contacts.models import ConsentChange
from kaanha.charts import Chart, Column, chart, every
from kaanha.messaging import quarters
from kaanha.messaging.quarters import Period, Sums
from kaanha.organizations.models import Organization
from kaanha.whatsapp.cloud_api.errors import classify

RANGES = (7, 30, 90)
USUAL = 30
LABELS = 7  # below a chart: as many as a phone has room for
ENOUGH = 100  # delivered in an hour of the day, before its rate says anything
REASONS = 6
HOURS = 24


@dataclass(frozen=True, slots=True)
class Tile:
    """A number at the top: the share below it, and what exactly is counted."""

    label: str
    count: int
    share: str
    meaning: str
    bad: bool = False


@dataclass(frozen=True, slots=True)
class Reason:
    """Why messages failed, in words; `share` in percent of all that failed."""

    code: int | None
    words: str
    count: int
    share: int


def chosen_days(asked: Mapping[str, Any]) -> int:
    """How many days the address asks for; thirty where it asks for none, or for something else."""
    said = str(asked.get("days", ""))
    return next((days for days in RANGES if said == str(days)), USUAL)


def numbers(organization: Organization | None, *, days: int, zone: ZoneInfo, now: datetime) -> dict[str, Any]:
    """What the page shows of these days, today the last of them. Two queries, however much was sent."""
    first = now.astimezone(zone).date() - timedelta(days=days - 1)
    since = datetime.combine(first, time.min, tzinfo=zone)
    owner = organization.pk if organization else None
    period = quarters.between(owner, since, now + timedelta(days=1), zone=zone)
    anything = period.total.sent or period.total.failed
    return {
        "period_days": days,
        "ranges": RANGES,
        "since": f"{first:%-d %b %Y}",
        "tiles": tiles(period.total, opted_out=opted_out(organization, since)),
        "by_day": by_day(period, [first + timedelta(days=day) for day in range(days)]) if anything else None,
        "by_hour": by_hour(period) if period.total.delivered else None,
        "best_hour": best_hour(period),
        "reasons": reasons(period),
    }


def opted_out(organization: Organization | None, since: datetime) -> int:
    """People who had opted in, and took it back. Who came in without consent took nothing back. One query."""
    before = ConsentChange.objects.filter(contact=OuterRef("contact"), opted_in=True, pk__lt=OuterRef("pk"))
    changes = ConsentChange.objects.filter(Exists(before), opted_in=False, at__gte=since)
    if organization is not None:
        changes = changes.filter(organization=organization)
    return changes.values("contact").distinct().count()


def tiles(total: Sums, *, opted_out: int) -> list[Tile]:
    def share(rate: float, of: str, whole: int) -> str:
        return f"{percent(rate)} of those {of}" if whole else ""

    return [
        Tile("Total sent", total.sent, "", "Messages that Meta took from us in these days. Tests don't count."),
        Tile(
            "Delivered",
            total.delivered,
            share(total.delivery_rate, "sent", total.sent),
            "Of the messages sent in these days, those that reached a phone, by Meta's word.",
        ),
        Tile(
            "Read",
            total.read,
            share(total.read_rate, "delivered", total.delivered),
            "Delivered messages that were opened. People without read receipts never count: in truth it is more.",
        ),
        Tile(
            "Replied",
            total.replied,
            share(total.reply_rate, "delivered", total.delivered),
            "Messages that were answered: by a reply to them, or by anything written within 72 hours.",
        ),
        Tile(
            "Failed",
            total.failed,
            _failure_share(total),
            "Messages that Meta refused, or took and couldn't deliver. The reasons stand below.",
            bad=total.failed > 0,
        ),
        Tile(
            "Opted out",
            opted_out,
            share(opted_out / total.delivered if total.delivered else 0, "delivered", total.delivered),
            "People who had opted in and took it back: by a word such as STOP, a member, an import or the API.",
        ),
    ]


def by_day(period: Period, days: list[date]) -> Chart:
    """Sent, delivered and read of each day, one in front of the other."""
    step = every(len(days), LABELS)
    found = [(day, period.days.get(day.isoformat(), Sums())) for day in days]
    columns = [
        Column(
            [("k-sent", sums.sent), ("k-delivered", sums.delivered), ("k-read", sums.read)],
            f"{day:%-d %b}: {sums.sent:,} sent, {sums.delivered:,} delivered, {sums.read:,} read",
            f"{day:%-d %b}" if (len(days) - 1 - place) % step == step // 2 else "",
        )
        for place, (day, sums) in enumerate(found)
    ]
    return chart(
        "Messages by day",
        columns,
        number=short,
        legend=[("k-sent", "Sent"), ("k-delivered", "Delivered"), ("k-read", "Read")],
        head=("Day", "Sent", "Delivered", "Read", "Replied", "Failed"),
        rows=[
            (f"{day:%a %-d %b}", *(f"{n:,}" for n in (s.sent, s.delivered, s.read, s.replied, s.failed)))
            for day, s in found
            if s != Sums()
        ],
    )


def by_hour(period: Period) -> Chart:
    """Which share of what was sent in each hour of the day was read."""
    found = [(hour, period.hours.get(hour, Sums())) for hour in range(HOURS)]
    columns = [
        Column(
            [("k-read" if sums.delivered >= ENOUGH else "k-few", 100 * sums.read_rate)],
            f"Sent {_span(hour)}: {percent(sums.read_rate)} of {sums.delivered:,} delivered were read"
            if sums.delivered
            else f"Sent {_span(hour)}: nothing",
            f"{hour:02}:00" if hour % 6 == 0 else "",
        )
        for hour, sums in found
    ]
    return chart(
        "Read rate by the hour in which it was sent",
        columns,
        number=lambda value: f"{value:g}%",
        legend=[("k-read", "Read rate"), ("k-few", f"Fewer than {ENOUGH} delivered: may be chance")],
        head=("Sent", "Delivered", "Read", "Read rate"),
        rows=[
            (_span(hour), f"{s.delivered:,}", f"{s.read:,}", percent(s.read_rate)) for hour, s in found if s.delivered
        ],
        smallest_step=10,
    )


def best_hour(period: Period) -> str:
    """The hour with the highest read rate, in a sentence; nothing where too little was sent to compare two."""
    known = {hour: sums for hour, sums in period.hours.items() if sums.delivered >= ENOUGH}
    if len(known) < 2:
        return ""
    hour = max(sorted(known), key=lambda hour: known[hour].read_rate)
    return f"What was sent between {_span(hour)} was read most: {percent(known[hour].read_rate)}."


def reasons(period: Period) -> list[Reason]:
    """Why messages failed, the most frequent reasons first."""
    whole = sum(period.failures.values())
    found = sorted(period.failures.items(), key=lambda item: (-item[1], item[0] or 0))
    rows = [Reason(code, _words(code), count, round(100 * count / whole)) for code, count in found[:REASONS]]
    if rest := sum(count for _, count in found[REASONS:]):
        rows.append(Reason(None, f"{len(found) - REASONS} other reasons", rest, round(100 * rest / whole)))
    return rows


def percent(rate: float) -> str:
    """A share for people: 71%, 4.2%, 0.03%."""
    value = 100 * rate
    if value == 0 or value >= 10:
        return f"{value:.0f}%"
    return f"{value:.1f}%" if value >= 1 else f"{value:.2g}%"


def short(value: float) -> str:
    """A number on an axis: 800, 1.5k, 20k, 3M."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _failure_share(total: Sums) -> str:
    return f"{percent(total.failure_rate)} of those tried" if total.failed else ""


def _span(hour: int) -> str:
    return f"{hour:02}:00–{(hour + 1) % HOURS:02}:00"


def _words(code: int | None) -> str:
    if code is None:
        return "No reason of Meta's: Kaanha gave up, or couldn't reach Meta"
    return classify({"code": code}).words.split(". ")[0].rstrip(".")
