"""A second, tiny interpreter of sequences, to hold against the engine.

One contact at a time, plain Python, nothing of the engine's and no database: it was written from the
rules in words, before the engine was read. It is slow where slowness is clear (clocks are stepped
minute by minute) and it decides nothing that the rules leave to chance.

    walk = Walk(Rules(tree), Person(), at=start)              # enrolled
    walk.run(now)                                             # what a sweep does: go on as far as it goes
    walk.heard("m", "sent", at)                               # the world: what became of the message of step m
    walk.path, walk.put, walk.stands, walk.planned, walk.ended  # what must be true of the engine's rows
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from functools import cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LOOK_AGAIN = timedelta(minutes=5)  # a waiting condition about a field, where nobody gives word
RARELY = timedelta(hours=1)  # one about a tag or a message, where somebody does
LONG_AGO = datetime.min.replace(tzinfo=UTC)
AT_LEAST = {"sent": {"sent", "delivered", "read"}, "delivered": {"delivered", "read"}, "read": {"read"}}


@dataclass
class Person:
    """A contact as it is right now. `fields` are its name, email and phone; `attributes` is all the rest."""

    opted_in: bool = True
    deleted: bool = False
    tags: set[str] = field(default_factory=set)
    fields: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)

    def value(self, name: str) -> str:
        if name == "first_name":
            return (self.fields.get("name", "").split() or [""])[0]
        return self.fields.get(name, "") or self.attributes.get(name.removeprefix("attributes."), "")


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
    """What is known of a message. Its fate is the first that is known of accepted, failed, closed, in this order."""

    status: str = "queued"
    reason: str = ""
    replied: bool = False
    accepted_at: datetime | None = None
    failed_at: datetime | None = None
    closed_at: datetime | None = None

    @property
    def open(self) -> bool:
        return self.status in ("queued", "sending")

    @property
    def fate_at(self) -> datetime | None:
        return self.accepted_at or self.failed_at or self.closed_at


class Taken(NamedTuple):
    """A step that is over for the contact: entered, left, and what became of it."""

    key: str
    outcome: str
    reason: str
    at: datetime
    ended_at: datetime


class Stands(NamedTuple):
    """Where a contact waits: `due` is a delay's end or a condition's deadline; a message has none."""

    key: str
    at: datetime
    due: datetime | None


class Ended(NamedTuple):
    how: str
    reason: str
    at: datetime


def refusal(person: Person, rules: Rules, *, already: bool, archived: bool) -> str:
    """Why somebody is not enrolled; empty: enrolled. Whoever is deleted is nobody else: not even enrolled before."""
    if person.deleted:
        return "contact_deleted"
    if already:
        return "already_enrolled"
    if archived:
        return "sequence_not_active"
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
        self.planned: datetime | None = at  # when it would go on if nothing held it
        self.turn: datetime | None = None  # its place in the queue after a pause
        self.look_at: datetime | None = None  # a waiting condition: the latest moment of the next look
        self.every = LOOK_AGAIN
        self.leaves = ""  # the reason, where something has happened that ends this
        self.skips = self.ends = False  # late: what happens to message steps until the next wait

    # What happens to the contact

    def leave(self, reason: str) -> None:
        self.leaves = self.leaves or reason

    def tagged(self, tag: str) -> None:
        """A tag that it didn't hold was put on."""
        if tag == self.rules.exit_tag:
            self.leave("exit_tag")
        self._stir("tag", tag)

    def heard(self, key: str, status: str, at: datetime, *, reason: str = "") -> None:
        """News of a message. A stage never goes back, delivered is never undone, and receipts undo all else."""
        letter = self.letters[key]
        stages = AT_LEAST.get(status, set())
        if letter.status in stages or (status == "failed" and letter.status in AT_LEAST["delivered"]):
            return
        letter.status, letter.reason = status, reason
        letter.failed_at = at if status == "failed" else None
        letter.closed_at = at if status in ("skipped", "unconfirmed") else None
        if stages and letter.accepted_at is None:
            letter.accepted_at = at
        self._stir("step", key)

    def replied(self, key: str) -> None:
        """The contact answered the message of a step."""
        self.letters[key].replied = True
        if self.rules.exit_on_reply:
            self.leave("replied")
        self._stir("step", key)

    def cancel(self, reason: str, now: datetime) -> None:
        """Somebody ends it, this very moment."""
        if self.ended is None:
            self._end("exited", reason, now)

    def _stir(self, what: str, which: str) -> None:
        """What a condition waits for has happened: it looks again at once."""
        if self.ended is None and self.stands and self.todo[0].get("if", {}).get(what) == which:
            self.look_at = self.planned = LONG_AGO

    # What a sweep does

    def run(self, now: datetime) -> None:
        self.notice(now)
        self.go_on(now)

    def notice(self, now: datetime) -> None:
        """See what has happened; that ends it also while it is paused."""
        if self.ended is None and self.leaves:
            self._end("exited", self.leaves, now)
        if self.ended is None and self.stands and self.todo[0]["type"] == "message" and self.planned is None:
            self.planned = None if self.letters[self.stands.key].open else now

    def spread_to(self, turn: datetime) -> None:
        """After a pause it goes on when it is its turn. Who was in time then stays in time."""
        self.planned = self.turn = turn
        self.look_at = turn if self.look_at else None

    def go_on(self, now: datetime) -> None:
        if self.ended or self.paused or self.halted or self.planned is None or now < self.planned:
            return
        self._judge(self.planned, now)
        while self.ended is None and self._take(now):
            pass

    def _take(self, now: datetime) -> bool:
        if not self.todo:
            self._end("completed", "", now)
            return False
        step = self.todo[0]
        return {"message": self._message, "delay": self._delay, "condition": self._condition}[step["type"]](step, now)

    def _message(self, step: dict[str, Any], now: datetime) -> bool:
        key = step["id"]
        if key not in self.letters:
            if self.ends:
                self._took(step, "left", now, reason="late")
                self._end("exited", "late", now)
                return False
            if self.skips:
                return self._took(step, "skipped", now, reason="late")
            self.letters[key], self.put[key] = Letter(), now
            return self._wait(step, now, None)
        letter = self.letters[key]
        if letter.open:
            return False
        fate = letter.fate_at or now
        self._took(step, "sent" if letter.status in AT_LEAST["sent"] else letter.status, now, reason=letter.reason)
        self.before = fate
        if letter.status == "skipped" and letter.reason in ("opted_out", "deleted", "canceled"):
            self._end("exited", letter.reason, now)
        return True

    def _delay(self, step: dict[str, Any], now: datetime) -> bool:
        due = self.before + span(step["delay"]) if "delay" in step else self._clock(step["until"])
        if now < due:
            return self._wait(step, now, due)
        self._judge((self.stands and self.turn) or due, now)
        return self._took(step, "waited", now)

    def _condition(self, step: dict[str, Any], now: datetime) -> bool:
        met = self.met(step["if"])
        began = self.stands.at if self.stands else now
        deadline = began + span(step["waitFor"]) if "waitFor" in step else began
        if not met and now < deadline and not self._hopeless(step["if"]):
            return self._wait(step, now, deadline)
        if self.stands:
            self._judge(max(deadline, self.turn or deadline), now)
        way = "yes" if met else "no"
        self._took(step, way, now)
        self.todo = list(step.get(way) or []) + self.todo
        return True

    def _wait(self, step: dict[str, Any], now: datetime, due: datetime | None) -> bool:
        self.stands = self.stands or Stands(step["id"], now, due)
        self.planned, self.look_at, self.turn = due, None, None
        if step["type"] == "condition" and due:
            self.every = LOOK_AGAIN if "field" in step["if"] else RARELY
            self.planned = self.look_at = min(due, now + self.every)
        return False

    def _took(self, step: dict[str, Any], outcome: str, now: datetime, *, reason: str = "") -> bool:
        began = self.stands.at if self.stands else now
        self.path.append(Taken(step["id"], outcome, reason, began, now))
        self.before, self.stands, self.look_at, self.turn = now, None, None, None
        self.todo = self.todo[1:]
        return True

    def _judge(self, planned: datetime, now: datetime) -> None:
        """Whether what follows comes too late, and what the sequence wants then."""
        late = self.rules.late_limit is not None and now - planned > self.rules.late_limit
        self.skips = late and self.rules.when_late == "skip"
        self.ends = late and self.rules.when_late == "end"

    def _end(self, how: str, reason: str, now: datetime) -> None:
        if self.stands:
            self._withdraw(self.stands.key, now)
            self._took(self.todo[0], "left", now)
        self.ended, self.planned = Ended(how, reason, now), None

    def _withdraw(self, key: str, now: datetime) -> None:
        letter = self.letters.get(key)
        if letter and letter.status == "queued":
            letter.status, letter.reason, letter.closed_at = "skipped", "canceled", now

    def _clock(self, until: dict[str, Any]) -> datetime:
        days = tuple(until.get("weekdays") or DAYS)
        return next_showing(self.before, until["time"], days, until.get("timezone") or self.rules.timezone)

    # What a condition asks

    def met(self, test: dict[str, Any]) -> bool:
        if "tag" in test:
            return test["tag"] in self.person.tags
        if "step" in test:
            return self._reached(test["step"], test["reached"])
        return holds(self.person.value(test["field"]), test["is"], test.get("value", ""))

    def _hopeless(self, test: dict[str, Any]) -> bool:
        """A message that was never asked for will never reach anything: there is nothing to wait for."""
        return "step" in test and test["step"] not in self.letters

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
