"""Moving people who are inside to the newest revision, on an operator's word.

Locks in the order of `advancing`: the sequence (shared) → Enrollment → Message → counters, those of steps last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection, transaction
from django.db.models import Count

from kaanha.lib.errors import Refusal
from kaanha.messaging import queueing
from kaanha.messaging.models import SkipReason
from kaanha.organizations import audit
from sequences import locks, tree_times, trees
from sequences.counting import Tally
from sequences.models import Outcome, Revision, Sequence, Status, Step, WhenLate
from sequences.publishing import dispatches
from sequences.tree_nodes import Delay

BATCH = 5_000
MOVABLE = (Status.ACTIVE, Status.PAUSED)


@dataclass(frozen=True, slots=True)
class Moved:
    """How many people were moved, are still being moved by the sweep, and stay inside an older revision.

    Those who `stayed` stand at a step that is gone. Either nothing that comes after it is left, and they finish on
    their revision; or its message was on its way, or what became of it not yet noticed: they go on from there once it
    is, and another move takes them along. Who walked on while the others were moved may be among them, too.
    """

    moved: int = 0
    stayed: int = 0
    moving: int = 0


@dataclass(frozen=True, slots=True)
class Way:
    """From a step of an older revision to one of the newest: the same one, or the first after it that is left."""

    old: Step
    new: Step
    same: bool


def move(sequence: Sequence, *, now: datetime, most: int | None = None) -> Moved:
    """Move everybody inside an older revision to the newest one. Refusal unless the sequence is active or paused.

    Whoever stands at a step that the newest revision has stays at it, and keeps its time where the step is unchanged.
    Otherwise a delay is counted anew from when it began, a condition is looked at anew, a queued message is sent with
    the new content. Where the step is gone they go on with the first one after it that is left, and a queued message of
    it is withdrawn. Whoever is due by that gets a turn, at the rate of the sequence. Nobody takes a step twice.

    In batches; it stops early where the sequence is archived, or published anew, meanwhile. With `most` the sweep sees
    to whoever is left after so many.
    """
    held = Sequence.objects.get(pk=sequence.pk)
    if held.status not in MOVABLE:
        status = held.get_status_display().lower()
        raise Refusal(f"Sequence {held.name!r} is {status}: nobody can be moved in it.", code="wrong_status")
    newest: Revision = held.revisions.get(superseded_at=None)
    with transaction.atomic():
        Revision.objects.filter(pk=newest.pk).update(move_turn_at=now)
        audit.record("sequence.moved", held, revision=newest.number, people=people_to_move(newest))
    moved = _carry_on(newest, now, now=now, most=most)
    left = people_to_move(newest) if Revision.objects.filter(pk=newest.pk, move_turn_at__isnull=False).exists() else 0
    return Moved(moved, standing(newest).total() - left, left)


def carry_on(*, now: datetime) -> int:
    """Go on with the moves that were asked for and aren't done, some batches of each; how many people were moved."""
    asked = Revision.objects.filter(move_turn_at__isnull=False, superseded_at=None, sequence__status__in=MOVABLE)
    return sum(_carry_on(newest, newest.move_turn_at or now, now=now, most=4 * BATCH) for newest in list(asked))


def people_to_move(newest: Revision) -> int:
    """How many of those inside an older revision would go to the newest. Three queries."""
    by_step = standing(newest)
    return sum(by_step[way.old.pk] for way in ways(newest, by_step))


def _carry_on(newest: Revision, turn: datetime, *, now: datetime, most: int | None) -> int:
    """Batches, until everybody is moved or at least `most` are; how many. Then it is noted how far the turns are."""
    turns = _Turns(max(now, turn))
    batches = [partial(_move, way, newest, turns, now=now) for way in ways(newest, standing(newest))]
    batches += [partial(_catch_up, step, old, newest) for step, old in _left_behind(newest)]
    moved = 0
    for batch in batches:
        moved += _all(batch, most=None if most is None else most - moved)
        if most is not None and moved >= most:
            Revision.objects.filter(pk=newest.pk, move_turn_at=turn).update(move_turn_at=turns.at)
            return moved
    Revision.objects.filter(pk=newest.pk, move_turn_at=turn).update(move_turn_at=None)
    return moved


