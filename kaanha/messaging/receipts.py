"""Receipts: what Meta's callbacks say of our messages, applied in batches, in any order, as often as they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection, transaction

from contacts import consent
from kaanha.messaging import fates, ledger, settling
from kaanha.messaging.claiming import read_callback_data
from kaanha.messaging.models import RECEIVED, Status, UnmatchedReceipt
from kaanha.whatsapp.cloud_api.errors import ErrorClass, Verdict, classify
from kaanha.whatsapp.cloud_api.events import Receipt

KEPT = timedelta(days=30)  # an unmatched receipt
RETRY = timedelta(seconds=5)  # before an unmatched receipt is tried again, then twice as long each time
RETRY_BATCH = 500
RETRY_ROUNDS = 10  # of one sweep, which has other things to do
DROPPED_AT_ONCE = 10_000
BATCH = 2000  # of one transaction: its messages stay locked until it ends
# Statuses that move a message; `played` is a read, the rest (deleted, warning, tomorrow's) change nothing.
MEANING = {"sent": Status.SENT, "delivered": Status.DELIVERED, "read": Status.READ, "played": Status.READ}


def apply(receipts: Sequence[Receipt], *, app: int, now: datetime) -> int:
    """Apply receipts to the messages they are about; how many found theirs. The others are kept and tried again.

    A transaction, about ten statements, for every 2,000. `app` is the key of the app that signed the callback: a
    receipt only ever touches messages of that app's numbers.
    """
    return sum(
        _apply_batch(receipts[start : start + BATCH], app=app, now=now) for start in range(0, len(receipts), BATCH)
    )


def _apply_batch(receipts: Sequence[Receipt], *, app: int, now: datetime) -> int:
    with transaction.atomic():
        matched = _match(receipts, [app] * len(receipts))
        holds = _write([(receipts[place], *found) for place, found in matched.items()], now=now)
        _keep([receipt for place, receipt in enumerate(receipts) if place not in matched], app=app, now=now)
    settling.hold_all(holds, now=now)
    return len(matched)


def apply_kept(*, now: datetime, limit: int = RETRY_BATCH) -> int:
    """Try kept receipts again that are due, up to ten times `limit`; how many found their message."""
    found = 0
    for _ in range(RETRY_ROUNDS):
        tried, matched = _try_again(now=now, limit=limit)
        found += matched
        if tried < limit:
            break
    return found


def drop_old(*, now: datetime) -> int:
    """Delete receipts that matched nothing for thirty days; how many went this time."""
    old = UnmatchedReceipt.objects.filter(received_at__lt=now - KEPT).order_by("received_at")
    dropped, _ = UnmatchedReceipt.objects.filter(pk__in=old.values("pk")[:DROPPED_AT_ONCE]).delete()
    return dropped


def _try_again(*, now: datetime, limit: int) -> tuple[int, int]:
    """One batch of kept receipts that are due: how many there were, and how many found their message."""
    with transaction.atomic():
        due = UnmatchedReceipt.objects.filter(next_try_at__lte=now).order_by("next_try_at", "pk")
        kept = list(due.select_for_update(skip_locked=True)[:limit])
        if not kept:
            return 0, 0
        receipts = [_thaw(row.receipt) for row in kept]
        matched = _match(receipts, [row.app_id for row in kept])
        holds = _write([(receipts[place], *found) for place, found in matched.items()], now=now)
        UnmatchedReceipt.objects.filter(pk__in=[kept[place].pk for place in matched]).delete()
        _postpone([row for place, row in enumerate(kept) if place not in matched], now=now)
    settling.hold_all(holds, now=now)
    return len(kept), len(matched)


def _match(receipts: Sequence[Receipt], apps: Sequence[int]) -> dict[int, tuple[int, int | None]]:
    """For each place in `receipts` the (message, attempt) that it is about: by our id, else by the wamid."""
    named = read_callback_data([receipt.callback_data for receipt in receipts])
    ids = [found[0] for found in named if found]
    wamids = [receipt.wamid for receipt, found in zip(receipts, named, strict=True) if not found]
    owners, by_wamid = _find(ids, wamids)
    matched: dict[int, tuple[int, int | None]] = {}
    for place, (receipt, found, app) in enumerate(zip(receipts, named, apps, strict=True)):
        message, attempt = found or (by_wamid.get(receipt.wamid), None)
        if message is None or message not in owners:
            continue
        owner, number = owners[message]
        if owner == app and receipt.phone_number_id in ("", number):
            matched[place] = (message, attempt)
    return matched


def _find(ids: list[int], wamids: list[str]) -> tuple[dict[int, tuple[int, str]], dict[str, int]]:
    """The (app, phone number id) of each message that is asked for, and the message of each wamid."""
    with connection.cursor() as cursor:
        cursor.execute(_FIND, [ids, wamids])
        rows = cursor.fetchall()
    return {key: (app, number) for key, _, app, number in rows}, {wamid: key for key, wamid, _, _ in rows if wamid}


def _write(matched: list[tuple[Receipt, int, int | None]], *, now: datetime) -> settling.Holds:
    """Apply receipts to their locked messages; the dispatches that are in trouble by what they say.

    Only a receipt that moves its message has consequences: what Meta repeats a day later would undo what people have
    repaired and resumed since.
    """
    holds: settling.Holds = {}
    stops: dict[int, datetime] = {}
    with ledger.changing({message for _, message, _ in matched}, now=now) as rows:
        for receipt, message, attempt in matched:
            row, verdict, at = rows[message], _verdict(receipt), _past(receipt.at, now)
            if not _moved(row, receipt, attempt=attempt, verdict=verdict, at=at) or verdict is None:
                continue
            if verdict.error_class in settling.HOLDS:
                holds[row.dispatch_id] = settling.hold_for(verdict)
            if verdict.error_class == ErrorClass.OPT_OUT:
                stops[row.contact_id] = max(at, stops.get(row.contact_id, at))
        if stops:
            consent.stop_marketing(stops, at=stops)
    return holds


def _moved(row: fates.Row, receipt: Receipt, *, attempt: int | None, verdict: Verdict | None, at: datetime) -> bool:
    """Apply a receipt to its message; whether its status is another one now."""
    before = row.status
    status = MEANING.get(receipt.status, receipt.status)
    if status in RECEIVED or verdict is not None:
        fates.receive(row, status, at=at, wamid=receipt.wamid, attempt=attempt, verdict=verdict)
    return row.status != before


def _verdict(receipt: Receipt) -> Verdict | None:
    return classify(receipt.error or {}) if receipt.status == "failed" else None


def _past(at: datetime, now: datetime) -> datetime:
    """Meta's clock, never ahead of ours."""
    return min(at, now)


