"""Enrolling: everybody at most once, only whom we may message, and every refusal on record. In sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence as Listed
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet

from contacts.models import Contact, Tag
from kaanha.lib.errors import Refusal
from kaanha.organizations import audit
from kaanha.webhooks.models import Kind
from sequences import customer_news, locks
from sequences.counting import Tally
from sequences.models import Code, Intake, IntakeContact, Sequence, Status

BATCH = 10_000

SENTENCES: dict[str, str] = {
    Code.ALREADY_ENROLLED: "The contact has been enrolled in this sequence before: each contact takes it once.",
    Code.NOT_OPTED_IN: "The contact has not opted in, or has opted out: only opted-in contacts can be enrolled.",
    Code.CONTACT_DELETED: "The contact is deleted: create or import it again first.",
    Code.CONTACT_NOT_FOUND: "There is no such contact: create it first.",
    Code.SEQUENCE_NOT_ACTIVE: "The sequence is not active: activate or resume it first.",
    Code.EXIT_TAG: "The contact holds the sequence's exit tag: take it off first.",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one contact; `code` is empty for those who are enrolled."""

    contact_id: int
    enrollment_id: int | None
    code: str


def enroll(sequence: Sequence, contact_ids: Listed[int], *, source: str, now: datetime) -> list[Outcome]:
    """Enroll these contacts; an outcome for each, in the order given. Refusal unless the sequence is active.

    A contact that comes twice is enrolled once. The number of queries doesn't depend on the number of contacts.
    """
    with transaction.atomic():
        _require_active(sequence)
        tally = Tally()
        wanted = {
            "sequence": sequence.pk,
            "contacts": list(dict.fromkeys(contact_ids)),
            "source": str(source),
            "at": now,
        }
        found = {one.contact_id: one for _, one in enter(_THESE, wanted, now=now, tally=tally)}
        if enrolled := sum(not one.code for one in found.values()):
            audit.record("sequence.enrolled", sequence, contacts=enrolled, source=str(source))
        tally.write()
    outcomes = []
    for contact in contact_ids:
        outcomes.append(found.get(contact) or Outcome(contact, None, Code.CONTACT_NOT_FOUND.value))
        if contact in found:
            found[contact] = Outcome(contact, None, found[contact].code or Code.ALREADY_ENROLLED.value)
    return outcomes


def ask_for_holders(sequence: Sequence, tag: Tag, *, source: str, now: datetime) -> Intake:
    """Have the sweep enroll everybody who holds `tag`, batch by batch. Refusal unless the sequence is active."""
    with transaction.atomic():
        _require_active(sequence)
        intake: Intake = Intake.objects.create(
            organization_id=sequence.organization_id, sequence=sequence, tag=tag, source=source, asked_at=now
        )
    return intake


def ask_for(sequence: Sequence, contacts: QuerySet[Contact], *, source: str, now: datetime) -> int:
    """Have the sweep enroll these contacts, batch by batch; how many they are. Refusal unless the sequence is active.

    They are written down as they are found now, in one statement: a hundred thousand take about a second.
    """
    chosen, parameters = contacts.order_by().values_list("pk").query.sql_with_params()
    with transaction.atomic(), connection.cursor() as cursor:
        _require_active(sequence)
        intake = Intake.objects.create(
            organization_id=sequence.organization_id, sequence=sequence, source=source, asked_at=now
        )
        cursor.execute(_CHOOSE.format(chosen=chosen), [intake.pk, *parameters])
        count: int = cursor.rowcount
        audit.record("sequence.enrolled", sequence, contacts=count, source=str(source))
    return count


def drop_requests(sequence: Sequence, *, now: datetime) -> None:
    """End the open requests of a sequence that somebody has alone; whoever isn't decided yet never will be."""
    open_ones = Intake.objects.filter(sequence=sequence, finished_at=None)
    IntakeContact.objects.filter(intake__in=list(open_ones.values_list("pk", flat=True))).delete()
    open_ones.update(finished_at=now)


def take_in(*, now: datetime, limit: int = BATCH) -> int:
    """Carry the oldest open request on by a batch; how many contacts were decided."""
    with transaction.atomic():
        open_ones = Intake.objects.filter(finished_at=None)
        # Sequences before requests: whoever archives one has it alone, and then ends its requests.
        free = locks.share_free(set(open_ones.values_list("sequence", flat=True)))
        waiting = open_ones.filter(sequence__in=free).select_for_update(skip_locked=True)
        intake = waiting.order_by("pk").first()
        if intake is None:
            return 0
        holders = _next(intake, limit)
        tally = Tally()
        wanted = {"sequence": intake.sequence_id, "contacts": holders, "source": intake.source, "at": now}
        outcomes = [one for _, one in enter(_THESE, wanted, now=now, tally=tally)] if holders else []
        enrolled = sum(not one.code for one in outcomes)
        Intake.objects.filter(pk=intake.pk).update(
            after=holders[-1] if holders else intake.after,
            enrolled=intake.enrolled + enrolled,
            refused=intake.refused + len(outcomes) - enrolled,
            finished_at=None if len(holders) == limit else now,
        )
        IntakeContact.objects.filter(intake=intake, contact__in=holders).delete()
        tally.write()
    return len(holders) or 1


def _next(intake: Intake, limit: int) -> list[int]:
    """The contacts of a request that are to be decided next, in the order of their keys."""
    statement, whose = (_CHOSEN, intake.pk) if intake.tag_id is None else (_HOLDERS, intake.tag_id)
    with connection.cursor() as cursor:
        cursor.execute(statement, [whose, intake.after, limit])
        return [key for (key,) in cursor.fetchall()]


