"""One contact's way through the steps, from where it stands until it has to wait. Pure: reads facts, writes a record.

The semantics of sequences are here and nowhere else; what is done with the record, in sets, is in `advancing`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from kaanha.messaging.models import RECEIVED, SkipReason, Status
from sequences import conditions, tree_times
from sequences.conditions import Facts, Letter
from sequences.models import ExitReason, Outcome, WhenLate
from sequences.tree_nodes import Condition, Delay, Field, Message, Node, Reached

# Who waits in a condition is woken by what happens, and looked at again this often: fields change without a word.
FIRST_LOOK, LOOK_AGAIN = timedelta(seconds=2), timedelta(minutes=5)
RARELY = timedelta(hours=1)  # where everything that may happen wakes them
# Fates of a message that end the enrollment with it.
ENDING = {
    SkipReason.OPTED_OUT: ExitReason.OPTED_OUT,
    SkipReason.DELETED: ExitReason.DELETED,
    SkipReason.CANCELED: ExitReason.CANCELED,
}


@dataclass(frozen=True, slots=True)
class Stop:
    """A step with the ids of those that follow; None is the end."""

    id: int
    key: str
    node: Node
    next: int | None = None
    yes: int | None = None
    no: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """What the sequence does about steps that are run too late."""

    limit: timedelta | None = None
    when_late: str = WhenLate.SEND


@dataclass(frozen=True, slots=True)
class Run:
    """A step taken, as it is recorded. Without `ended_at` the contact waits in it; `sends` asks for its message."""

    stop: Stop
    at: datetime
    until: datetime | None = None
    ended_at: datetime | None = None
    outcome: str = Outcome.WAITING
    reason: str = ""
    sends: bool = False


@dataclass(slots=True)
class Walk:
    """Where a contact stands, and what a walk of it did.

    `step` None is the end. `message` is what it waits for beside `next_run_at`: the id of a letter.
    """

    step: Stop | None
    since: datetime
    entered_at: datetime | None
    next_run_at: datetime | None
    message: int | None = None
    exit_reason: str = ""
    runs: list[Run] = field(default_factory=list)
    # Until when it goes on waiting in the step in which it stood before.
    until: datetime | None = None
    # How the step in which it stood before was left; None where it still stands there.
    ended: Run | None = None
    arrivals: list[Stop] = field(default_factory=list)
    passed_over: list[Stop] = field(default_factory=list)


def walk(
    walk: Walk,
    stops: Mapping[int, Stop],
    facts: Facts,
    *,
    taken: Collection[str],
    policy: Policy,
    zone: ZoneInfo,
    now: datetime,
) -> Walk:
    """Take steps until one has to wait, or the end. `taken` are the keys of all steps that it took before."""
    walker = _Walker(walk, stops, facts, taken, policy, zone, now)
    while walk.step is not None and not walk.exit_reason and walker.take(walk.step):
        pass
    if walk.step is None or walk.exit_reason:
        walk.next_run_at = walk.message = None
    return walk


@dataclass(slots=True)
class _Walker:
    walk: Walk
    stops: Mapping[int, Stop]
    facts: Facts
    taken: Collection[str]
    policy: Policy
    zone: ZoneInfo
    now: datetime
    late: bool = field(init=False)

    def __post_init__(self) -> None:
        self.late = self._too_late(self.walk.next_run_at)

    def take(self, stop: Stop) -> bool:
        """Run the step; False when the contact has to wait in it."""
        if self.walk.entered_at is None and stop.key in self.taken:
            # It came here by being moved to another revision: nobody takes a step twice.
            self.walk.passed_over.append(stop)
            self._go_on(stop.next, self.walk.since)
            return True
        match stop.node:
            case Message():
                return self._message(stop)
            case Delay():
                return self._delay(stop, stop.node)
            case Condition():
                return self._condition(stop, stop.node)

    def _message(self, stop: Stop) -> bool:
        if self.walk.entered_at is None:
            if self.late and self.policy.when_late == WhenLate.END:
                self._end(stop, Outcome.LEFT, ExitReason.LATE.label)
                self.walk.entered_at, self.walk.exit_reason = self.now, ExitReason.LATE
                return False
            if self.late and self.policy.when_late == WhenLate.SKIP:
                self._end(stop, Outcome.SKIPPED, ExitReason.LATE.label)
                self._go_on(stop.next, self.now)
                return True
            return self._wait(stop, until=None, next_run_at=None, sends=True)
        letter = self.facts.letters.get(stop.key)
        if letter is None or letter.open:
            # Woken too early; without its message it could only wait for ever, so it is looked at again.
            look = None if letter else self.now + LOOK_AGAIN
            return self._wait(stop, until=None, next_run_at=look, message=letter.id if letter else None)
        outcome = _outcome(letter)
        self._end(stop, outcome, _why(letter))
        if outcome == Outcome.SKIPPED and letter.skip_reason in ENDING:
            self.walk.exit_reason = ENDING[SkipReason(letter.skip_reason)]
            return False
        self._go_on(stop.next, letter.settled_at or self.now)
        return True

    def _delay(self, stop: Stop, delay: Delay) -> bool:
        until = tree_times.due(delay, self.walk.since, self.zone)
        if until > self.now:
            return self._wait(stop, until=until, next_run_at=until)
        if self.walk.entered_at is None:
            # Whatever was late before: what follows was planned for the end of this wait.
            self.late = self._too_late(until)
        self._end(stop, Outcome.WAITED, "", until=until)
        self._go_on(stop.next, self.now)
        return True

    def _condition(self, stop: Stop, condition: Condition) -> bool:
        met, why = conditions.answer(condition.test, self.facts)
        entered_at = self.walk.entered_at or self.now
        deadline = entered_at + (condition.wait or timedelta())
        letter = self.facts.letters.get(condition.test.step) if isinstance(condition.test, Reached) else None
        hopeless = isinstance(condition.test, Reached) and letter is None
        if not met and not hopeless and deadline > self.now:
            again = LOOK_AGAIN if isinstance(condition.test, Field) else RARELY
            look = FIRST_LOOK if self.walk.entered_at is None else again
            return self._wait(
                stop, until=deadline, next_run_at=min(deadline, self.now + look), message=letter.id if letter else None
            )
        if self.walk.entered_at is not None:
            # Its timer is only the next look at it, or its turn after a pause: it is overdue when its deadline is.
            self.late = self._too_late(max(deadline, self.walk.next_run_at or deadline))
        self._end(stop, Outcome.YES if met else Outcome.NO, why, until=deadline if condition.wait else None)
        self._go_on(stop.yes if met else stop.no, self.now)
        return True

    def _wait(
        self,
        stop: Stop,
        *,
        until: datetime | None,
        next_run_at: datetime | None,
        message: int | None = None,
        sends: bool = False,
    ) -> bool:
        if self.walk.entered_at is None:
            self.walk.entered_at = self.now
            self.walk.runs.append(Run(stop, self.now, until, sends=sends))
        else:
            self.walk.until = until
        self.walk.next_run_at, self.walk.message = next_run_at, message
        return False

    def _end(self, stop: Stop, outcome: str, reason: str, *, until: datetime | None = None) -> None:
        at = self.walk.entered_at or self.now
        run = Run(stop, at, until, self.now, outcome, reason)
        if self.walk.entered_at is None:
            self.walk.runs.append(run)
        else:
            self.walk.ended = run

    def _go_on(self, following: int | None, since: datetime) -> None:
        self.walk.since, self.walk.entered_at, self.walk.message = since, None, None
        self.walk.step = None if following is None else self.stops[following]
        if self.walk.step is not None:
            self.walk.arrivals.append(self.walk.step)

    def _too_late(self, planned: datetime | None) -> bool:
        return self.policy.limit is not None and planned is not None and self.now - planned > self.policy.limit


def _outcome(letter: Letter) -> str:
    if letter.status in RECEIVED:
        return Outcome.SENT
    return {Status.FAILED: Outcome.FAILED, Status.UNCONFIRMED: Outcome.UNCONFIRMED, Status.SKIPPED: Outcome.SKIPPED}[
        Status(letter.status)
    ]


def _why(letter: Letter) -> str:
    return SkipReason(letter.skip_reason).label if letter.skip_reason else letter.error[:300]
