"""Leaving a sequence before its end: at once, with the reason on record, also while waiting."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from django.db import connection, transaction

from kaanha.messaging import queueing
from kaanha.messaging.models import PUT_OFF, WAITING, Status
from sequences.counting import Tally
from sequences.models import Enrollment, EnrollmentStatus, ExitReason, Outcome

BATCH = 5_000


def end(reasons: Mapping[int, str], *, now: datetime, tally: Tally | None = None) -> int:
    """End these enrollments, each for its reason; how many were still inside.

    A message of theirs that is still queued is withdrawn, one in flight goes. The last act of its transaction; a
    caller that brings a `tally` writes it after this.
    """
    if not reasons:
        return 0
    counts = tally or Tally()
    with transaction.atomic():
        leaving = _locked(list(reasons))
        queueing.withdraw([message for *_, message in leaving if message is not None], now=now)
        _write(leaving, reasons, now=now)
        for _, sequence, step, _ in leaving:
            counts.people(sequence, "exited")
            counts.step(step, Outcome.LEFT)
        if tally is None:
            counts.write()
    return len(leaving)


def everybody(sequence: int, up_to: int, reason: ExitReason, *, now: datetime, limit: int = BATCH) -> int:
    """End up to `limit` of those inside a sequence whose enrollment is not newer than `up_to`; how many there were."""
    with connection.cursor() as cursor:
        cursor.execute(_INSIDE, [sequence, up_to, limit])
        inside = [key for (key,) in cursor.fetchall()]
    end(dict.fromkeys(inside, reason), now=now)
    return len(inside)


def tie_loose_ends(*, now: datetime, limit: int = BATCH) -> int:
    """Look after messages that were in flight when their owner left or was paused; how many were withdrawn or put off.

    Meta may have refused one for now: then it is in the queue again, where it may not stay.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_LOOSE_ENDS, [limit])
            ends = cursor.fetchall()
        again = {
            status: [message for _, one, message, state in ends if one == status and state == Status.QUEUED]
            for status in (EnrollmentStatus.EXITED, EnrollmentStatus.PAUSED)
        }
        settled = [key for key, one, _, state in ends if one == EnrollmentStatus.EXITED and state not in WAITING]
        Enrollment.objects.filter(pk__in=settled).update(message=None)
        # One of the two at a time, for each ends with the counters.
        if again[EnrollmentStatus.EXITED]:
            return queueing.withdraw(again[EnrollmentStatus.EXITED], now=now)
        if again[EnrollmentStatus.PAUSED]:
            return queueing.put_off(again[EnrollmentStatus.PAUSED], until=None, now=now)
    return 0


def concerned_by(events: Collection[int]) -> dict[int, str]:
    """Enrollments that these events of contacts end, each with the reason: what came after they were enrolled.

    Or what still holds: events bear the time at which somebody wrote, or an import began, and come after others.
    """
    with connection.cursor() as cursor:
        cursor.execute(_CONCERNED, [list(events)])
        return dict(cursor.fetchall())


def answered(messages: Iterable[int]) -> dict[int, str]:
    """Enrollments that end because one of these messages was answered."""
    with connection.cursor() as cursor:
        cursor.execute(_ANSWERED, [list(messages)])
        return {key: ExitReason.REPLIED.value for (key,) in cursor.fetchall()}


def _locked(enrollments: list[int]) -> list[tuple[int, int, int, int | None]]:
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, [enrollments])
        return cursor.fetchall()


def _write(leaving: list[tuple[int, int, int, int | None]], reasons: Mapping[int, str], *, now: datetime) -> None:
    keys = [key for key, *_ in leaving]
    words = [str(reasons[key]) for key in keys]
    labels = [ExitReason(reasons[key]).label for key in keys]
    with connection.cursor() as cursor:
        cursor.execute(_CLOSE_RUNS, [now, keys, labels])
        cursor.execute(_EXIT, [now, keys, words])


_INSIDE = """
SELECT id FROM sequences_enrollment WHERE sequence_id = %s AND id <= %s AND ended_at IS NULL LIMIT %s
"""
_LOCK = """
SELECT id, sequence_id, step_id, message FROM sequences_enrollment
WHERE id = ANY(%s) AND ended_at IS NULL ORDER BY id FOR UPDATE
"""
_CLOSE_RUNS = """
UPDATE sequences_steprun r SET ended_at = %s, outcome = 'left', reason = leaving.reason
FROM unnest(%s::bigint[], %s::text[]) AS leaving (enrollment_id, reason)
WHERE r.enrollment_id = leaving.enrollment_id AND r.ended_at IS NULL
"""
_EXIT = """
UPDATE sequences_enrollment e
SET status = 'exited', exit_reason = leaving.reason, ended_at = %s, next_run_at = NULL,
  message = (SELECT m.id FROM messaging_message m WHERE m.id = e.message AND m.status = 'sending')
FROM unnest(%s::bigint[], %s::text[]) AS leaving (id, reason) WHERE e.id = leaving.id
"""
# Those put off already have nothing to be done about.
_LOOSE_ENDS = f"""
SELECT e.id, e.status, m.id, m.status FROM sequences_enrollment e JOIN messaging_message m ON m.id = e.message
WHERE e.status IN ('paused', 'exited') AND e.message IS NOT NULL
  AND NOT (e.status = 'paused' AND (m.status <> 'queued' OR m.due_at >= '{PUT_OFF:%Y-%m-%d %H:%M}+00'))
ORDER BY e.id LIMIT %s FOR UPDATE OF e SKIP LOCKED
"""
# The events first: joined by their contacts each would be looked for in the whole list, 10,000 times 10,000.
_CONCERNED = """
WITH happened AS MATERIALIZED (
  SELECT id, kind, contact_id, tag_id, at FROM contacts_contactevent
  WHERE id = ANY(%s) AND kind IN ('opted_out', 'deleted', 'tag_added')
)
SELECT DISTINCT ON (e.id) e.id,
  CASE v.kind WHEN 'opted_out' THEN 'opted_out' WHEN 'deleted' THEN 'deleted' ELSE 'exit_tag' END
FROM happened v
JOIN sequences_enrollment e ON e.contact_id = v.contact_id AND e.ended_at IS NULL
JOIN sequences_sequence s ON s.id = e.sequence_id
JOIN contacts_contact c ON c.id = v.contact_id
WHERE CASE v.kind
  WHEN 'opted_out' THEN e.enrolled_at <= v.at OR NOT c.opted_in
  WHEN 'deleted' THEN e.enrolled_at <= v.at OR c.deleted_at IS NOT NULL
  WHEN 'tag_added' THEN v.tag_id = s.exit_tag_id AND (e.enrolled_at <= v.at OR EXISTS (
    SELECT FROM contacts_contacttag h WHERE h.contact_id = c.id AND h.tag_id = v.tag_id))
  ELSE false END
ORDER BY e.id, v.id
"""
_ANSWERED = """
SELECT DISTINCT e.id FROM sequences_steprun r
JOIN sequences_enrollment e ON e.id = r.enrollment_id AND e.ended_at IS NULL
JOIN sequences_sequence s ON s.id = e.sequence_id AND s.exit_on_reply
JOIN messaging_message m ON m.id = r.message AND m.replied_at IS NOT NULL
WHERE r.message = ANY(%s)
"""
