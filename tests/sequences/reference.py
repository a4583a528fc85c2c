"""A second, tiny interpreter of sequences, to hold against the engine.

One contact at a time, plain Python, nothing of the engine's and no database: it was written from the
rules in words, before the engine was read. It is slow where slowness is clear (clocks are stepped
minute by minute) and it decides nothing that the rules leave to chance.

    walk = Walk(Rules(tree), Person(), at=start)   # enrolled
    walk.run(now)                                  # what a sweep does: go on as far as it goes
    walk.heard("m", "sent", at)                    # the world: what became of the message of step m
    walk.path, walk.put, walk.stands, walk.ended   # what must be true of the engine's rows
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from functools import cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LOOK_AGAIN = timedelta(minutes=5)  # a waiting condition, where nobody gives word
AT_LEAST = {"sent": {"sent", "delivered", "read"}, "delivered": {"delivered", "read"}, "read": {"read"}}


@dataclass
class Person:
    """A contact as it is right now."""

    opted_in: bool = True
    deleted: bool = False
    tags: set[str] = field(default_factory=set)
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rules:
    """A sequence with its choices."""

    tree: list[dict[str, Any]]
    timezone: str = "UTC"
    exit_tag: str | None = None
    exit_on_reply: bool = False
    late_limit: timedelta | None = None
    when_late: str = "send"


@dataclass
class Letter:
    """What is known of one message: its stage now, and how and when it was first no longer open."""

    status: str = "open"
    reason: str = ""
    replied: bool = False
    fate: str = ""
    fate_at: datetime | None = None


class Taken(NamedTuple):
    """A step that is over for the contact."""

    key: str
    outcome: str
    reason: str
    at: datetime


class Stands(NamedTuple):
    """Where a contact waits: `due` is a delay's end or a condition's deadline; a message has none."""

    key: str
    due: datetime | None


class Ended(NamedTuple):
    how: str
    reason: str
    at: datetime


def refusal(person: Person, rules: Rules, *, already: bool) -> str:
    """Why somebody is not enrolled; empty: enrolled."""
    if already:
        return "already_enrolled"
    if person.deleted:
        return "contact_deleted"
    if not person.opted_in:
        return "not_opted_in"
    return "exit_tag" if rules.exit_tag in person.tags else ""


class Walk:
    """One contact's way through one tree."""

    def __init__(self, rules: Rules, person: Person, *, at: datetime) -> None:
        self.rules, self.person = rules, person
        self.todo: list[dict[str, Any]] = list(rules.tree)
        self.before = at  # when the step before the present one ended
        self.path: list[Taken] = []
        self.put: dict[str, datetime] = {}
        self.letters: dict[str, Letter] = {}
        self.stands: Stands | None = None
        self.ended: Ended | None = None
        self.paused = self.halted = False  # this contact; the sequence
        self.not_before: datetime | None = None  # its place in the queue after a pause
        self.look_at: datetime | None = None  # a waiting condition: the latest moment of the next look
        self.leaves = ""  # the reason, where something has happened that ends this
        self.skips = False  # late: message steps are left out until the next wait

    # What happens to the contact

    def leave(self, reason: str) -> None:
        self.leaves = self.leaves or reason

    def tagged(self, tag: str) -> None:
        """A tag that it didn't hold was put on."""
        if tag == self.rules.exit_tag:
            self.leave("exit_tag")
        self._stir()

    def heard(self, key: str, status: str, at: datetime, reason: str = "") -> None:
        """News of a message. A stage never goes back, and delivered is never undone."""
        letter = self.letters[key]
        if status in AT_LEAST and letter.status in AT_LEAST[status]:
            return
        if status == "failed" and letter.status in AT_LEAST["delivered"]:
            return
        letter.status, letter.reason = status, reason
        if letter.fate_at is None:
            letter.fate, letter.fate_at = status, at
        self._stir()

    def replied(self, key: str) -> None:
        """The contact answered the message of a step."""
        self.letters[key].replied = True
        if self.rules.exit_on_reply:
            self.leave("replied")
        self._stir()

    def _stir(self) -> None:
        self.look_at = datetime.min.replace(tzinfo=UTC)

    # What a sweep does

    def run(self, now: datetime) -> None:
        if self.ended is None and self.leaves:
            self._end("exited", self.leaves, now)
        if self.ended or self.paused or self.halted or (self.not_before and now < self.not_before):
            return
        self.not_before = None
        while self.ended is None and self._goes_on(now):
            pass

    def _goes_on(self, now: datetime) -> bool:
        if not self.todo:
            self._end("completed", "", now)
            return False
        step = self.todo[0]
        return {"message": self._message, "delay": self._delay, "condition": self._condition}[step["type"]](step, now)

    def _message(self, step: dict[str, Any], now: datetime) -> bool:
        key = step["id"]
        if key not in self.letters:
            if self.skips:
                return self._took(step, "skipped", now, reason="late")
            self.letters[key], self.put[key], self.stands = Letter(), now, Stands(key, None)
        letter = self.letters[key]
        if letter.fate_at is None:
            return False
        self._took(step, letter.status, letter.fate_at, reason=letter.reason)
        if letter.status == "skipped" and letter.reason in ("opted_out", "deleted", "canceled"):
            self._end("exited", letter.reason, now)
        return True

    def _delay(self, step: dict[str, Any], now: datetime) -> bool:
        if self.stands is None:
            due = self.before + span(step["delay"]) if "delay" in step else self._clock(step["until"])
            self.stands, self.skips = Stands(step["id"], due), False
        if now < self.stands.due:
            return False
        late = self._is_late(now)
        return self._took(step, "waited", now) and self._on_time(now, late=late)

    def _condition(self, step: dict[str, Any], now: datetime) -> bool:
        if self.stands is None:
            if self.met(step["if"]):
                return self._branch(step, "yes", now)
            if "waitFor" not in step:
                return self._branch(step, "no", now)
            deadline = now + span(step["waitFor"])
            self.stands, self.skips, self.look_at = Stands(step["id"], deadline), False, min(deadline, now + LOOK_AGAIN)
            return False
        if now < self.look_at:
            return False
        return self.look(step, now)

    def look(self, step: dict[str, Any], now: datetime) -> bool:
        """Try the test of a condition that waits."""
        deadline = self.stands.due
        met = self.met(step["if"])
        if not met and now < deadline:
            self.look_at = min(deadline, now + LOOK_AGAIN)
            return False
        late = self._is_late(now)
        return self._branch(step, "yes" if met else "no", now) and self._on_time(now, late=late)

    def _branch(self, step: dict[str, Any], way: str, now: datetime) -> bool:
        self._took(step, way, now)
        self.todo = list(step.get(way) or []) + self.todo
        return True

    def _took(self, step: dict[str, Any], outcome: str, at: datetime, reason: str = "") -> bool:
        self.path.append(Taken(step["id"], outcome, reason, at))
        self.before, self.stands, self.todo = at, None, self.todo[1:]
        return True

    def _is_late(self, now: datetime) -> bool:
        limit = self.rules.late_limit
        return limit is not None and now - self.stands.due > limit

    def _on_time(self, now: datetime, *, late: bool) -> bool:
        """What the sequence wants for those who come too late."""
        self.skips = late and self.rules.when_late == "skip"
        if late and self.rules.when_late == "end":
            self._end("exited", "late", now)
        return True

    def _end(self, how: str, reason: str, now: datetime) -> None:
        self.ended, self.stands, self.not_before = Ended(how, reason, now), None, None

    def _clock(self, until: dict[str, Any]) -> datetime:
        days = tuple(until.get("weekdays") or DAYS)
        return next_showing(self.before, until["time"], days, until.get("timezone") or self.rules.timezone)

    # What a condition asks

    def met(self, test: dict[str, Any]) -> bool:
        if "tag" in test:
            return test["tag"] in self.person.tags
        if "step" in test:
            return self._reached(test["step"], test["reached"])
        return holds(self.person.fields.get(test["field"], ""), test["is"], test.get("value", ""))

    def _reached(self, key: str, stage: str) -> bool:
        letter = self.letters.get(key)
        if letter is None:
            return False
        if stage == "replied":
            return letter.replied
        return letter.status in AT_LEAST.get(stage, {stage})


