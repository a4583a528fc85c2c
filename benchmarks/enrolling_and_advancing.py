"""Sequences in sets: enrolling by a trigger, and advancing who is due, against the bare SQL for the same rows.

python -m kaanha.servers -- python -m benchmarks.enrolling_and_advancing [--people 1000000] [--due 100000] [--rounds 3]

Works in a database of its own, which it drops at the end.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from benchmarks.databases import of_its_own

if TYPE_CHECKING:
    from contacts.models import Tag


def prepare(people: int) -> Tag:
    """An active sequence that a tag starts, and contacts who hold nothing yet; the tag."""
    from django.db import connection
    from django.utils import timezone

    from contacts.models import Tag
    from kaanha.organizations.models import Organization
    from kaanha.whatsapp.models import BusinessAccount, MetaApp, PhoneNumber, Portfolio
    from sequences import publishing
    from sequences.models import Sequence
    from templates_app.models import MessageTemplate

    owner = Organization.objects.create(name="Benchmark", slug="benchmark")
    app = MetaApp.objects.create(app_id="benchmark", secret="secret")  # noqa: S106
    portfolio = Portfolio.objects.create(organization=owner, meta_id="benchmark")
    account = BusinessAccount.objects.create(
        organization=owner,
        app=app,
        portfolio=portfolio,
        waba_id="benchmark",
        access_token="token",  # noqa: S106
    )
    number = PhoneNumber.objects.create(organization=owner, account=account, phone_number_id="benchmark")
    template = MessageTemplate.objects.create(
        organization=owner, account=account, name="welcome", language="en_US", category="UTILITY", status="APPROVED",
        components=[{"type": "BODY", "text": "Welcome."}],
    )  # fmt: skip
    tag = Tag.objects.create(organization=owner, name="cart")
    bought = Tag.objects.create(organization=owner, name="purchased")
    message = {"type": "message", "template": template.public_id}
    sequence: Sequence = Sequence.objects.create(
        organization=owner,
        name="Benchmark",
        phone_number=number,
        trigger="tag_added",
        trigger_tag=tag,
        draft=[
            {"id": "wait", "type": "delay", "delay": {"days": 1}},
            {"id": "if", "type": "condition", "if": {"tag": bought.public_id}, "yes": [{"id": "y"} | message]},
            {"id": "z"} | message,
        ],
    )
    publishing.activate(sequence, now=timezone.now())
    with connection.cursor() as cursor:
        cursor.execute(_PEOPLE, [owner.pk, people])
        cursor.execute(_BOUGHT, [bought.pk])
        cursor.execute("ANALYZE contacts_contact")
    return tag


def happen(tag: Tag) -> None:
    """Put the tag on everybody, as an import does: one event for each."""
    from django.db import connection
    from django.utils import timezone

    with connection.cursor() as cursor:
        cursor.execute(_EVENTS, [tag.organization_id, tag.pk, timezone.now()])
        cursor.execute("ANALYZE contacts_contactevent")


def timed(act: Callable[[], int]) -> tuple[int, float, float]:
    """Run `act` until it returns 0: rows, seconds, and seconds of CPU of this process."""
    rows, started, cpu = 0, time.perf_counter(), _cpu()
    while part := act():
        rows += part
    return rows, time.perf_counter() - started, _cpu() - cpu


def by_hand(statement: str) -> float:
    """Seconds that the bare statement takes; undone afterward."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        started = time.perf_counter()
        cursor.execute(statement)
        seconds = time.perf_counter() - started
        cursor.execute("ROLLBACK")
    return seconds


