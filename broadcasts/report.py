"""What became of a broadcast, in numbers."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Max, Q

from broadcasts.models import Broadcast
from kaanha.messaging import counting
from kaanha.messaging.models import Message, MessageQuerySet
from kaanha.whatsapp.cloud_api import errors


def summary(broadcast: Broadcast) -> dict[str, Any]:
    """The broadcast as other systems see it: what it is, where it stands, its funnel and every non-send's reason.

    `sent`, `delivered` and `read` are "at least"; `total = waiting + sent + failed + skipped + unconfirmed`.
    """
    funnel = counting.funnel(broadcast.dispatch_id)
    return {
        "id": broadcast.public_id,
        "name": broadcast.name,
        "template": broadcast.template.name,
        "language": broadcast.template.language,
        "category": broadcast.template.category,
        "status": broadcast.status,
        "statusDetail": broadcast.status_detail,
        "scheduledAt": broadcast.scheduled_at,
        "startedAt": broadcast.started_at,
        "completedAt": broadcast.completed_at,
        "resumeAt": broadcast.resume_at,
        "total": funnel.total,
        "waiting": funnel.waiting,
        "dispatched": funnel.dispatched,
        "sent": funnel.sent,
        "delivered": funnel.delivered,
        "read": funnel.read,
        "failed": funnel.failed,
        "skipped": by_reason(broadcast),
        "unconfirmed": funnel.unconfirmed,
        "failures": by_code(broadcast),
    }


def by_reason(broadcast: Broadcast) -> dict[str, int]:
    """How many were skipped for each reason, the most frequent first. One query of an index alone."""
    return dict(_counted(_messages(broadcast).skipped(), "skip_reason"))


def by_code(broadcast: Broadcast) -> dict[str, int]:
    """How many failed with each of Meta's codes, the most frequent first; "none" where it gave none."""
    counted = _counted(_messages(broadcast).failed(), "error_code")
    return {"none" if code is None else str(code): count for code, count in counted}


def failures(broadcast: Broadcast) -> list[dict[str, Any]]:
    """How many failed with each of Meta's codes, the most frequent first, and what the code means.

    One query; another one for what Meta said with codes that we don't know.
    """
    counted = _counted(_messages(broadcast).failed(), "error_code")
    words = {code: _words(code) for code, _ in counted}
    if unknown := [code for code, known in words.items() if not known]:
        asked = Q(error_code__in=[code for code in unknown if code is not None]) | Q(error_code=None)
        words |= _messages(broadcast).failed().filter(asked).values_list("error_code").annotate(Max("error_text"))
    return [{"code": code, "text": words[code], "count": count} for code, count in counted]


def held_and_replied(broadcast: Broadcast) -> dict[str, int]:
    """How many messages Meta holds for an assessment of their quality, and how many were answered. Two queries."""
    if broadcast.dispatch_id is None:
        return {"heldByMeta": 0, "replied": 0}
    rows = Message.objects.filter(dispatch=broadcast.dispatch_id)
    # Counted apart: each has an index of its own.
    held, replied = rows.filter(held_by_meta=True).count(), rows.filter(replied_at__isnull=False).count()
    return {"heldByMeta": held, "replied": replied}


def _words(code: int | None) -> str:
    """What one of Meta's codes means, where the table knows it."""
    meaning = errors.MEANINGS.get(code) if code is not None else None
    return meaning.words if meaning else ""


def _messages(broadcast: Broadcast) -> MessageQuerySet:
    rows: MessageQuerySet = Message.objects.filter(dispatch=broadcast.dispatch_id)
    return rows.none() if broadcast.dispatch_id is None else rows


def _counted(rows: MessageQuerySet, column: str) -> list[tuple[Any, int]]:
    return list(rows.values_list(column).annotate(rows=Count("*")).order_by("-rows", column))
