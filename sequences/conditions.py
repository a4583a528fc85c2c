"""What a condition asks, answered for one contact, with the reason in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from kaanha.messaging.models import RECEIVED, WAITING, SkipReason, Status
from sequences.tree_nodes import Field, HasTag, Reached, number

# The statuses of a message that count as having reached a stage.
AT_LEAST: dict[str, frozenset[str]] = {
    "sent": frozenset(RECEIVED),
    "delivered": frozenset({Status.DELIVERED, Status.READ}),
    "read": frozenset({Status.READ}),
    "failed": frozenset({Status.FAILED}),
}


@dataclass(frozen=True, slots=True)
class Letter:
    """A message of an earlier step, as the ledger has it now."""

    id: int
    status: str
    skip_reason: str = ""
    error: str = ""
    # When its fate was known: accepted, failed or given up.
    settled_at: datetime | None = None
    replied: bool = False

    @property
    def open(self) -> bool:
        return self.status in WAITING


@dataclass(frozen=True, slots=True)
class Facts:
    """What conditions may ask about a contact: its tags (public ids), its values by field, its messages by step."""

    tags: frozenset[str] = frozenset()
    values: Mapping[str, str] = field(default_factory=dict)
    letters: Mapping[str, Letter] = field(default_factory=dict)


def answer(test: HasTag | Field | Reached, facts: Facts) -> tuple[bool, str]:
    """Whether the test is met, and why in words."""
    match test:
        case HasTag(tag):
            held = tag in facts.tags
            return held, "holds the tag" if held else "doesn't hold the tag"
        case Field():
            return _compare(test, facts.values.get(test.field, ""))
        case Reached(step, status):
            return _reached(status, facts.letters.get(step))


def _compare(test: Field, found: str) -> tuple[bool, str]:
    value, wanted = found.strip().casefold(), (test.value or "").strip().casefold()
    met = {
        "equals": lambda: value == wanted,
        "notEquals": lambda: value != wanted,
        "contains": lambda: bool(wanted) and wanted in value,
        "startsWith": lambda: bool(wanted) and value.startswith(wanted),
        "isSet": lambda: bool(value),
        "isNotSet": lambda: not value,
        "greaterThan": lambda: _difference(value, wanted) > 0,
        "lessThan": lambda: _difference(value, wanted) < 0,
    }[test.op]()
    shown = f"{found.strip()[:80]!r}" if value else "empty"
    return met, f"{test.field} is {shown}"


def _difference(value: str, wanted: str) -> int:
    """1, 0 or -1 as `value` is more than, as much as or less than `wanted`; 0 where one of them is no number."""
    left, right = number(value), number(wanted)
    return 0 if left is None or right is None else (left > right) - (left < right)


def _reached(status: str, letter: Letter | None) -> tuple[bool, str]:
    if letter is None:
        return False, "that step sent this contact nothing"
    if status == "replied":
        return letter.replied, "answered" if letter.replied else "hasn't answered"
    return letter.status in AT_LEAST[status], f"the message was {_fate(letter)}" if not letter.open else "not sent yet"


def _fate(letter: Letter) -> str:
    if letter.status == Status.SKIPPED:
        return f"skipped: {SkipReason(letter.skip_reason).label.lower()}"
    return str(Status(letter.status).label).lower()
