"""A batch of enrollments that are due: claimed, with everything about them that walking asks for. Read in sets."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from kaanha.lib import cursors
from kaanha.messaging import claiming
from kaanha.messaging.policy import Addressee
from sequences import locks, trees
from sequences.conditions import Letter
from sequences.models import Step
from sequences.tree_nodes import Condition, Field, HasTag, Node
from sequences.walking import Policy, Stop

SEQUENCES = 200  # in a batch


@dataclass(frozen=True, slots=True)
class Course:
    """A sequence, as far as walking needs it."""

    id: int
    exit_tag: int | None
    policy: Policy
    zone: str


@dataclass(frozen=True, slots=True)
class Row:
    """A claimed enrollment."""

    id: int
    organization: int
    sequence: int
    contact: int
    revision: int
    step: int
    enrolled_at: datetime
    since: datetime
    entered_at: datetime | None
    next_run_at: datetime
    message: int | None


@dataclass(slots=True)
class Known:
    """Everything about a batch that its walks ask for."""

    courses: Mapping[int, Course]
    stops: Mapping[int, Stop]
    dispatches: Mapping[int, int]  # by message steps
    templates: Mapping[int, int]
    people: Mapping[int, Addressee]
    values: bool  # whether anybody asks for a contact's fields
    tags: Mapping[int, Mapping[int, datetime]]  # contact: {tag: put on at}
    names: Mapping[int, str]  # tag: public id
    letters: Mapping[int, Mapping[str, Letter]]  # enrollment: {step's key: message}
    taken: Mapping[int, set[str]]


def open_courses(now: datetime) -> dict[int, Course]:
    """Active sequences with somebody due, shared: a pause waits for us, and the next claim for the pause."""
    with connection.cursor() as cursor:
        cursor.execute(_DUE_SEQUENCES, [now])
        due = [key for (key,) in cursor.fetchall()]
        if not due:
            return {}
        # With more than a batch has room for, others come next time. Each also takes a place in the table of locks.
        cursor.execute(_COURSES, [locks.share_free(random.sample(due, min(len(due), SEQUENCES)))])
        return {
            key: Course(key, tag, Policy(limit, when_late), zone)
            for key, tag, limit, when_late, zone in cursor.fetchall()
        }


def claim(sequences: list[int], *, now: datetime, limit: int) -> list[Row]:
    share = -(-limit // len(sequences))
    with cursors.for_many() as cursor:
        cursor.execute(_CLAIM, [sequences, now, share, limit])
        return [Row(*values) for values in cursor.fetchall()]


def learn(rows: list[Row], courses: Mapping[int, Course]) -> Known:
    steps = list(Step.objects.filter(revision__in={row.revision for row in rows}))
    nodes: dict[int, Node] = {step.pk: trees.parse([step.spec])[0] for step in steps}
    asked = [node.test for node in nodes.values() if isinstance(node, Condition)]
    tags = {step.tag_id for step in steps if step.tag_id is not None}
    tags |= {course.exit_tag for course in courses.values() if course.exit_tag is not None}
    contacts = list({row.contact for row in rows})
    letters, taken = _letters([row.id for row in rows])
    return Known(
        courses=courses,
        stops={
            step.pk: Stop(step.pk, step.key, nodes[step.pk], step.next_id, step.yes_id, step.no_id) for step in steps
        },
        dispatches={step.pk: step.dispatch_id for step in steps if step.dispatch_id is not None},
        templates={step.pk: step.template_id for step in steps if step.template_id is not None},
        people=claiming.addressees(contacts),
        values=any(isinstance(test, Field) for test in asked),
        tags=_tags(contacts, tags) if tags else {},
        names={step.tag_id: test.tag for step in steps if (test := _tag_test(nodes[step.pk])) and step.tag_id},
        letters=letters,
        taken=taken,
    )


def _tag_test(node: Node) -> HasTag | None:
    return node.test if isinstance(node, Condition) and isinstance(node.test, HasTag) else None


def _tags(contacts: list[int], tags: Collection[int]) -> dict[int, dict[int, datetime]]:
    held: dict[int, dict[int, datetime]] = defaultdict(dict)
    with cursors.for_many() as cursor:
        cursor.execute(_TAGS, [contacts, list(tags)])
        for contact, tag, at in cursor.fetchall():
            held[contact][tag] = at
    return held


def _letters(enrollments: list[int]) -> tuple[dict[int, dict[str, Letter]], dict[int, set[str]]]:
    letters: dict[int, dict[str, Letter]] = defaultdict(dict)
    taken: dict[int, set[str]] = defaultdict(set)
    with cursors.for_many() as cursor:
        cursor.execute(_RUNS, [enrollments])
        for enrollment, key, message, *fate in cursor.fetchall():
            taken[enrollment].add(key)
            if message is not None:
                letters[enrollment][key] = Letter(message, *fate)
    return letters, taken


# From sequence to sequence in the index of timers: what is paused costs one step, however many people wait in it.
_DUE_SEQUENCES = """
WITH RECURSIVE work AS (
  (SELECT sequence_id, next_run_at FROM sequences_enrollment
   WHERE status = 'active' AND next_run_at IS NOT NULL ORDER BY sequence_id, next_run_at LIMIT 1)
  UNION ALL
  SELECT next.sequence_id, next.next_run_at FROM work, LATERAL (
    SELECT sequence_id, next_run_at FROM sequences_enrollment
    WHERE status = 'active' AND next_run_at IS NOT NULL AND sequence_id > work.sequence_id
    ORDER BY sequence_id, next_run_at LIMIT 1) next
)
SELECT sequence_id FROM work WHERE next_run_at <= %s
"""
_COURSES = """
SELECT s.id, s.exit_tag_id, s.late_limit, s.when_late, o.timezone
FROM sequences_sequence s JOIN organizations_organization o ON o.id = s.organization_id
WHERE s.id = ANY(%s) AND s.status = 'active' AND s.spread_asked_at IS NULL AND s.exit_up_to IS NULL
"""
_CLAIM = """
SELECT e.id, e.organization_id, e.sequence_id, e.contact_id, e.revision_id, e.step_id, e.enrolled_at, e.since,
  e.entered_at, e.next_run_at, e.message
FROM unnest(%s::bigint[]) AS asked (sequence_id), LATERAL (
  SELECT * FROM sequences_enrollment
  WHERE sequence_id = asked.sequence_id AND status = 'active' AND next_run_at IS NOT NULL AND next_run_at <= %s
  ORDER BY next_run_at LIMIT %s FOR UPDATE SKIP LOCKED) e
LIMIT %s
"""
_TAGS = "SELECT contact_id, tag_id, added_at FROM contacts_contacttag WHERE contact_id = ANY(%s) AND tag_id = ANY(%s)"
_RUNS = """
SELECT r.enrollment_id, r.key, m.id, m.status, m.skip_reason, m.error_text,
  coalesce(m.accepted_at, m.failed_at, m.closed_at), m.replied_at IS NOT NULL
FROM sequences_steprun r LEFT JOIN messaging_message m ON m.id = r.message
WHERE r.enrollment_id = ANY(%s)
"""
