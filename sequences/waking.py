"""What became of the messages of steps, read up: it wakes who waited for it, and ends whom a reply ends."""

from __future__ import annotations

from datetime import datetime

from django.db import connection, transaction

from sequences import exiting

BATCH = 5_000


def wake(*, now: datetime, limit: int = BATCH) -> int:
    """Take up to `limit` news of messages; how many. Whoever waited for one of them is due now."""
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute(_TAKE, [limit])
            messages = [key for (key,) in cursor.fetchall()]
            leaving = exiting.answered(messages)
            if messages:
                cursor.execute(_WAKE, [messages, list(leaving), now])
        exiting.end(leaving, now=now)
    return len(messages)


_TAKE = """
DELETE FROM messaging_stepnews WHERE id IN (
  SELECT id FROM messaging_stepnews ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)
RETURNING message_id
"""
# Those who leave are locked with the others: a second pass of locks would deadlock with another set of people.
_WAKE = """
WITH waiting AS MATERIALIZED (
  SELECT id FROM sequences_enrollment WHERE (message = ANY(%s) OR id = ANY(%s)) AND ended_at IS NULL
  ORDER BY id FOR UPDATE
)
UPDATE sequences_enrollment e SET next_run_at = least(e.next_run_at, %s) FROM waiting WHERE e.id = waiting.id
"""
