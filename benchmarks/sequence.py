"""A running sequence that a tag starts: a wait of a day, a condition, a message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils import timezone

from benchmarks.measuring import Cost, cost
from benchmarks.store import Store, execute, opened, tagged
from contacts.models import Tag
from sequences import publishing
from sequences.models import Sequence


@dataclass(frozen=True)
class Course:
    store: Store
    sequence: Sequence
    trigger: Tag


def started(people: int) -> Course:
    """The sequence, and people of whom half will find its condition true; nobody holds the tag that starts it."""
    store = opened(people, category="UTILITY")
    trigger = Tag.objects.create(organization=store.owner, name="cart")
    message = {"type": "message", "template": store.template.public_id}
    condition = {"tag": tagged(store, "purchased", people // 2).public_id}
    sequence: Sequence = Sequence.objects.create(
        organization=store.owner, name="Benchmark", phone_number=store.number, trigger="tag_added", trigger_tag=trigger,
        draft=[
            {"id": "wait", "type": "delay", "delay": {"days": 1}},
            {"id": "if", "type": "condition", "if": condition, "yes": [{"id": "y"} | message]},
            {"id": "z"} | message,
        ],
    )  # fmt: skip
    publishing.activate(sequence, now=timezone.now())
    return Course(store, sequence, trigger)


def happen(course: Course, people: int) -> None:
    """Put the tag on the first so many, as an import does: one event for each."""
    owner = course.store.owner.pk
    execute(_EVENTS, [owner, course.trigger.pk, timezone.now(), owner, people])
    execute("VACUUM ANALYZE contacts_contactevent")


def undone(statement: str, values: Any = None) -> Cost:
    """What the bare statement costs, without its commit: it is rolled back."""
    with transaction.atomic():
        took = cost(lambda: execute(statement, values))
        transaction.set_rollback(True)
    return took


_EVENTS = """
INSERT INTO contacts_contactevent (organization_id, kind, contact_id, tag_id, source, at)
SELECT %s, 'tag_added', id, %s, 'import', %s FROM contacts_contact WHERE organization_id = %s ORDER BY id LIMIT %s
"""
