"""What closing an organization means for its broadcasts: none is sending, and none begins by itself any more."""

from __future__ import annotations

from datetime import datetime

from broadcasts import launch
from broadcasts.models import Broadcast, PauseReason, Status
from kaanha.lib.errors import Refusal
from kaanha.organizations import audit
from kaanha.organizations.models import Organization

CLOSED = "The organization was closed."
OPEN = (Status.SCHEDULED, Status.QUEUED, Status.SENDING, Status.PAUSED)


def stop(organization: Organization, *, now: datetime) -> int:
    """Make what is scheduled a draft, and pause what waits for its turn; how many. Refusal while one is sending.

    In the transaction that has the organization alone. Those that are just starting are waited for.
    """
    rows = Broadcast.objects.of(organization).filter(status__in=OPEN).order_by("pk")
    held: list[Broadcast] = list(rows.select_for_update(of=("self",)))
    if sending := next((one for one in held if one.status == Status.SENDING), None):
        message = f"Broadcast {sending.name!r} is sending. Wait until it has completed, or cancel it. Then close again."
        raise Refusal(message, code="broadcast_sending")
    stopped = [one for one in held if _stop(one, now=now)]
    return len(stopped)


def _stop(broadcast: Broadcast, *, now: datetime) -> bool:
    if broadcast.status == Status.SCHEDULED:
        launch.unschedule(broadcast)
        return True
    if broadcast.status == Status.QUEUED:
        broadcast.move(Status.PAUSED, pause_reason=PauseReason.OPERATOR, status_detail=CLOSED, paused_at=now)
        audit.record("broadcast.paused", broadcast, reason=PauseReason.OPERATOR)
        return True
    Broadcast.objects.filter(pk=broadcast.pk).update(resume_at=None)  # paused: it waits for a person
    return False