def standing(newest: Revision) -> Counter[int]:
    """How many people of older revisions stand at each step. One query."""
    inside = newest.sequence.enrollments.inside().filter(revision__number__lt=newest.number).order_by()
    return Counter(dict(inside.values_list("step").annotate(people=Count("pk"))))


def ways(newest: Revision, steps: Collection[int]) -> list[Way]:
    """Where people at these steps of older revisions would go; a step that isn't among them keeps its people."""
    new = {step.key: step for step in newest.steps.all()}
    revisions = Step.objects.filter(pk__in=list(steps)).values("revision")
    old = {step.pk: step for step in Step.objects.filter(revision__in=revisions)}
    found = (_way(step, old, new) for step in old.values() if step.pk in steps)
    return [way for way in found if way is not None]


def _way(step: Step, old: Mapping[int, Step], new: Mapping[str, Step]) -> Way | None:
    same = new.get(step.key)
    if same is not None and same.kind == step.kind:
        return Way(step, same, same=True)
    left = _left_after(step, old, new)
    return Way(step, left, same=False) if left is not None else None


def _left_after(step: Step, old: Mapping[int, Step], new: Mapping[str, Step]) -> Step | None:
    """The first step after this one, on the way that follows it, that the new revision has."""
    following = step.next_id
    while following is not None:
        if old[following].key in new:
            return new[old[following].key]
        following = old[following].next_id
    return None


# --- a batch ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Turns:
    """Moments for people who become due by the move: the first at once, then at the sequence's rate."""

    at: datetime

    def take(self, held: Sequence) -> datetime:
        turn = self.at
        self.at += timedelta(minutes=1) / held.spread_per_minute
        return turn


@dataclass(frozen=True, slots=True)
class _Person:
    """A locked enrollment. `planned_at` is what it is judged by when it is late."""

    id: int
    message: int | None
    since: datetime
    entered_at: datetime | None
    planned_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Page:
    """What a batch did: how many it moved, and the last enrollment that it looked at."""

    moved: int
    last: int


def _all(batch: Callable[[int], _Page | None], *, most: int | None) -> int:
    """Do batches, each from the enrollment after the last one's, until there is none or `most` are moved; how many."""
    moved, last = 0, 0
    while (most is None or moved < most) and (page := batch(last)):
        moved, last = moved + page.moved, page.last
    return moved


def _move(way: Way, newest: Revision, turns: _Turns, last: int, *, now: datetime) -> _Page | None:
    """Move a batch of those who stand at a step."""
    with transaction.atomic():
        held = _shared(newest)
        found = _read(_AT_STEP, [newest.sequence_id, way.old.pk, last, BATCH]) if held else []
        if held is None or not found:
            return None
        keys = [key for (key,) in found]
        people = [_Person(*values) for values in _read(_LOCK, [keys, way.old.pk])]
        if way.same:
            moved = _keep(way, newest, people, _times(way, people, held, turns, now=now))
        else:
            moved = _send_on(way, newest, people, lambda: turns.take(held), now=now)
    return _Page(moved, keys[-1])


def _shared(newest: Revision) -> Sequence | None:
    """The sequence, shared until the end of the transaction; None where nobody may be moved to this revision any more.

    Looked at in every batch: archiving, and the next revision, come between two of them.
    """
    locks.share([newest.sequence_id])
    open_still = Sequence.objects.filter(pk=newest.sequence_id, status__in=MOVABLE).select_related("organization")
    return open_still.filter(revisions__pk=newest.pk, revisions__superseded_at=None).first()


