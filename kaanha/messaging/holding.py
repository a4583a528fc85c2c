"""Hold, resume, cancel: the only three things that ever change a dispatch, each in a transaction of its own.

A claim share-locks the dispatches that it takes from, so once one of these has committed no further claim passes.
"""

from __future__ import annotations

from datetime import datetime

from kaanha.messaging.models import Dispatch


def hold(dispatch_id: int, *, reason: str, detail: str, now: datetime) -> bool:
    """Let nothing more be claimed, for `reason` (a code) and `detail` (words). False if it was held already."""
    waiting = Dispatch.objects.filter(pk=dispatch_id, held_at=None, canceled_at=None)
    return bool(waiting.update(held_at=now, hold_reason=reason, hold_detail=detail))


def release(dispatch_id: int) -> bool:
    """Let claims pass again. False if it wasn't held."""
    held = Dispatch.objects.filter(pk=dispatch_id, held_at__isnull=False)
    return bool(held.update(held_at=None, hold_reason="", hold_detail=""))


def cancel(dispatch_id: int, *, now: datetime) -> bool:
    """End it: a sweep turns what is still queued into skipped. False if it was canceled already."""
    return bool(Dispatch.objects.filter(pk=dispatch_id, canceled_at=None).update(canceled_at=now))