def statements(act: Callable[[], int]) -> int:
    """How many statements one batch takes."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        act()
    return len(captured)


def round_of(people: int, due: int) -> dict[str, float]:
    """One round: everybody is enrolled by events, then `due` of them are a day older."""
    from django.db import connection
    from django.utils import timezone

    from sequences import advancing, triggers

    tag = prepare(people)
    happen(tag)
    bare = by_hand(_ENROLL)
    first = statements(lambda: triggers.handle(now=timezone.now()))
    enrolled, seconds, cpu = timed(lambda: triggers.handle(now=timezone.now()))
    result = {
        "enroll rows/s": enrolled / seconds,
        "enroll cpu ms/row": cpu / enrolled * 1000,
        "enroll ratio": seconds / enrolled / (bare / people),
        "enroll statements": first,
    }
    now = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute(_LATER, [now + timedelta(days=9), due])
        cursor.execute("VACUUM ANALYZE sequences_enrollment")
    first = statements(lambda: advancing.advance(now=now))
    started, seconds, cpu = timed(lambda: advancing.advance(now=now))
    result |= {"start rows/s": started / seconds, "start cpu ms/row": cpu / started * 1000, "start statements": first}
    later = now + timedelta(days=2)
    bare = by_hand(_ADVANCE)
    first = statements(lambda: advancing.advance(now=later))
    advanced, seconds, cpu = timed(lambda: advancing.advance(now=later))
    return result | {
        "advance rows/s": advanced / seconds,
        "advance cpu ms/row": cpu / advanced * 1000,
        "advance ratio": seconds / advanced / (bare / due),
        "advance statements": first,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=1_000_000)
    parser.add_argument("--due", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    rounds = []
    for _ in range(asked.rounds):
        with of_its_own():
            rounds.append(round_of(asked.people, asked.due))
    # ruff: noqa: T201
    print(f"{asked.people:,} people enrolled by their events, {asked.due:,} of them advanced; {asked.rounds} rounds")
    for name in rounds[0]:
        values = [one[name] for one in rounds]
        print(f"{name:>20}: {statistics.median(values):>10,.2f}  ({min(values):,.2f} to {max(values):,.2f})")


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


_PEOPLE = """
INSERT INTO contacts_contact (organization_id, phone, country, name, email, attributes, opted_in, opt_in_source,
  opt_in_proof, opt_out_source, created_at, updated_at)
SELECT %s, '+9190' || lpad(n::text, 8, '0'), 'IN', 'Sample ' || n, '', '{}', true, 'import', '', '', now(), now()
FROM generate_series(1, %s) AS n
"""
_BOUGHT = """
INSERT INTO contacts_contacttag (contact_id, tag_id, added_at)
SELECT id, %s, now() FROM contacts_contact WHERE id %% 2 = 0
"""
_EVENTS = """
INSERT INTO contacts_contactevent (organization_id, kind, contact_id, tag_id, source, at)
SELECT %s, 'tag_added', id, %s, 'import', %s FROM contacts_contact ORDER BY id
"""
# The least that must be written: the enrollments, and the events marked.
_ENROLL = """
WITH marked AS (UPDATE contacts_contactevent SET handled_at = now() WHERE handled_at IS NULL RETURNING contact_id, at)
INSERT INTO sequences_enrollment (organization_id, sequence_id, contact_id, revision_id, step_id, status, exit_reason,
  source, enrolled_at, since, next_run_at)
SELECT s.organization_id, s.id, m.contact_id, r.id, st.id, 'active', '', 'tag_added', m.at, m.at, m.at
FROM marked m, sequences_sequence s JOIN sequences_revision r ON r.sequence_id = s.id
JOIN sequences_step st ON st.revision_id = r.id AND st.position = 0
"""
_LATER = """
UPDATE sequences_enrollment SET next_run_at = %s WHERE id >= (SELECT min(id) FROM sequences_enrollment) + %s
"""
# The least that a message step after a wait and a condition must write: two runs ended or added, a message, the move.
_ADVANCE = """
WITH due AS (SELECT * FROM sequences_enrollment WHERE next_run_at < now() + interval '3 days'),
ended AS (UPDATE sequences_steprun r SET ended_at = now(), outcome = 'waited' FROM due WHERE r.enrollment_id = due.id),
sent AS (
  INSERT INTO messaging_message (created_at, due_at, organization_id, dispatch_id, contact_id, template_id, status,
    skip_reason, error_text, error_in_callback, attempt, tries, held_by_meta)
  SELECT now(), now(), organization_id, 1, contact_id, 1, 'queued', '', '', false, 0, 0, false FROM due
  RETURNING id, contact_id),
taken AS (
  INSERT INTO sequences_steprun (enrollment_id, step_id, key, at, outcome, reason)
  SELECT due.id, due.step_id, key, now(), '', '' FROM due, (VALUES ('bare1'), ('bare2')) AS k (key))
UPDATE sequences_enrollment e SET message = sent.id, next_run_at = NULL, entered_at = now()
FROM sent WHERE sent.contact_id = e.contact_id
"""

if __name__ == "__main__":
    main()
