"""Dropping what is old: events with all their deliveries and attempts, and endpoints that were deleted."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import connection, transaction

from kaanha.webhooks.models import Delivery, Endpoint

AT_ONCE = 2_000  # events looked at in one statement


def drop_old(*, now: datetime) -> int:
    """Drop events of more than `WEBHOOKS_KEEP` ago, batch by batch, each a transaction; how many.

    Walks up the primary key, which is the order in which events are recorded, and ends where none is old. An event of
    which a delivery is pending, or held by somebody just now, stays.
    """
    before = now - settings.WEBHOOKS_KEEP
    dropped, after = 0, 0
    while batch := _drop(after, before):
        after, count = batch
        dropped += count
    _drop_endpoints(before)
    return dropped


def _drop(after: int, before: datetime) -> tuple[int, int] | None:
    """Drop what is old of the next events beyond key `after`: their last key, and how many; None where none is old."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_OLD, {"after": after, "before": before, "limit": AT_ONCE})
        last, old, ended = cursor.fetchone()
        if not old:
            return None
        cursor.execute(_DROP, {"old": old, "ended": ended})
        return last, cursor.rowcount


def _drop_endpoints(before: datetime) -> None:
    """Endpoints whose last delivery is gone, too. Nobody records an event for them any more."""
    for endpoint in Endpoint.objects.filter(deleted_at__lt=before):
        if not Delivery.objects.filter(endpoint=endpoint).exists():
            endpoint.delete()


# The last key, the old events and those of their deliveries that have come to an end, locked: a replay that comes
# first keeps its event, one that comes later finds nothing.
_OLD = """
WITH next AS MATERIALIZED (
  SELECT id, occurred_at FROM webhooks_event WHERE id > %(after)s ORDER BY id LIMIT %(limit)s
), ended AS MATERIALIZED (
  SELECT id FROM webhooks_delivery
  WHERE event_id = ANY(ARRAY(SELECT id FROM next WHERE occurred_at < %(before)s)) AND status <> 'pending'
  FOR UPDATE SKIP LOCKED
)
SELECT (SELECT max(id) FROM next), ARRAY(SELECT id FROM next WHERE occurred_at < %(before)s),
  ARRAY(SELECT id FROM ended)
"""
_DROP = """
WITH droppable AS MATERIALIZED (
  SELECT old.id FROM unnest(%(old)s::bigint[]) AS old (id) WHERE NOT EXISTS (
    SELECT FROM webhooks_delivery d WHERE d.event_id = old.id AND d.id <> ALL(%(ended)s::bigint[]))
), deliveries AS (
  DELETE FROM webhooks_delivery d USING droppable WHERE d.event_id = droppable.id RETURNING d.id
), attempts AS (
  DELETE FROM webhooks_attempt a USING deliveries WHERE a.delivery_id = deliveries.id
)
DELETE FROM webhooks_event e USING droppable WHERE e.id = droppable.id
"""
