"""Hold, resume, cancel: the only three things that ever change a dispatch, each in a transaction of its own.

A claim share-locks the dispatches that it takes from, so once one of these has committed no further claim passes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q

from kaanha.messaging.claiming import WORK
from kaanha.messaging.models import PUT_OFF, Dispatch, Message


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


def release(dispatch_id: int, *, now: datetime, per_minute: int | None = None) -> bool:
    """Let claims pass again. False if it wasn't held.

    With `per_minute` the messages that are overdue by now fall due one after the other from now on, at that rate, in
    the order in which they were due. Those put off until further notice stay put off. The hour within which a message
    is retried stood still meanwhile, and does until its turn comes.
    """
    return bool(release_all([dispatch_id], now=now, per_minute=per_minute))


def release_all(dispatch_ids: Collection[int], *, now: datetime, per_minute: int | None = None) -> int:
    """Let claims from these pass again, each as by `release`, at the same moment; how many of them were held."""
    with transaction.atomic():
        held = list(_lock_held(dispatch_ids))
        if len(held) > 1:
            _lock_queued([key for key, _ in held])
        for key, held_at in held:
            _let_go(key, held_for=now - held_at, per_minute=per_minute, now=now)
        Dispatch.objects.filter(pk__in=[key for key, _ in held]).update(held_at=None, hold_reason="", hold_detail="")
    return len(held)


def cancel(dispatch_id: int, *, now: datetime) -> bool:
    """End it: a sweep turns what is still queued into skipped. False if it was canceled already."""
    return bool(Dispatch.objects.filter(pk=dispatch_id, canceled_at=None).update(canceled_at=now))


def cancel_single(organization_id: int, *, now: datetime) -> int:
    """Cancel what waits as a message of its own, and would go as soon as a closed organization is open again.

    How many dispatches; in the transaction that closes it. Nobody resumes such a dispatch: see Dispatch.SINGLE.
    """
    with connection.cursor() as cursor:
        cursor.execute(_CANCEL_SINGLE, [now, organization_id, [str(kind) for kind in Dispatch.SINGLE]])
        return int(cursor.rowcount)


def _lock_held(dispatch_ids: Collection[int]) -> Iterator[tuple[int, datetime]]:
    found = Dispatch.objects.select_for_update(no_key=True).filter(pk__in=dispatch_ids, held_at__isnull=False)
    return ((key, at) for key, at in found.order_by("pk").values_list("pk", "held_at") if at is not None)


def _lock_queued(dispatch_ids: list[int]) -> None:
    """Lock the messages of all of them in one order: dispatch by dispatch it would be another than everybody else's."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCK_QUEUED, [dispatch_ids, PUT_OFF])


def _let_go(dispatch_id: int, *, held_for: timedelta, per_minute: int | None, now: datetime) -> None:
    values: dict[str, Any] = {"dispatch": dispatch_id, "held_for": held_for, "now": now, "put_off": PUT_OFF}
    values["overdue"] = now if per_minute else None
    values["pause"] = timedelta(minutes=1) / per_minute if per_minute else None
    with connection.cursor() as cursor:
        cursor.execute(_LET_GO, values)


_CANCEL_SINGLE = f"""
{WORK} UPDATE messaging_dispatch d SET canceled_at = %s FROM work
WHERE d.id = dispatch_id AND d.organization_id = %s AND d.kind = ANY(%s) AND d.canceled_at IS NULL
"""
_LOCK_QUEUED = """
SELECT FROM messaging_message WHERE dispatch_id = ANY(%s::bigint[]) AND due_at IS NOT NULL AND due_at < %s
ORDER BY id FOR NO KEY UPDATE
"""
# All that it changes is locked at once, in the one order. What isn't spread has no `wait`.
_LET_GO = """
WITH locked AS MATERIALIZED (
  SELECT id, due_at, due_at <= %(overdue)s::timestamptz AS spread FROM messaging_message
  WHERE dispatch_id = %(dispatch)s AND due_at IS NOT NULL AND due_at < %(put_off)s
    AND (first_tried_at IS NOT NULL OR due_at <= %(overdue)s::timestamptz)
  ORDER BY id FOR NO KEY UPDATE
), placed AS (
  SELECT id, CASE WHEN spread
    THEN (row_number() OVER (ORDER BY due_at, id) - 1) * %(pause)s::interval END AS wait
  FROM locked
)
UPDATE messaging_message m SET due_at = coalesce(%(now)s + placed.wait, m.due_at),
  first_tried_at = m.first_tried_at + %(held_for)s + coalesce(placed.wait, interval '0')
FROM placed WHERE m.id = placed.id
"""
