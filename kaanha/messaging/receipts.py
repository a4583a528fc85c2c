"""Receipts: what Meta's callbacks say of our messages, applied in batches, in any order, as often as they come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection, transaction

from kaanha.messaging import fates, ledger, settling
from kaanha.messaging.claiming import read_callback_data
from kaanha.messaging.models import RECEIVED, Status, UnmatchedReceipt
from kaanha.whatsapp.cloud_api.errors import Verdict, classify
from kaanha.whatsapp.cloud_api.events import Receipt
from kaanha.whatsapp.models import PhoneNumber

KEPT = timedelta(days=30)  # an unmatched receipt
RETRY = timedelta(seconds=5)  # before an unmatched receipt is tried again, then twice as long each time
RETRY_BATCH = 500
# Statuses that move a message; `played` is a read, the rest (deleted, warning, tomorrow's) change nothing.
MEANING = {"sent": Status.SENT, "delivered": Status.DELIVERED, "read": Status.READ, "played": Status.READ}


def apply(receipts: Sequence[Receipt], *, now: datetime) -> int:
    """Apply receipts to the messages they are about; how many found theirs. The others are kept and tried again.

    One transaction, about ten statements whatever the number. A receipt only ever touches messages of the phone number
    that it names.
    """
    with transaction.atomic():
        matched = _match(receipts)
        _write([(receipt, *matched[place]) for place, receipt in enumerate(receipts) if place in matched], now=now)
        _keep([receipt for place, receipt in enumerate(receipts) if place not in matched], now=now)
    return len(matched)


def apply_kept(*, now: datetime, limit: int = RETRY_BATCH) -> int:
    """Try kept receipts again that are due; how many found their message. Those over 30 days old are dropped."""
    UnmatchedReceipt.objects.filter(received_at__lt=now - KEPT).delete()
    with transaction.atomic():
        due = UnmatchedReceipt.objects.filter(next_try_at__lte=now).order_by("next_try_at", "pk")
        kept = list(due.select_for_update(skip_locked=True)[:limit])
        receipts = [_thaw(row.receipt) for row in kept]
        matched = _match(receipts)
        _write([(receipts[place], *found) for place, found in matched.items()], now=now)
        UnmatchedReceipt.objects.filter(pk__in=[kept[place].pk for place in matched]).delete()
        _postpone([row for place, row in enumerate(kept) if place not in matched], now=now)
    return len(matched)


def _match(receipts: Sequence[Receipt]) -> dict[int, tuple[int, int | None]]:
    """For each place in `receipts` the (message, attempt) that it is about: by our id, else by the wamid."""
    by_id = {place: read_callback_data(receipt.callback_data) for place, receipt in enumerate(receipts)}
    ids = [named[0] for named in by_id.values() if named]
    wamids = [receipt.wamid for place, receipt in enumerate(receipts) if by_id[place] is None]
    with connection.cursor() as cursor:
        cursor.execute(_FIND, [ids, wamids])
        found = cursor.fetchall()
    numbers = {message: number for message, _, number in found}
    messages = {(wamid, number): message for message, wamid, number in found}
    matched: dict[int, tuple[int, int | None]] = {}
    for place, receipt in enumerate(receipts):
        named = by_id[place]
        if named is None:
            message = messages.get((receipt.wamid, receipt.phone_number_id))
            if message is not None:
                matched[place] = (message, None)
        elif numbers.get(named[0]) == receipt.phone_number_id:
            matched[place] = named
    return matched


def _write(matched: list[tuple[Receipt, int, int | None]], *, now: datetime) -> None:
    verdicts = [_verdict(receipt) for receipt, _, _ in matched]
    with ledger.changing({message for _, message, _ in matched}, now=now) as rows:
        for (receipt, message, attempt), verdict in zip(matched, verdicts, strict=True):
            status = MEANING.get(receipt.status, receipt.status)
            if status in RECEIVED or verdict is not None:
                fates.receive(
                    rows[message],
                    status,
                    at=_past(receipt.at, now),
                    wamid=receipt.wamid,
                    attempt=attempt,
                    verdict=verdict,
                )
        settling.stop_marketing(verdicts, [rows[message].contact_id for _, message, _ in matched], at=now)


def _verdict(receipt: Receipt) -> Verdict | None:
    return classify(receipt.error or {}) if receipt.status == "failed" else None


def _past(at: datetime, now: datetime) -> datetime:
    """Meta's clock, never ahead of ours."""
    return min(at, now)


def _keep(receipts: Iterable[Receipt], *, now: datetime) -> None:
    numbers = dict(
        PhoneNumber.objects.filter(phone_number_id__in={r.phone_number_id for r in receipts}).values_list(
            "phone_number_id", "pk"
        )
    )
    UnmatchedReceipt.objects.bulk_create(
        [
            UnmatchedReceipt(
                phone_number_id=numbers[receipt.phone_number_id],
                wamid=receipt.wamid,
                status=receipt.status[:20],
                receipt=asdict(receipt),
                received_at=now,
                next_try_at=now + RETRY,
            )
            for receipt in receipts
            if receipt.phone_number_id in numbers
        ],
        ignore_conflicts=True,
    )


def _postpone(kept: list[UnmatchedReceipt], *, now: datetime) -> None:
    for row in kept:
        row.next_try_at = now + max(RETRY, now - row.received_at)
    UnmatchedReceipt.objects.bulk_update(kept, ["next_try_at"])


def _thaw(frozen: dict[str, Any]) -> Receipt:
    return Receipt(**frozen | {"at": datetime.fromisoformat(frozen["at"]).astimezone(UTC)})


_FIND = """
SELECT m.id, m.wamid, n.phone_number_id FROM messaging_message m
JOIN messaging_dispatch d ON d.id = m.dispatch_id JOIN whatsapp_phonenumber n ON n.id = d.phone_number_id
WHERE m.id = ANY(%s::bigint[])
UNION ALL
SELECT m.id, m.wamid, n.phone_number_id FROM messaging_message m
JOIN messaging_dispatch d ON d.id = m.dispatch_id JOIN whatsapp_phonenumber n ON n.id = d.phone_number_id
WHERE m.wamid = ANY(%s::text[])
"""
