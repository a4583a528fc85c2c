"""Slots: at most `SEND_SLOTS` processes send for one phone number at a time, by leases in PostgreSQL."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection

from kaanha.messaging.models import SendSlot

LEASE = timedelta(seconds=10)
RENEWAL = timedelta(seconds=3)


def acquire(phone_number_id: int, holder: str, *, now: datetime) -> int | None:
    """A free slot of the number, leased to `holder` for ten seconds; None when all are taken."""
    for slot in range(settings.SEND_SLOTS):
        with connection.cursor() as cursor:
            cursor.execute(_ACQUIRE, [phone_number_id, slot, holder, now + LEASE, now, holder])
            if cursor.rowcount:
                return slot
    return None


def renew(phone_number_id: int, slot: int, holder: str, *, now: datetime) -> bool:
    """Ten more seconds; False if the slot has gone to somebody else."""
    held = SendSlot.objects.filter(phone_number=phone_number_id, slot=slot, holder=holder)
    return bool(held.update(leased_until=now + LEASE))


def release(phone_number_id: int, slot: int, holder: str, *, now: datetime) -> None:
    SendSlot.objects.filter(phone_number=phone_number_id, slot=slot, holder=holder).update(leased_until=now)


_ACQUIRE = """
INSERT INTO messaging_sendslot AS s (phone_number_id, slot, holder, leased_until) VALUES (%s, %s, %s, %s)
ON CONFLICT (phone_number_id, slot) DO UPDATE SET holder = excluded.holder, leased_until = excluded.leased_until
WHERE s.leased_until <= %s OR s.holder = %s
"""
