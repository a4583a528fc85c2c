"""Hold, resume, cancel: the only three things that ever change a dispatch, each in a transaction of its own.

A claim share-locks the dispatches that it takes from, so once one of these has committed no further claim passes.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q

from kaanha.messaging.models import Dispatch, Message


def hold(dispatch_id: int, *, reason: str, detail: str, now: datetime) -> bool:
    """Let nothing more be claimed, for `reason` (a code) and `detail` (words). False if it was held already."""
    waiting = Dispatch.objects.filter(pk=dispatch_id, held_at=None, canceled_at=None)
    return bool(waiting.update(held_at=now, hold_reason=reason, hold_detail=detail))


def hold_account(waba_id: str, *, app: int, reason: str, detail: str, now: datetime) -> int:
    """Hold every dispatch of an account's numbers that still has something to send; how many."""
    waiting = Message.objects.filter(dispatch=OuterRef("pk"), due_at__isnull=False)
    account = Q(phone_number__account__waba_id=waba_id, phone_number__account__app=app)
    live = Dispatch.objects.filter(account, Exists(waiting), held_at=None, canceled_at=None)
    return sum(hold(key, reason=reason, detail=detail, now=now) for key in live.values_list("pk", flat=True))


def release(dispatch_id: int, *, now: datetime) -> bool:
    """Let claims pass again. False if it wasn't held.

    The hour within which a message is retried stood still meanwhile.
    """
    with transaction.atomic():
        held = Dispatch.objects.select_for_update(no_key=True).filter(pk=dispatch_id, held_at__isnull=False).first()
        if held is None or held.held_at is None:
            return False
        retried = Message.objects.filter(dispatch=held, due_at__isnull=False, first_tried_at__isnull=False)
        locked = list(retried.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True))
        Message.objects.filter(pk__in=locked).update(first_tried_at=F("first_tried_at") + (now - held.held_at))
        Dispatch.objects.filter(pk=held.pk).update(held_at=None, hold_reason="", hold_detail="")
    return True


def cancel(dispatch_id: int, *, now: datetime) -> bool:
    """End it: a sweep turns what is still queued into skipped. False if it was canceled already."""
    return bool(Dispatch.objects.filter(pk=dispatch_id, canceled_at=None).update(canceled_at=now))
