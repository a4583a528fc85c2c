"""The steps of a sequence as values: a tree of messages, delays and conditions, and the ways through it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import time, timedelta
from decimal import Decimal
from enum import StrEnum
from itertools import takewhile
from typing import Any, ClassVar

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EVERY_DAY = frozenset(range(7))
OPERATORS = ("equals", "notEquals", "contains", "startsWith", "isSet", "isNotSet", "greaterThan", "lessThan")
WITHOUT_VALUE = ("isSet", "isNotSet")
NUMERIC = ("greaterThan", "lessThan")
STATUSES = ("sent", "delivered", "read", "failed", "replied")
WHEN_CAPPED = ("skip", "wait")
# From the largest: a span is written in the largest unit that it is a multiple of. A day is 24 hours.
UNITS = {
    "days": timedelta(days=1),
    "hours": timedelta(hours=1),
    "minutes": timedelta(minutes=1),
    "seconds": timedelta(seconds=1),
}
# A template that was typed and not found: name (language), as people see it in lists.
TYPED_TEMPLATE = re.compile(r"(\S.*) \(([A-Za-z_-]{2,20})\)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")


class Kind(StrEnum):
    MESSAGE = "message"
    DELAY = "delay"
    CONDITION = "condition"


@dataclass(frozen=True, slots=True)
class Message:
    """Sends a template: its public id, or as typed, `name` or `name (language)`, where no such template was found."""

    kind: ClassVar[Kind] = Kind.MESSAGE

    key: str
    template: str
    variables: dict[str, dict[str, str]] = field(default_factory=dict)
    when_capped: str = "skip"


@dataclass(frozen=True, slots=True)
class Until:
    """A time of day on some weekdays, 0 for Monday; on the clocks of the organization where no timezone is named."""

    time: time
    weekdays: frozenset[int] = EVERY_DAY
    timezone: str | None = None


@dataclass(frozen=True, slots=True)
class Delay:
    """Waits for a span, or until a time of day: exactly one of them."""

    kind: ClassVar[Kind] = Kind.DELAY

    key: str
    span: timedelta | None = None
    until: Until | None = None


@dataclass(frozen=True, slots=True)
class HasTag:
    """The tag's public id, or its name as typed where the organization has no such tag."""

    tag: str


@dataclass(frozen=True, slots=True)
class Field:
    """Compares a contact's field, or attribute with or without `attributes.`, by one of OPERATORS."""

    field: str
    op: str
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Reached:
    """Whether the message of step `step` has come at least so far: one of STATUSES."""

    step: str
    status: str


@dataclass(frozen=True, slots=True)
class Condition:
    """Goes on with one of two paths, then with the step after it. A path of None goes straight on; () was emptied."""

    kind: ClassVar[Kind] = Kind.CONDITION

    key: str
    test: HasTag | Field | Reached
    wait: timedelta | None = None
    yes: tuple[Node, ...] | None = None
    no: tuple[Node, ...] | None = None


Node = Message | Delay | Condition


@dataclass(frozen=True)
class Flat:
    """A step with the keys of those that follow; None is the end.

    `place` is for people: "3", "3 yes 1". A condition goes on at `yes` or `no`, which is the step after it where the
    path has no steps; its `next` is the step after it. Others go on at `next`, which at the end of a path is the step
    after the condition.
    """

    key: str
    place: str
    node: Node
    next: str | None
    yes: str | None = None
    no: str | None = None


def flatten(nodes: Sequence[Node]) -> list[Flat]:
    """Every step in the order of reading: a condition, its Yes path, its No path, the step after it."""
    return list(_flat(nodes, prefix="", after=None))


def _flat(nodes: Sequence[Node], *, prefix: str, after: str | None) -> Iterator[Flat]:
    for number, node in enumerate(nodes, 1):
        place = f"{prefix}{number}"
        following = nodes[number].key if number < len(nodes) else after
        if not isinstance(node, Condition):
            yield Flat(node.key, place, node, following)
            continue
        yes, no = (path[0].key if path else following for path in (node.yes, node.no))
        yield Flat(node.key, place, node, following, yes, no)
        yield from _flat(node.yes or (), prefix=f"{place} yes ", after=following)
        yield from _flat(node.no or (), prefix=f"{place} no ", after=following)


def earlier_messages(nodes: Sequence[Node], key: str) -> list[Message]:
    """The message steps that step `key` may ask about. Empty where there is no step `key`."""
    steps = flatten(nodes)
    asking = next((step for step in steps if step.key == key), None)
    found = [] if asking is None else [step.node for step in earlier(steps, asking)]
    return [node for node in found if isinstance(node, Message)]


def earlier(steps: Sequence[Flat], asking: Flat) -> list[Flat]:
    """The message steps that stand before `asking`, except those on the other path of a condition that it stands in.

    One inside an earlier condition counts, though not every contact comes by it.
    """
    before = takewhile(lambda step: step is not asking, steps)
    return [
        step for step in before if isinstance(step.node, Message) and not on_other_path(step.place, of=asking.place)
    ]


def on_other_path(place: str, *, of: str) -> bool:
    """Whether the two places stand on different paths of one condition, so that no contact comes by both."""
    for one, other in zip(place.split(), of.split(), strict=False):
        if one != other:
            return not one.isdigit()
    return False


def number(text: str) -> Decimal | None:
    """The number that a text is, spaces around it left out; None where it isn't one."""
    text = text.strip()
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def to_json(nodes: Sequence[Node]) -> list[dict[str, Any]]:
    """The steps as the API and the database write them."""
    return [{"id": node.key, "type": node.kind.value, **_members(node)} for node in nodes]


def _members(node: Node) -> dict[str, Any]:
    if isinstance(node, Message):
        typed = TYPED_TEMPLATE.fullmatch(node.template)
        template = {"name": typed[1], "language": typed[2]} if typed else node.template
        return {"template": template, "variables": node.variables, "whenCapped": node.when_capped}
    if isinstance(node, Condition):
        wait = {} if node.wait is None else {"waitFor": _span(node.wait)}
        paths = {name: to_json(path) for name, path in (("yes", node.yes), ("no", node.no)) if path is not None}
        return {"if": _test(node.test), **wait, **paths}
    if node.until is not None:
        return {"until": _until(node.until)}
    return {"delay": _span(node.span or timedelta())}


def _span(span: timedelta) -> dict[str, int]:
    unit, amount = measure(span)
    return {unit: amount}


def measure(span: timedelta) -> tuple[str, int]:
    """The largest unit that the span is a multiple of, and how many of it: ("days", 2). Parts of a second are lost."""
    whole = timedelta(seconds=span // UNITS["seconds"])
    unit = next(unit for unit, size in UNITS.items() if (whole and not whole % size) or unit == "seconds")
    return unit, whole // UNITS[unit]


def _until(until: Until) -> dict[str, Any]:
    shown: dict[str, Any] = {"time": f"{until.time:%H:%M}"}
    if until.weekdays != EVERY_DAY:
        shown["weekdays"] = [WEEKDAYS[day] for day in sorted(until.weekdays)]
    return shown | ({"timezone": until.timezone} if until.timezone else {})


def _test(test: HasTag | Field | Reached) -> dict[str, str]:
    match test:
        case HasTag(tag):
            return {"tag": tag}
        case Reached(step, status):
            return {"step": step, "reached": status}
        case Field(name, op, value):
            return {"field": name, "is": op} | ({} if value is None else {"value": value})