def enter(wanted: str, parameters: dict[str, Any], *, now: datetime, tally: Tally) -> list[tuple[int, Outcome]]:
    """Decide who is `wanted`: (sequence, outcome) for each. Call it in a transaction; `tally` is for its end.

    `wanted` is a SELECT of (sequence_id, contact_id, source, at) with its `parameters`; `at` is the cause, from which
    the first delay counts. Contacts of another organization than the sequence's are left out. Three statements: they
    judge and enroll, record refusals, and ask who listens; two more where somebody does. The unique constraint decides
    between racers.
    """
    with connection.cursor() as cursor:
        cursor.execute(_ENTER.format(wanted=wanted), parameters)
        decided = cursor.fetchall()
        refused = [(sequence, contact, code, source) for sequence, contact, source, _, _, code in decided if code]
        if refused:
            cursor.execute(_REFUSE, [now, *map(list, zip(*refused, strict=True))])
    for (sequence, step), count in Counter((one[0], one[4]) for one in decided if not one[5]).items():
        tally.people(sequence, "enrolled", count)
        tally.step(step, "arrived", count)
    customer_news.tell(Kind.SEQUENCE_ENROLLED, [key for _, _, _, key, _, code in decided if not code], now=now)
    return [(sequence, Outcome(contact, key, code)) for sequence, contact, _, key, _, code in decided]


def _require_active(sequence: Sequence) -> None:
    """Look again, and keep it so until the end of the transaction."""
    locks.share([sequence.pk])
    with connection.cursor() as cursor:
        cursor.execute("SELECT status FROM sequences_sequence WHERE id = %s", [sequence.pk])
        row = cursor.fetchone()
    if row is None or row[0] != Status.ACTIVE:
        status = Status(row[0]).label.lower() if row else "gone"
        raise Refusal(
            f"Sequence {sequence.name!r} is {status}: only an active one takes people in. Activate or resume it first.",
            code=Code.SEQUENCE_NOT_ACTIVE.value,
        )


_THESE = """
SELECT %(sequence)s::bigint, asked.contact_id, %(source)s::text, %(at)s::timestamptz
FROM unnest(%(contacts)s::bigint[]) AS asked (contact_id)
"""
_HOLDERS = """
SELECT contact_id FROM contacts_contacttag WHERE tag_id = %s AND contact_id > %s ORDER BY contact_id LIMIT %s
"""
_CHOSEN = """
SELECT contact_id FROM sequences_intakecontact WHERE intake_id = %s AND contact_id > %s ORDER BY contact_id LIMIT %s
"""
_CHOOSE = """
INSERT INTO sequences_intakecontact (intake_id, contact_id) SELECT %s, id FROM ({chosen}) AS chosen (id)
ON CONFLICT DO NOTHING
"""
# Whom somebody else enrolled since we looked isn't among the entered: the first wins. The timer is set to the cause:
# whatever comes late is overdue from the first step on. The join is FULL to be one by hash: PostgreSQL takes both sides
# for a few rows, and would look for each of ten thousand among all the others.
_ENTER = """
WITH wanted (sequence_id, contact_id, source, at) AS MATERIALIZED ({wanted}), judged AS MATERIALIZED (
  SELECT DISTINCT ON (w.sequence_id, w.contact_id) w.sequence_id, w.contact_id, w.source, w.at,
    CASE
      WHEN c.deleted_at IS NOT NULL THEN 'contact_deleted'
      WHEN EXISTS (SELECT FROM sequences_enrollment e WHERE e.sequence_id = s.id AND e.contact_id = c.id)
        THEN 'already_enrolled'
      WHEN s.status IN ('draft', 'archived') THEN 'sequence_not_active'
      WHEN NOT c.opted_in THEN 'not_opted_in'
      WHEN EXISTS (SELECT FROM contacts_contacttag h WHERE h.contact_id = c.id AND h.tag_id = s.exit_tag_id)
        THEN 'exit_tag'
      ELSE '' END AS code
  FROM wanted w
  JOIN sequences_sequence s ON s.id = w.sequence_id
  JOIN contacts_contact c ON c.id = w.contact_id AND c.organization_id = s.organization_id
  ORDER BY w.sequence_id, w.contact_id, w.at
), entered AS (
  INSERT INTO sequences_enrollment
    (organization_id, sequence_id, contact_id, revision_id, step_id, status, exit_reason, source,
     enrolled_at, since, next_run_at)
  SELECT r.organization_id, j.sequence_id, j.contact_id, r.id, first.id, 'active', '', j.source, j.at, j.at, j.at
  FROM judged j
  JOIN sequences_revision r ON r.sequence_id = j.sequence_id AND r.superseded_at IS NULL
  JOIN sequences_step first ON first.revision_id = r.id AND first.position = 0
  WHERE j.code = ''
  ORDER BY j.sequence_id, j.contact_id
  ON CONFLICT (sequence_id, contact_id) DO NOTHING RETURNING id, sequence_id, contact_id, step_id
)
SELECT j.sequence_id, j.contact_id, j.source, e.id, e.step_id,
  CASE WHEN j.code = '' AND e.id IS NULL THEN 'already_enrolled' ELSE j.code END
FROM judged j FULL JOIN entered e ON e.sequence_id = j.sequence_id AND e.contact_id = j.contact_id
ORDER BY j.sequence_id, j.contact_id
"""
_REFUSE = """
INSERT INTO sequences_enrollmentrefusal (sequence_id, contact_id, code, source, at)
SELECT sequence_id, contact_id, code, source, %s
FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[]) AS new (sequence_id, contact_id, code, source)
ORDER BY sequence_id, contact_id
ON CONFLICT (sequence_id, contact_id, code) DO UPDATE SET at = excluded.at, source = excluded.source
"""
