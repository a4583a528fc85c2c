"""Sweeps: what nobody else will finish. Each takes a bounded batch, may run twice at once, and is cheap when idle."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import connection

from kaanha.messaging import fates, ledger
from kaanha.messaging.claiming import WORK
from kaanha.messaging.models import Dispatch, SkipReason, Status

BATCH = 500
LISTED_AFTER = timedelta(minutes=15)  # an unconfirmed message is then shown to people


def expire_leases(*, now: datetime, limit: int = BATCH) -> int:
    """Rows whose process died with the request on its way become unconfirmed: Meta may or may not have them."""
    with connection.cursor() as cursor:
        cursor.execute(_EXPIRED, [now, limit])
        ids = [key for (key,) in cursor.fetchall()]
    with ledger.changing(ids, now=now, skip_locked=True) as rows:
        lost = [row for row in rows.values() if row.lease_until is not None and row.lease_until < now]
        for row in lost:
            fates.lose_sight(row, "The process that was sending it ended before Meta's answer was heard.", now=now)
    return len(lost)


def skip_canceled(*, now: datetime, limit: int = BATCH) -> int:
    """Queued rows of canceled dispatches become skipped."""
    with connection.cursor() as cursor:
        cursor.execute(_CANCELED, [limit, limit])
        ids = [key for (key,) in cursor.fetchall()]
    with ledger.changing(ids, now=now, skip_locked=True) as rows:
        queued = [row for row in rows.values() if row.status == Status.QUEUED]
        for row in queued:
            fates.skip(row, SkipReason.CANCELED, now=now)
    return len(queued)


def give_up_held(*, now: datetime, limit: int = BATCH) -> int:
    """Queued rows of held requests and tests become failed, with the reason of the hold: nobody resumes those."""
    with connection.cursor() as cursor:
        cursor.execute(_HELD, [list(Dispatch.SINGLE), limit])
        held = dict(cursor.fetchall())
    with ledger.changing(held, now=now, skip_locked=True) as rows:
        queued = [row for row in rows.values() if row.status == Status.QUEUED]
        for row in queued:
            fates.give_up(row, held[row.id], now=now)
    return len(queued)


_EXPIRED = """
SELECT id FROM messaging_message WHERE lease_until IS NOT NULL AND lease_until < %s ORDER BY lease_until LIMIT %s
"""
# From dispatch to dispatch in the index of due rows: what is canceled and swept already costs nothing.
_CANCELED = f"""
{WORK} SELECT m.id FROM work JOIN messaging_dispatch d ON d.id = work.dispatch_id AND d.canceled_at IS NOT NULL,
LATERAL (SELECT id FROM messaging_message WHERE dispatch_id = d.id AND due_at IS NOT NULL LIMIT %s) m LIMIT %s
"""
_HELD = f"""
{WORK} SELECT m.id, d.hold_detail FROM work
JOIN messaging_dispatch d ON d.id = work.dispatch_id AND d.held_at IS NOT NULL AND d.kind = ANY(%s)
JOIN messaging_message m ON m.dispatch_id = d.id AND m.due_at IS NOT NULL LIMIT %s
"""