def _keep(way: Way, newest: Revision, people: list[_Person], times: Mapping[int, datetime]) -> int:
    """They stay at the step, as it is now; the open run of it moves along."""
    keys = [one.id for one in people]
    with connection.cursor() as cursor:
        cursor.execute(_TAKE_ALONG, [way.new.pk, keys])
        cursor.execute(_KEEP, [newest.pk, way.new.pk, keys])
        cursor.execute(_RETIME, [list(times), list(times.values())])
    _redirect(way.new, [one.message for one in people if one.message is not None])
    tally = Tally()
    tally.step(way.old.pk, "arrived", -len(keys))
    tally.step(way.new.pk, "arrived", len(keys))
    tally.write()
    return len(keys)


def _times(way: Way, people: Iterable[_Person], held: Sequence, turns: _Turns, *, now: datetime) -> dict[int, datetime]:
    """When those are run next for whom the change of a delay or condition means another time.

    Not those who haven't run it yet: their turn stays theirs. Nor those whom the policy holds for too late already.
    """
    if way.old.spec == way.new.spec or way.new.kind == Step.Kind.MESSAGE:
        return {}
    node, zone = trees.parse([way.new.spec])[0], ZoneInfo(held.organization.timezone)
    found = {}
    for one in people:
        if one.entered_at is None:
            continue
        due = tree_times.due(node, one.since, zone) if isinstance(node, Delay) else now
        if due > now:
            found[one.id] = due
        elif not _too_late(one, held, now=now):
            found[one.id] = turns.take(held)
    return found


def _too_late(one: _Person, held: Sequence, *, now: datetime) -> bool:
    if held.late_limit is None or held.when_late == WhenLate.SEND or one.planned_at is None:
        return False
    return now - one.planned_at > held.late_limit


def _send_on(way: Way, newest: Revision, people: list[_Person], turn: Callable[[], datetime], *, now: datetime) -> int:
    """They leave the step, which is gone, for the next one; how many. Their run of it ends where it was.

    Whose message can't be withdrawn any more stays.
    """
    going = _free(way.old, people, now=now)
    keys = [one.id for one in going]
    with connection.cursor() as cursor:
        cursor.execute(_LEAVE, [now, keys])
        cursor.execute(_GO_ON, [newest.pk, way.new.pk, now, keys, [turn() for _ in keys]])
    entered = sum(one.entered_at is not None for one in going)
    tally = Tally()
    tally.step(way.old.pk, "arrived", entered - len(keys))
    tally.step(way.old.pk, Outcome.LEFT, entered)
    tally.step(way.new.pk, "arrived", len(keys))
    tally.write()
    return len(keys)


def _free(step: Step, people: list[_Person], *, now: datetime) -> list[_Person]:
    """Those whom no message keeps at the step. Queued ones are withdrawn; what a claim was quicker to take is not.

    A condition's message is that of an earlier step: it keeps nobody.
    """
    messages = [one.message for one in people if one.message is not None]
    if step.kind != Step.Kind.MESSAGE or not messages:
        return people
    queueing.withdraw(messages, now=now)
    withdrawn = {key for (key,) in _read(_WITHDRAWN, [messages, str(SkipReason.CANCELED), now])}
    return [one for one in people if one.message is None or one.message in withdrawn]


def _redirect(step: Step, messages: list[int]) -> int:
    """Let queued messages of a step be sent with its content; how many."""
    if not messages or step.dispatch_id is None or step.template_id is None:
        return 0
    return len(queueing.redirect(messages, dispatch_id=step.dispatch_id, template_id=step.template_id))


# --- messages that were in flight at an earlier move --------------------------------------------------------------


