"""A step in one line, for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from sequences.tree_nodes import EVERY_DAY, WEEKDAYS, Delay, Field, HasTag, Message, Node, Reached, Until, measure

_OWN_FIELDS = ("name", "first_name", "email", "phone")
_COMPARED = {
    "equals": "Is {field} “{value}”?",
    "notEquals": "Is {field} not “{value}”?",
    "contains": "Does {field} contain “{value}”?",
    "startsWith": "Does {field} start with “{value}”?",
    "isSet": "Is {field} set?",
    "isNotSet": "Is {field} not set?",
    "greaterThan": "Is {field} greater than {value}?",
    "lessThan": "Is {field} less than {value}?",
}
_REACHED = {
    "sent": "Was {step} sent?",
    "delivered": "Was {step} delivered?",
    "read": "Was {step} read?",
    "failed": "Did {step} fail?",
    "replied": "Was {step} answered?",
}


def words(node: Node, names: Mapping[str, str]) -> str:
    """What the step does, such as: Wait until 09:00 on Mon, Tue (Asia/Kolkata).

    `names` says what people call public ids and steps (`tree_names.names`); what it lacks is shown as it is.
    """
    if isinstance(node, Message):
        return f"Send {names.get(node.template, node.template)}"
    if isinstance(node, Delay):
        return f"Wait {_until(node.until) if node.until else span(node.span or timedelta())}"
    waits = "" if node.wait is None else f" (waits up to {span(node.wait)} for it)"
    return f"{_question(node.test, names)}{waits}"


def span(length: timedelta) -> str:
    """A length of time in its largest whole unit: 2 days."""
    unit, amount = measure(length)
    return f"{amount} {unit.removesuffix('s') if amount == 1 else unit}"


def _until(until: Until) -> str:
    days = ", ".join(WEEKDAYS[day].capitalize() for day in sorted(until.weekdays))
    on = "" if until.weekdays == EVERY_DAY else f" on {days}"
    return f"until {until.time:%H:%M}{on}{f' ({until.timezone})' if until.timezone else ''}"


def _question(test: HasTag | Field | Reached, names: Mapping[str, str]) -> str:
    match test:
        case HasTag(tag):
            return f"Has the tag {names.get(tag, tag)}?"
        case Reached(step, status):
            return _REACHED[status].format(step=names.get(step, step))
        case Field(name, op, value):
            attribute = name.removeprefix("attributes.")
            # An attribute may be called as a field of the contact is: then it keeps its prefix.
            return _COMPARED[op].format(field=name if attribute in _OWN_FIELDS else attribute, value=value or "")
