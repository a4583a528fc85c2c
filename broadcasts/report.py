"""What became of a broadcast, in numbers."""

from __future__ import annotations

from typing import Any

from django.db.models import Count

from broadcasts.models import Broadcast
from kaanha.messaging import counting
from kaanha.messaging.models import Message, Status


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


def _counted(broadcast: Broadcast, status: str, column: str) -> dict[str, int]:
    if broadcast.dispatch_id is None:
        return {}
    rows = Message.objects.filter(dispatch=broadcast.dispatch_id, status=status)
    counts = rows.values_list(column).annotate(rows=Count("pk")).order_by("-rows", column)
    return {"none" if key is None else str(key): rows for key, rows in counts}
