"""Who gets a broadcast: one query, used by the preview and by the launch alike."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from broadcasts.models import Broadcast
from contacts.models import Contact, ContactQuerySet
from kaanha.messaging import counting
from kaanha.messaging.models import Dispatch, Status

FIRST = 10


@dataclass(frozen=True, slots=True)
class Preview:
    """The first recipients and how many there are; `without_phone` hold a tag but can't be addressed."""

    total: int
    first: list[Contact]
    opted_out: int
    without_phone: int


def recipients(broadcast: Broadcast) -> ContactQuerySet:
    """Contacts that the broadcast would go to now."""
    return _tagged(broadcast).reachable().with_phone()


def preview(broadcast: Broadcast) -> Preview:
    """What a launch would freeze if it came now, and who holds a tag but stays out. Four queries."""
    everybody = recipients(broadcast)
    tagged = _tagged(broadcast).active()
    return Preview(
        total=everybody.count(),
        first=list(everybody.order_by("pk")[:FIRST]),
        opted_out=tagged.filter(opted_in=False).count(),
        without_phone=tagged.filter(opted_in=True, phone=None).count(),
    )


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
    contacts: ContactQuerySet = Contact.objects.of(broadcast.organization_id)
    chosen = contacts.tagged_any(list(broadcast.tags.values_list("pk", flat=True)))
    excluded = list(broadcast.excluded_tags.values_list("pk", flat=True))
    return chosen.tagged_none(excluded) if excluded else chosen


_FREEZE = """
INSERT INTO messaging_message (dispatch_id, template_id, status, created_at, due_at, organization_id, contact_id,
  skip_reason, error_text, error_in_callback, attempt, tries, held_by_meta)
SELECT %s, %s, %s, %s::timestamptz, %s::timestamptz, chosen.*, '', '', false, 0, 0, false FROM ({select}) AS chosen
ON CONFLICT (dispatch_id, contact_id) DO NOTHING
"""