def _left_behind(newest: Revision) -> list[tuple[Step, list[int]]]:
    """Steps of the newest revision at which people wait for a message with older content, and its dispatches.

    Their message was on its way when they were moved, and Meta refused it for now: it is queued where it was before.
    """
    steps = {step.pk: step for step in newest.steps.filter(kind=Step.Kind.MESSAGE)}
    current = {step.dispatch_id for step in steps.values()}
    older = [dispatch.pk for dispatch in dispatches(newest.sequence) if dispatch.pk not in current]
    waiting = {key for (key,) in _read(_BEHIND, [older, list(steps)])} if older else set()
    return [(steps[key], older) for key in sorted(waiting)]


def _catch_up(step: Step, older: list[int], newest: Revision, last: int) -> _Page | None:
    """Redirect a batch of messages that were left behind by those who wait for them at this step."""
    with transaction.atomic():
        found = _read(_BEHIND_AT_STEP, [older, step.pk, last, BATCH]) if _shared(newest) else []
        if not found:
            return None
        keys = [key for (key,) in found]
        people = [_Person(*values) for values in _read(_LOCK, [keys, step.pk])]
        # Under the lock it may be another one, which is of this step all the same.
        redirected = _redirect(step, [one.message for one in people if one.message is not None])
    return _Page(redirected, keys[-1])


def _read(statement: str, values: list[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


_AT_STEP = """
SELECT id FROM sequences_enrollment
WHERE sequence_id = %s AND step_id = %s AND ended_at IS NULL AND id > %s ORDER BY id LIMIT %s
"""
# Late is who waits in a condition by its deadline: the timer is only the next look at it.
_LOCK = """
SELECT e.id, e.message, e.since, e.entered_at, coalesce(r.until, e.next_run_at)
FROM sequences_enrollment e JOIN sequences_step st ON st.id = e.step_id
LEFT JOIN sequences_steprun r ON st.kind = 'condition' AND r.enrollment_id = e.id AND r.ended_at IS NULL
WHERE e.id = ANY(%s) AND e.step_id = %s AND e.ended_at IS NULL ORDER BY e.id FOR UPDATE OF e
"""
_KEEP = "UPDATE sequences_enrollment SET revision_id = %s, step_id = %s WHERE id = ANY(%s)"
_RETIME = """
UPDATE sequences_enrollment e SET next_run_at = new.at
FROM unnest(%s::bigint[], %s::timestamptz[]) AS new (id, at) WHERE e.id = new.id
"""
_TAKE_ALONG = "UPDATE sequences_steprun SET step_id = %s WHERE enrollment_id = ANY(%s) AND ended_at IS NULL"
_LEAVE = """
UPDATE sequences_steprun SET ended_at = %s, outcome = 'left', reason = 'The step is gone in the new revision'
WHERE enrollment_id = ANY(%s) AND ended_at IS NULL
"""
_GO_ON = """
UPDATE sequences_enrollment e SET revision_id = %s, step_id = %s, since = %s, entered_at = NULL, message = NULL,
  next_run_at = new.at
FROM unnest(%s::bigint[], %s::timestamptz[]) AS new (id, at) WHERE e.id = new.id
"""
# Withdrawn by us: what was skipped before for another reason has a fate that its owner is yet to hear of.
_WITHDRAWN = """
SELECT id FROM messaging_message
WHERE id = ANY(%s) AND status = 'skipped' AND skip_reason = %s AND closed_at = %s
"""
_BEHIND = """
SELECT DISTINCT e.step_id FROM messaging_message m JOIN sequences_enrollment e ON e.message = m.id
WHERE m.dispatch_id = ANY(%s) AND m.status = 'queued' AND e.step_id = ANY(%s) AND e.ended_at IS NULL
"""
_BEHIND_AT_STEP = """
SELECT e.id FROM messaging_message m JOIN sequences_enrollment e ON e.message = m.id
WHERE m.dispatch_id = ANY(%s) AND m.status = 'queued' AND e.step_id = %s AND e.ended_at IS NULL AND e.id > %s
ORDER BY e.id LIMIT %s
"""
