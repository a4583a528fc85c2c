"""Reading a tree of steps that somebody wrote: every fault of its shape is told, nothing is guessed.

What the organization's rows decide (is there such a template?) is asked in tree_problems: a draft may be unready.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import time, timedelta
from decimal import Decimal
from typing import Any

from kaanha.lib.errors import Refusal
from kaanha.organizations.models import Organization
from sequences import tree_names
from sequences.tree_nodes import (
    EVERY_DAY,
    OPERATORS,
    STATUSES,
    UNITS,
    WEEKDAYS,
    WHEN_CAPPED,
    WITHOUT_VALUE,
    Condition,
    Delay,
    Field,
    HasTag,
    Kind,
    Message,
    Node,
    Reached,
    Until,
    to_json,
)

MAX_STEPS = 200
MAX_DEPTH = 20  # conditions inside each other
# Nobody means more, and it leaves room on the calendar. What may be activated is decided elsewhere.
MAX_SPAN = timedelta(days=36_525)
MAX_VARIABLES = 100
TEXT, NAME, TEMPLATE = 2048, 120, 540  # characters: of a value; of a field or tag; of a template's name and language

_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_LANGUAGE = re.compile(r"[A-Za-z_-]{2,20}")
_TIMEZONE = re.compile(r"[A-Za-z0-9_+/-]{1,64}")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_COMMON = ("id", "type")
_MEMBERS = {
    Kind.MESSAGE.value: (*_COMMON, "template", "variables", "whenCapped"),
    Kind.DELAY.value: (*_COMMON, "delay", "until"),
    Kind.CONDITION.value: (*_COMMON, "if", "waitFor", "yes", "no"),
}
_TESTS = {"tag": ("tag",), "field": ("field", "is", "value"), "step": ("step", "reached")}
_SOURCES = ("field", "fallback", "text", "link", "id", "filename")


def read(raw: object, organization: Organization) -> list[dict[str, Any]]:
    """The tree as it is stored: ids given out where they are missing, names turned into public ids where found.

    Refusal, `tree_invalid`, with every fault of its shape: where it is and what to do. At most two queries.
    """
    return to_json(tree_names.with_public_ids(_nodes(raw), organization))


def parse(tree: list[dict[str, Any]]) -> tuple[Node, ...]:
    """The steps of a tree as `read` gave it."""
    return _nodes(tree)


def _nodes(raw: object) -> tuple[Node, ...]:
    reader = _Reader()
    nodes = reader.steps(raw, TREE, depth=0)
    if reader.faults:
        raise _refusal(reader.faults)
    return nodes


@dataclass(frozen=True, slots=True)
class _Place:
    """Where something stands: in words, "3 yes 1", and as the API writes it, "steps.2.yes.0.delay"."""

    words: str
    path: str

    def step(self, number: int) -> _Place:
        """The step of that number, from 1, in the list that stands here."""
        return _Place(f"{self.words} {number}".lstrip(), f"{self.path}.{number - 1}")

    def branch(self, name: str) -> _Place:
        return _Place(f"{self.words} {name}", f"{self.path}.{name}")

    def member(self, name: object) -> _Place:
        """A member of what stands here: in words it is the step."""
        return _Place(self.words, f"{self.path}.{str(name)[:NAME]}")

    def told(self, sentence: str) -> str:
        return f"Step {self.words}: {sentence}" if self.words else sentence


TREE = _Place("", "steps")


def _refusal(faults: Sequence[tuple[_Place, str]]) -> Refusal:
    fields: dict[str, list[str]] = {}
    for place, sentence in faults:
        fields.setdefault(place.path, []).append(sentence)
    message = " ".join(place.told(sentence) for place, sentence in faults)
    return Refusal(message, code="tree_invalid", fields=fields)


@dataclass(slots=True)
class _Reader:
    """Reads what may be anything. After a fault it goes on with a stand-in, so that all of them are told at once."""

    faults: list[tuple[_Place, str]] = field(default_factory=list)
    _places: dict[str, str] = field(default_factory=dict)  # of the ids, in words
    _steps: int = 0

    def steps(self, raw: object, place: _Place, *, depth: int) -> tuple[Node, ...]:
        if not isinstance(raw, list):
            self._fault(place, 'Steps stand in a list, as in [{"type": "delay", "delay": {"days": 2}}].')
            return ()
        found = []
        for number, row in enumerate(raw, 1):
            self._steps += 1
            if self._steps > MAX_STEPS:
                if self._steps == MAX_STEPS + 1:
                    self._fault(TREE, f"There are more than {MAX_STEPS} steps: continue in another sequence.")
                break
            found.append(self._step(row, place.step(number), depth))
        return tuple(node for node in found if node is not None)

    def _step(self, raw: object, place: _Place, depth: int) -> Node | None:
        kind = raw.get("type") if isinstance(raw, dict) else None
        if not isinstance(raw, dict) or not isinstance(kind, str) or kind not in _MEMBERS:
            self._fault(place, f'A step is an object whose "type" is one of: {", ".join(_MEMBERS)}.')
            return None
        self._members(raw, _MEMBERS[kind], place)
        key = self._key(raw.get("id"), place.member("id"))
        match kind:
            case Kind.MESSAGE:
                return self._message(raw, key, place)
            case Kind.DELAY:
                return self._delay(raw, key, place)
        return self._condition(raw, key, place, depth)

    def _key(self, raw: object, place: _Place) -> str:
        if raw is None:
            raw = secrets.token_hex(4)
            while raw in self._places:
                raw = secrets.token_hex(4)
        if not isinstance(raw, str) or not _ID.fullmatch(raw):
            self._fault(place, '"id" has 1 to 32 letters, digits, _ and -: leave it out to have one given.')
            return ""
        if raw in self._places:
            first = self._places[raw]
            self._fault(place, f'The id "{raw}" stands at {first} already: leave it out of a copied step.')
        self._places.setdefault(raw, place.words)
        return raw

    # --- messages

    def _message(self, raw: dict[str, Any], key: str, place: _Place) -> Message:
        return Message(
            key,
            template=self._template(raw.get("template"), place.member("template")),
            variables=self._variables(raw.get("variables"), place.member("variables")),
            when_capped=self._when_capped(raw.get("whenCapped"), place.member("whenCapped")),
        )

    def _when_capped(self, raw: object, place: _Place) -> str:
        return "skip" if raw is None else self._choice(raw, WHEN_CAPPED, place, "whenCapped")

    def _template(self, raw: object, place: _Place) -> str:
        if not isinstance(raw, dict):
            return _one_line(self._text(raw, place, "template", TEMPLATE))
        self._members(raw, ("name", "language"), place)
        name = _one_line(self._text(raw.get("name"), place.member("name"), "name", TEMPLATE - 23))
        language = raw.get("language")
        if language is None:
            return name
        if not isinstance(language, str) or not _LANGUAGE.fullmatch(language):
            self._fault(place.member("language"), 'The template\'s "language" is written like en_US.')
            return name
        return f"{name} ({language})"

    def _variables(self, raw: object, place: _Place) -> dict[str, dict[str, str]]:
        if raw is None:
            return {}
        if not isinstance(raw, dict) or len(raw) > MAX_VARIABLES:
            self._fault(
                place, '"variables" is an object such as {"body.1": {"field": "first_name"}}, with at most 100.'
            )
            return {}
        return {
            self._text(name, place, "the name of a variable", NAME): self._variable(name, mapping, place.member(name))
            for name, mapping in raw.items()
        }

    def _variable(self, name: object, raw: object, place: _Place) -> dict[str, str]:
        if not isinstance(raw, dict):
            self._fault(
                place, f'The variable {_shown(name)} is an object such as {{"field": "city"}} or {{"text": "x"}}.'
            )
            return {}
        self._members(raw, _SOURCES, place)
        return {
            member: self._text(raw[member], place.member(member), member, TEXT, blank=True)
            for member in _SOURCES
            if member in raw
        }

    # --- delays

    def _delay(self, raw: dict[str, Any], key: str, place: _Place) -> Delay:
        span, until = raw.get("delay"), raw.get("until")
        if (span is None) == (until is None):
            self._fault(place, 'A delay has either "delay", as {"days": 2}, or "until", as {"time": "09:00"}.')
            return Delay(key)
        if until is None:
            return Delay(key, span=self._span(span, place.member("delay"), "delay"))
        return Delay(key, until=self._until(until, place.member("until")))

    def _span(self, raw: object, place: _Place, name: str) -> timedelta:
        unit, amount = next(iter(raw.items())) if isinstance(raw, dict) and len(raw) == 1 else (None, None)
        if isinstance(unit, str) and unit in UNITS and type(amount) is int and 0 < amount <= MAX_SPAN // UNITS[unit]:
            return amount * UNITS[unit]
        example = 'a whole number above 0 (100 years at most), as in {"days": 2}.'
        self._fault(place, f'"{name}" takes one of {", ".join(UNITS)} with {example}')
        return timedelta()

    def _until(self, raw: object, place: _Place) -> Until:
        if not isinstance(raw, dict):
            self._fault(place, '"until" is an object such as {"time": "09:00", "weekdays": ["mon", "tue"]}.')
            return Until(time())
        self._members(raw, ("time", "weekdays", "timezone"), place)
        return Until(
            time=self._clock(raw.get("time"), place.member("time")),
            weekdays=self._weekdays(raw.get("weekdays"), place.member("weekdays")),
            timezone=self._timezone(raw.get("timezone"), place.member("timezone")),
        )

    def _clock(self, raw: object, place: _Place) -> time:
        found = _CLOCK.fullmatch(raw) if isinstance(raw, str) else None
        if found is None:
            self._fault(place, '"time" is written with 24 hours, like "09:00" or "17:30".')
            return time()
        return time(int(found[1]), int(found[2]))

    def _weekdays(self, raw: object, place: _Place) -> frozenset[int]:
        if raw is None or raw == []:
            return EVERY_DAY
        if not isinstance(raw, list) or len(raw) > len(WEEKDAYS) or not all(_is_one_of(WEEKDAYS, day) for day in raw):
            self._fault(place, f'"weekdays" is a list of {", ".join(WEEKDAYS)}; leave it out for every day.')
            return EVERY_DAY
        return frozenset(WEEKDAYS.index(day) for day in raw)

    def _timezone(self, raw: object, place: _Place) -> str | None:
        if raw is not None and (not isinstance(raw, str) or not _TIMEZONE.fullmatch(raw)):
            self._fault(place, '"timezone" is a name such as Asia/Kolkata; leave it out for the organization\'s.')
            return None
        return raw

    # --- conditions

    def _condition(self, raw: dict[str, Any], key: str, place: _Place, depth: int) -> Condition | None:
        if depth == MAX_DEPTH:
            self._fault(
                place, f"Conditions stand at most {MAX_DEPTH} deep in each other: continue in another sequence."
            )
            return None
        wait = raw.get("waitFor")
        return Condition(
            key,
            test=self._test(raw.get("if"), place.member("if")),
            wait=None if wait is None else self._span(wait, place.member("waitFor"), "waitFor"),
            yes=self._path(raw.get("yes"), place.branch("yes"), depth + 1),
            no=self._path(raw.get("no"), place.branch("no"), depth + 1),
        )

    def _path(self, raw: object, place: _Place, depth: int) -> tuple[Node, ...] | None:
        return None if raw is None else self.steps(raw, place, depth=depth)

    def _test(self, raw: object, place: _Place) -> HasTag | Field | Reached:
        asked = [name for name in _TESTS if isinstance(raw, dict) and raw.get(name) is not None]
        if not isinstance(raw, dict) or len(asked) != 1:
            self._fault(place, f'"if" asks one thing: {_TEST_EXAMPLES}.')
            return HasTag("")
        self._members(raw, _TESTS[asked[0]], place)
        match asked[0]:
            case "tag":
                return HasTag(_one_line(self._text(raw["tag"], place.member("tag"), "tag", NAME)))
            case "step":
                status = self._choice(raw.get("reached"), STATUSES, place.member("reached"), "reached")
                return Reached(self._text(raw["step"], place.member("step"), "step", 32), status)
        return self._field(raw, place)

    def _field(self, raw: dict[str, Any], place: _Place) -> Field:
        name = self._text(raw["field"], place.member("field"), "field", NAME).strip()
        if name == "attributes.":
            self._fault(place.member("field"), '"field" names no attribute: write it like attributes.city.')
        op = self._choice(raw.get("is"), OPERATORS, place.member("is"), "is")
        value = raw.get("value")
        if value is None:
            return Field(name, op)
        if op in WITHOUT_VALUE:
            self._fault(place.member("value"), f'"{op}" compares with nothing: leave "value" out.')
        return Field(name, op, self._text(_plain(value), place.member("value"), "value", TEXT, blank=True))

    # --- what all are made of

    def _members(self, raw: dict[str, Any], known: Collection[str], place: _Place) -> None:
        unknown = [name for name in raw if name not in known]
        if unknown:
            listed = ", ".join(map(_shown, unknown[:5])) + (" …" if len(unknown) > 5 else "")
            self._fault(place, f"There is no {listed} here: leave it out. What may stand here: {', '.join(known)}.")

    def _text(self, raw: object, place: _Place, name: str, limit: int, *, blank: bool = False) -> str:
        if raw is None or (isinstance(raw, str) and not blank and not raw.strip()):
            self._fault(place, f'"{name}" is missing: give it a text.')
            return ""
        if not isinstance(raw, str):
            self._fault(place, f'"{name}" takes a text.')
            return ""
        if len(raw) > limit:
            self._fault(place, f'"{name}" is longer than {limit} characters: shorten it.')
        elif _UNSTORABLE.search(raw):
            self._fault(place, f'"{name}" has characters that can\'t be stored (NUL, half a pair): type it again.')
        return raw

    def _choice(self, raw: object, known: Sequence[str], place: _Place, name: str) -> str:
        if isinstance(raw, str) and raw in known:
            return raw
        self._fault(place, f'"{name}" is one of: {", ".join(known)}.')
        return known[0]

    def _fault(self, place: _Place, sentence: str) -> None:
        self.faults.append((place, sentence))


_TEST_EXAMPLES = (
    '{"tag": "purchased"}, {"field": "city", "is": "equals", "value": "Pune"} or {"step": "welcome", "reached": "read"}'
)


def _shown(name: object) -> str:
    return repr(name[:40]) if isinstance(name, str) else "name that isn't a text"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _is_one_of(known: Collection[str], raw: object) -> bool:
    return isinstance(raw, str) and raw in known


def _plain(raw: object) -> object:
    """A number as people write it, without an exponent; anything else as it is, and huge ones as no text."""
    if type(raw) is int and abs(raw) < 10**300:
        return str(raw)
    if type(raw) is float and math.isfinite(raw):
        return format(Decimal(repr(raw)), "f")
    return raw