def span(units: dict[str, int]) -> timedelta:
    return timedelta(**units)


def holds(text: str, op: str, value: str) -> bool:
    """Whether a field's text passes; texts are compared trimmed and casefolded."""
    here, there = text.strip().casefold(), value.strip().casefold()
    if op in ("greaterThan", "lessThan"):
        return _in_order(here, there, op)
    return {
        "equals": here == there,
        "notEquals": here != there,
        "contains": there in here,
        "startsWith": here.startswith(there),
        "isSet": here != "",
        "isNotSet": here == "",
    }[op]


def _in_order(here: str, there: str, op: str) -> bool:
    try:
        number, limit = float(here), float(there)
    except ValueError:
        return False
    return number > limit if op == "greaterThan" else number < limit


@cache
def next_showing(after: datetime, shown: str, days: tuple[str, ...], timezone: str) -> datetime:
    """The next moment after `after` at which clocks in `timezone` show this time, found by watching them.

    Where they jump over it, the moment of the jump; where they show it twice, the first time.
    """
    wanted = time.fromisoformat(shown)
    for before, wall, moment in _watch(after, ZoneInfo(timezone)):
        for day in {before.date(), wall.date()}:
            target = datetime.combine(day, wanted)
            if before < target <= wall and not wall.fold and DAYS[day.weekday()] in days:
                return moment
    raise AssertionError("clocks go on for ever")


def _watch(after: datetime, zone: ZoneInfo) -> Iterator[tuple[datetime, datetime, datetime]]:
    """(what the clock showed a minute before, what it shows, when), for every full minute after `after`."""
    moment = after.astimezone(UTC).replace(second=0, microsecond=0)
    wall = moment.astimezone(zone).replace(tzinfo=None)
    while True:
        moment += timedelta(minutes=1)
        before, wall = wall, moment.astimezone(zone).replace(tzinfo=None)
        yield before.replace(fold=0), wall, moment
