"""What became of a broadcast, in numbers."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Max

from broadcasts.models import Broadcast
from kaanha.messaging import counting
from kaanha.messaging.models import Message, MessageQuerySet, Status
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
    """How many were skipped for each reason, the most frequent first."""
    return _counted(broadcast, Status.SKIPPED, "skip_reason")


def by_code(broadcast: Broadcast) -> dict[str, int]:
    """How many failed with each of Meta's codes, the most frequent first; "none" where it gave none."""
    return _counted(broadcast, Status.FAILED, "error_code")


def failures(broadcast: Broadcast) -> list[dict[str, Any]]:
    """How many failed with each of Meta's codes, the most frequent first, and what the code means. One query."""
    rows = _standing(broadcast, Status.FAILED).values_list("error_code")
    counted = rows.annotate(rows=Count("pk"), text=Max("error_text")).order_by("-rows", "error_code")
    return [{"code": code, "text": _words(code) or text, "count": count} for code, count, text in counted]


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


def _standing(broadcast: Broadcast, status: str) -> MessageQuerySet:
    rows: MessageQuerySet = Message.objects.filter(dispatch=broadcast.dispatch_id)
    return rows.none() if broadcast.dispatch_id is None else rows.standing(status)


def _counted(broadcast: Broadcast, status: str, column: str) -> dict[str, int]:
    rows = _standing(broadcast, status)
    counts = rows.values_list(column).annotate(rows=Count("pk")).order_by("-rows", column)
    return {"none" if key is None else str(key): rows for key, rows in counts}
