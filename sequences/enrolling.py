"""Enrolling: everybody at most once, only whom we may message, and every refusal on record. In sets."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Listed
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet

from contacts.models import Contact, Tag
from kaanha.lib import cursors, public_ids
from kaanha.lib.errors import Refusal
from kaanha.organizations import audit
from kaanha.webhooks.models import Event
from sequences import locks
from sequences.counting import Tally
from sequences.models import Code, Enrollment, Intake, IntakeContact, Sequence, Status

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
    the first delay counts. Contacts of another organization than the sequence's are left out. Four statements: they
    judge, enroll, record refusals and tell. The unique constraint decides between racers.
    """
    with cursors.for_many() as cursor:
        cursor.execute(_JUDGE.format(wanted=wanted), parameters)
        judged = [_Judged(*values) for values in cursor.fetchall()]
        entering = [one for one in judged if not one.code]
        cursor.execute(_ENTER, _columns([(one.sequence, one.contact, one.source, one.at) for one in entering], 4))
        entered = {(sequence, contact): (key, step) for key, sequence, contact, step in cursor.fetchall()}
        decided = [(one, one.code or _verdict(one, entered)) for one in judged]
        refused = [(one.sequence, one.contact, code, one.source) for one, code in decided if code]
        if refused:
            cursor.execute(_REFUSE, [now, *_columns(refused, 4)])
    for (sequence, _), (_, step) in entered.items():
        tally.people(sequence, "enrolled")
        tally.step(step, "arrived")
    keys = {pair: key for pair, (key, _) in entered.items()}
    _tell([one for one, code in decided if not code], keys, now=now)
    return [(one.sequence, Outcome(one.contact, keys.get(one.pair), code)) for one, code in decided]


@dataclass(frozen=True, slots=True)
class _Judged:
    """A contact that is wanted, and why it may not be enrolled; an empty `code` if it may."""

    sequence: int
    contact: int
    source: str
    at: datetime
    organization: int
    name: str
    phone: str | None
    code: str

    @property
    def pair(self) -> tuple[int, int]:
        return self.sequence, self.contact


def _verdict(one: _Judged, entered: Mapping[tuple[int, int], object]) -> str:
    """Somebody else enrolled the contact since we looked: the first wins."""
    return "" if one.pair in entered else Code.ALREADY_ENROLLED.value


def _columns(rows: Listed[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def _tell(enrolled: Listed[_Judged], keys: Mapping[tuple[int, int], int], *, now: datetime) -> None:
    Event.record_many(
        [
            (
                one.organization,
                "sequence.enrolled",
                told(one.sequence, one.name, one.contact, one.phone, keys[one.pair]) | {"source": one.source},
            )
            for one in enrolled
        ],
        at=now,
    )


def told(sequence: int, name: str, contact: int, phone: str | None, enrollment: int) -> dict[str, Any]:
    """What an event says about an enrollment."""
    return {
        "enrollmentId": public_ids.encode(Enrollment.PUBLIC_KIND, enrollment),
        "sequenceId": public_ids.encode(Sequence.PUBLIC_KIND, sequence),
        "sequence": name,
        "contactId": public_ids.encode(Contact.PUBLIC_KIND, contact),
        "phone": phone,
    }


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
_JUDGE = """
WITH wanted (sequence_id, contact_id, source, at) AS MATERIALIZED ({wanted})
SELECT DISTINCT ON (w.sequence_id, w.contact_id) w.sequence_id, w.contact_id, w.source, w.at,
  s.organization_id, s.name, c.phone,
  CASE
    WHEN c.deleted_at IS NOT NULL THEN 'contact_deleted'
    WHEN EXISTS (SELECT FROM sequences_enrollment e WHERE e.sequence_id = s.id AND e.contact_id = c.id)
      THEN 'already_enrolled'
    WHEN s.status IN ('draft', 'archived') THEN 'sequence_not_active'
    WHEN NOT c.opted_in THEN 'not_opted_in'
    WHEN EXISTS (SELECT FROM contacts_contacttag h WHERE h.contact_id = c.id AND h.tag_id = s.exit_tag_id)
      THEN 'exit_tag'
    ELSE '' END
FROM wanted w
JOIN sequences_sequence s ON s.id = w.sequence_id
JOIN contacts_contact c ON c.id = w.contact_id AND c.organization_id = s.organization_id
ORDER BY w.sequence_id, w.contact_id, w.at
"""
# A timer set to the cause: whatever comes late is overdue from the first step on.
_ENTER = """
INSERT INTO sequences_enrollment
  (organization_id, sequence_id, contact_id, revision_id, step_id, status, exit_reason, source,
   enrolled_at, since, next_run_at)
SELECT r.organization_id, new.sequence_id, new.contact_id, r.id, first.id, 'active', '', new.source,
  new.at, new.at, new.at
FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::timestamptz[]) AS new (sequence_id, contact_id, source, at)
JOIN sequences_revision r ON r.sequence_id = new.sequence_id AND r.superseded_at IS NULL
JOIN sequences_step first ON first.revision_id = r.id AND first.position = 0
ORDER BY new.sequence_id, new.contact_id
ON CONFLICT (sequence_id, contact_id) DO NOTHING RETURNING id, sequence_id, contact_id, step_id
"""
_REFUSE = """
INSERT INTO sequences_enrollmentrefusal (sequence_id, contact_id, code, source, at)
SELECT sequence_id, contact_id, code, source, %s
FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[]) AS new (sequence_id, contact_id, code, source)
ORDER BY sequence_id, contact_id
ON CONFLICT (sequence_id, contact_id, code) DO UPDATE SET at = excluded.at, source = excluded.source
"""