def _keep(receipts: Sequence[Receipt], *, app: int, now: datetime) -> None:
    """Keep these for later. In the order of what is unique, so that two workers wait in one direction only."""
    rows = [
        UnmatchedReceipt(
            app_id=app,
            wamid=receipt.wamid,
            status=receipt.status[:20],
            receipt=asdict(receipt),
            received_at=now,
            next_try_at=now + RETRY,
        )
        for receipt in sorted(receipts, key=lambda receipt: (receipt.wamid, receipt.status[:20]))
    ]
    UnmatchedReceipt.objects.bulk_create(rows, ignore_conflicts=True)


def _postpone(kept: list[UnmatchedReceipt], *, now: datetime) -> None:
    for row in kept:
        row.next_try_at = now + max(RETRY, now - row.received_at)
    UnmatchedReceipt.objects.bulk_update(kept, ["next_try_at"])


def _thaw(frozen: dict[str, Any]) -> Receipt:
    known = {name: value for name, value in frozen.items() if name in _RECEIPT}  # an earlier version kept more
    return Receipt(**known | {"at": datetime.fromisoformat(frozen["at"]).astimezone(UTC)})


_RECEIPT = frozenset(field.name for field in fields(Receipt))
_FOUND = """
SELECT m.id, m.wamid, a.app_id, n.phone_number_id FROM messaging_message m
JOIN messaging_dispatch d ON d.id = m.dispatch_id
JOIN whatsapp_phonenumber n ON n.id = d.phone_number_id JOIN whatsapp_businessaccount a ON a.id = n.account_id
"""
_FIND = f"{_FOUND} WHERE m.id = ANY(%s::bigint[]) UNION ALL {_FOUND} WHERE m.wamid = ANY(%s::text[])"
