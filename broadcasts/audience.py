"""Who gets a broadcast: one query, used by the preview and by the launch alike."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.db.models import Count

from broadcasts import leaving_out
from broadcasts.leaving_out import LeftOut
from broadcasts.models import Broadcast
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


def recipients(broadcast: Broadcast) -> ContactQuerySet:
    """Contacts for each of whom a launch would make a message now; what is judged in the claim may still skip it."""
    tags, excluded = (list(rows.values_list("pk", flat=True)) for rows in (broadcast.tags, broadcast.excluded_tags))
    return among(broadcast.organization_id, tags=tags, excluded=excluded)


def among(organization: int, *, tags: list[int], excluded: list[int]) -> ContactQuerySet:
    """The organization's contacts who hold any of these tags and none of those, and can be written to."""
    contacts: ContactQuerySet = Contact.objects.of(organization)
    chosen = contacts.tagged_any(tags).reachable().with_phone()
    return chosen.tagged_none(excluded) if excluded else chosen


def preview(broadcast: Broadcast, *, now: datetime) -> Preview:
    """Who would really get it now, or at its time where that is ahead, and who holds a tag but stays out. Four queries.

    Judged as a claim would: what is promised here is what is handed to Meta, as long as nothing changes until then.
    """
    at = max(now, broadcast.scheduled_at or now)
    holders, reasons = _tagged(broadcast).active(), leaving_out.reasons(broadcast, at=at)
    judged = holders.annotate(left_out=reasons.first())
    counted = dict(judged.order_by().values_list("left_out").annotate(rows=Count("pk")))
    total = counted.get("", 0)
    return Preview(
        at=at,
        total=total,
        first=_first(holders, reasons) if total else [],
        left_out={reason: counted.get(reason, 0) for reason in LeftOut},
    )


def glance(broadcast: Broadcast, *, now: datetime) -> Glance:
    """The first who would really get it, without a look at the others. Two queries."""
    at = max(now, broadcast.scheduled_at or now)
    return Glance(at=at, first=_first(_tagged(broadcast).active(), leaving_out.reasons(broadcast, at=at)))


def _first(holders: ContactQuerySet, reasons: leaving_out.Reasons) -> list[Contact]:
    return list(holders.filter(*reasons.none()).order_by("pk")[:FIRST])


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


def _tagged(broadcast: Broadcast) -> ContactQuerySet:
    """The holders of its tags, the excluded ones, too."""
    contacts: ContactQuerySet = Contact.objects.of(broadcast.organization_id)
    return contacts.tagged_any(list(broadcast.tags.values_list("pk", flat=True)))


_FREEZE = """
INSERT INTO messaging_message (dispatch_id, template_id, status, created_at, due_at, organization_id, contact_id,
  skip_reason, error_text, error_in_callback, attempt, tries, held_by_meta)
SELECT %s, %s, %s, %s::timestamptz, %s::timestamptz, chosen.*, '', '', false, 0, 0, false FROM ({select}) AS chosen
ON CONFLICT (dispatch_id, contact_id) DO NOTHING
"""
