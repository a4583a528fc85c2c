"""Who gets a broadcast: one query, used by the preview and by the launch alike."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.db.models import Count, Value

from broadcasts import leaving_out, portions
from broadcasts.leaving_out import LeftOut
from broadcasts.models import Broadcast
from broadcasts.portions import EVERYBODY, Portion
from contacts.models import Contact, ContactQuerySet, ContactTag
from kaanha.messaging import counting
from kaanha.messaging.models import Dispatch, Status

FIRST = 10
LARGE = 50_000  # tags on contacts, from where on counting takes longer than a page may


@dataclass(frozen=True, slots=True)
class Glance:
    """The first who would get it `at` a time."""

    at: datetime
    first: list[Contact]


@dataclass(frozen=True, slots=True)
class Preview(Glance):
    """Also how many there are, and how many stay out for each reason."""

    total: int
    left_out: dict[LeftOut, int]

    @property
    def reasons(self) -> list[tuple[str, int]]:
        """The reasons for which anybody stays out, in words."""
        return [(str(reason.label), count) for reason, count in self.left_out.items() if count]


@dataclass(frozen=True, slots=True)
class _Holders:
    """The contacts who hold any of a broadcast's tags, deleted ones, too; who hold an excluded one apart."""

    organization: int
    tags: list[int]
    excluded: list[int]

    @classmethod
    def of(cls, broadcast: Broadcast) -> _Holders:
        """Two queries."""
        tags, excluded = (list(rows.values_list("pk", flat=True)) for rows in (broadcast.tags, broadcast.excluded_tags))
        return cls(broadcast.organization_id, tags, excluded)

    def without_excluded(self, portion: Portion = EVERYBODY) -> ContactQuerySet:
        chosen = self._all(portion)
        return chosen.tagged_none(self.excluded, portion.of("contact")) if self.excluded else chosen

    def with_excluded(self, portion: Portion = EVERYBODY) -> ContactQuerySet:
        return self._all(portion).tagged_any(self.excluded, portion.of("contact"))

    def recipients(self) -> ContactQuerySet:
        """Those who can be written to."""
        return self.without_excluded().reachable().with_phone()

    def _all(self, portion: Portion) -> ContactQuerySet:
        contacts: ContactQuerySet = Contact.objects.of(self.organization)
        return contacts.tagged_any(self.tags, portion.of("contact"))


def recipients(broadcast: Broadcast) -> ContactQuerySet:
    """Contacts for each of whom a launch would make a message now; what is judged in the claim may still skip it."""
    return _Holders.of(broadcast).recipients()


def among(organization: int, *, tags: list[int], excluded: list[int]) -> ContactQuerySet:
    """The organization's contacts who hold any of these tags and none of those, and can be written to."""
    return _Holders(organization, tags, excluded).recipients()


def preview(broadcast: Broadcast, *, now: datetime) -> Preview:
    """Who would really get it now, or at its time where that is ahead, and who holds a tag but stays out. Seven queries
    at most.

    Judged as a claim would: what is promised here is what is handed to Meta, as long as nothing changes until then.
    """
    at = max(now, broadcast.scheduled_at or now)
    holders, reasons = _Holders.of(broadcast), leaving_out.reasons(broadcast, at=at)
    ranges = portions.of_organization(holders.organization) if is_large(broadcast) else [EVERYBODY]
    judged = [reasons.judged(holders.without_excluded(portion), portion) for portion in ranges]
    left_out = _counted(judged, {"holders": Count("pk"), **reasons.counts()})
    total = left_out.pop("holders") - left_out.total()
    if holders.excluded:
        excluded = [reasons.judged(holders.with_excluded(portion), portion) for portion in ranges]
        left_out += _counted(excluded, {LeftOut.EXCLUDED_TAG: Count("pk")})
    return Preview(
        at=at,
        total=total,
        first=_first(holders, reasons) if total else [],
        left_out={reason: left_out[reason] for reason in LeftOut},
    )


def glance(broadcast: Broadcast, *, now: datetime) -> Glance:
    """The first who would really get it, without a look at the others. Three queries."""
    at = max(now, broadcast.scheduled_at or now)
    return Glance(at=at, first=_first(_Holders.of(broadcast), leaving_out.reasons(broadcast, at=at)))


def _first(holders: _Holders, reasons: leaving_out.Reasons) -> list[Contact]:
    return list(reasons.judged(holders.without_excluded()).filter(*reasons.none()).order_by("pk")[:FIRST])


def _counted(groups: list[ContactQuerySet], counts: dict[str, Count]) -> Counter[str]:
    """Each of the counts over all groups. One query."""
    # Whoever has the same constant is counted together: a row for each group.
    rows = [group.order_by().values(same=Value(1)).annotate(**counts).values(*counts) for group in groups]
    found: Counter[str] = Counter()
    for row in rows[0].union(*rows[1:], all=True):
        found.update(row)
    return found


def is_large(broadcast: Broadcast) -> bool:
    """Whether counting its audience takes its time. One query."""
    held = ContactTag.objects.filter(tag__in=broadcast.tags.values("pk"))
    return held.order_by()[:LARGE].count() == LARGE


def freeze(broadcast: Broadcast, dispatch: Dispatch, *, now: datetime) -> int:
    """One ledger row for each recipient, in one statement; how many. Doing it again adds nobody twice."""
    chosen = recipients(broadcast).order_by("pk").values_list("organization_id", "pk")
    select, values = chosen.query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(
            _FREEZE.format(select=select), [dispatch.pk, broadcast.template_id, Status.QUEUED, now, now, *values]
        )
        frozen = cursor.rowcount
    difference = counting.Difference()
    difference.joined(dispatch.pk, frozen)
    difference.write()
    return frozen


_FREEZE = """
INSERT INTO messaging_message (dispatch_id, template_id, status, created_at, due_at, organization_id, contact_id,
  skip_reason, error_text, error_in_callback, attempt, tries, held_by_meta)
SELECT %s, %s, %s, %s::timestamptz, %s::timestamptz, chosen.*, '', '', false, 0, 0, false FROM ({select}) AS chosen
ON CONFLICT (dispatch_id, contact_id) DO NOTHING
"""
