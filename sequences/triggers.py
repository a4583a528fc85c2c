"""What happened to contacts, read up: it enrolls people, ends enrollments and answers conditions. Each event once."""

from __future__ import annotations

from datetime import datetime

from django.db import connection, transaction

from sequences import enrolling, exiting, locks
from sequences.counting import Tally

BATCH = 10_000
# One process at a time decides events: an exit that follows an enrollment is decided after it.
LOCK = 0x5E90_E4CE
SEQUENCES = 200  # that may take people in, in a batch


def handle(*, now: datetime, limit: int = BATCH) -> int:
    """Decide up to `limit` events of contacts, oldest first; how many. None while another process is at it.

    A dozen statements, whatever the number of events. An event is decided against the revisions whose trigger was in
    force when it happened; whoever is enrolled takes the newest.
    """
    with transaction.atomic(durable=True):
        events = _share_sequences(_claim(limit))
        if events:
            tally = Tally()
            enrolling.enter(_TRIGGERED, {"events": events}, now=now, tally=tally)
            leaving = exiting.concerned_by(events)
            _wake(events, list(leaving), now)
            _mark(events, now)
            exiting.end(leaving, now=now, tally=tally)
            tally.write()
    return len(events)


def _claim(limit: int) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(_OPEN)
        if not cursor.fetchone()[0]:
            return []  # what most sweeps find
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
        if not cursor.fetchone()[0]:
            return []
        cursor.execute(_CLAIM, [limit])
        return [key for (key,) in cursor.fetchall()]


def _share_sequences(events: list[int]) -> list[int]:
    """Share what may take people in: archiving ends everybody inside, and must not miss those who enter now.

    The events up to the first for which there would be too many sequences: each takes a place in the table of locks.
    """
    sequences: set[int] = set()
    with connection.cursor() as cursor:
        cursor.execute(_CONCERNED, {"events": events})
        for event, sequence in cursor.fetchall():
            if sequence not in sequences and len(sequences) == SEQUENCES:
                events = [key for key in events if key < event]
                break
            sequences.add(sequence)
    locks.share(sequences)
    return events


def _wake(events: list[int], leaving: list[int], now: datetime) -> None:
    """Let those look again who wait in a condition for a tag that was put on; those who are `leaving` are locked, too.

    All in one order: a second pass of locks would deadlock with whoever locks the same people.
    """
    with connection.cursor() as cursor:
        cursor.execute(_WAKE, {"events": events, "leaving": leaving, "now": now})


def _mark(events: list[int], now: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE contacts_contactevent SET handled_at = %s WHERE id = ANY(%s)", [now, events])


_OPEN = "SELECT EXISTS (SELECT FROM contacts_contactevent WHERE handled_at IS NULL)"
_CLAIM = "SELECT id FROM contacts_contactevent WHERE handled_at IS NULL ORDER BY id LIMIT %s"
_MATCHING = """
SELECT r.sequence_id, v.contact_id, r.trigger, v.at {event}
FROM contacts_contactevent v
JOIN sequences_revision r ON r.organization_id = v.organization_id
  AND r.published_at <= v.at AND (r.superseded_at IS NULL OR v.at < r.superseded_at)
  AND ((v.kind = 'created' AND r.trigger = 'contact_created')
    OR (v.kind = 'tag_added' AND r.trigger = 'tag_added' AND r.trigger_tag_id = v.tag_id))
JOIN sequences_sequence s ON s.id = r.sequence_id AND (s.archived_at IS NULL OR v.at < s.archived_at)
WHERE v.id = ANY(%(events)s)
"""
_TRIGGERED, _CONCERNED = (
    _MATCHING.format(event=""),
    f"SELECT id, sequence_id FROM ({_MATCHING.format(event=', v.id')}) AS t ORDER BY id",
)
# Also who is due already: it may be being looked at just now, by what was true before.
_WAKE = """
WITH waiting AS MATERIALIZED (
  SELECT e.id FROM sequences_enrollment e JOIN sequences_step st ON st.id = e.step_id
  WHERE e.ended_at IS NULL AND e.entered_at IS NOT NULL AND st.kind = 'condition' AND (e.contact_id, st.tag_id) IN (
    SELECT contact_id, tag_id FROM contacts_contactevent WHERE id = ANY(%(events)s) AND kind = 'tag_added')
), locked AS MATERIALIZED (
  SELECT id FROM sequences_enrollment
  WHERE id IN (SELECT id FROM waiting UNION ALL SELECT unnest(%(leaving)s::bigint[])) AND ended_at IS NULL
  ORDER BY id FOR UPDATE
)
UPDATE sequences_enrollment e SET next_run_at = least(e.next_run_at, %(now)s)
FROM locked WHERE e.id = locked.id AND e.entered_at IS NOT NULL
"""
