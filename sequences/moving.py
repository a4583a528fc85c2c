"""Moving people who are inside to the newest revision, on an operator's word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction

from kaanha.lib.errors import Refusal
from kaanha.messaging import queueing
from sequences.counting import Tally
from sequences.models import Outcome, Revision, Sequence, Status, Step

BATCH = 5_000


@dataclass(frozen=True, slots=True)
class Moved:
    """How many people were moved; `stayed` stand at a step that is gone, with nothing after it in the new revision."""

    moved: int = 0
    stayed: int = 0


@dataclass(frozen=True, slots=True)
class Way:
    """From a step of an older revision to one of the newest: the same one, or the first after it that is left."""

    old: Step
    new: Step
    same: bool


def move(sequence: Sequence, *, now: datetime) -> Moved:
    """Move everybody inside an older revision to the newest one. Refusal unless the sequence is active or paused.

    Whoever stands at a step that the newest revision has stays at it: a delay is counted anew from when it began, a
    condition is looked at anew, a queued message is sent with the new content. Where the step is gone they go on with
    the first one after it that is left, and a queued message of it is withdrawn. Nobody takes a step twice.
    """
    if sequence.status not in (Status.ACTIVE, Status.PAUSED):
        status = sequence.get_status_display().lower()
        raise Refusal(f"Sequence {sequence.name!r} is {status}: nobody can be moved in it.", code="wrong_status")
    newest: Revision = sequence.revisions.get(superseded_at=None)
    moved = 0
    for way in ways(sequence, newest):
        while part := _move(way, newest, now=now):
            moved += part
    return Moved(moved, sequence.enrollments.inside().exclude(revision=newest).count())


def ways(sequence: Sequence, newest: Revision) -> list[Way]:
    """Where people at each step of the older revisions would go; a step that isn't among them keeps its people."""
    new = {step.key: step for step in newest.steps.all()}
    found = []
    for revision in sequence.revisions.exclude(pk=newest.pk):
        old = {step.pk: step for step in revision.steps.all()}
        for step in old.values():
            same = new.get(step.key)
            if same is not None and same.kind == step.kind:
                found.append(Way(step, same, same=True))
            elif (left := _left_after(step, old, new)) is not None:
                found.append(Way(step, left, same=False))
    return found


def _left_after(step: Step, old: Mapping[int, Step], new: Mapping[str, Step]) -> Step | None:
    """The first step after this one, on the way that follows it, that the new revision has."""
    following = step.next_id
    while following is not None:
        if old[following].key in new:
            return new[old[following].key]
        following = old[following].next_id
    return None


def _move(way: Way, newest: Revision, *, now: datetime, limit: int = BATCH) -> int:
    """Move a batch of those who stand at a step; how many."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_STANDING, [way.old.revision_id, way.old.pk, way.same, limit])
        rows = cursor.fetchall()
        if not rows:
            return 0
        keys = [key for key, *_ in rows]
        entered = sum(entered for *_, entered in rows)
        messages = [message for _, message, _ in rows if message is not None]
        if way.same:
            cursor.execute(_TAKE_ALONG, [way.new.pk, keys])
            cursor.execute(_KEEP, [newest.pk, way.new.pk, now, keys])
        else:
            cursor.execute(_LEAVE, [now, keys])
            cursor.execute(_GO_ON, [newest.pk, way.new.pk, now, now, keys])
        _redirect(way, messages, now=now)
        tally = Tally()
        # The open run of a step that stays moves along; one of a step that is gone ends where it was.
        tally.step(way.old.pk, "arrived", -(len(keys) if way.same else len(keys) - entered))
        tally.step(way.old.pk, Outcome.LEFT, 0 if way.same else entered)
        tally.step(way.new.pk, "arrived", len(keys))
        tally.write()
    return len(keys)


def _redirect(way: Way, messages: list[int], *, now: datetime) -> None:
    """Queued messages of a step that stays are sent with its new content, those of one that is gone not at all."""
    if not way.same:
        if way.old.dispatch_id is not None:
            queueing.withdraw(messages, now=now)
    elif way.new.dispatch_id is not None and way.new.template_id is not None:
        queueing.redirect(messages, dispatch_id=way.new.dispatch_id, template_id=way.new.template_id)


# At a step that is gone, those whose message is in flight stay until its fate is known.
_STANDING = """
SELECT e.id, e.message, e.entered_at IS NOT NULL FROM sequences_enrollment e
WHERE e.sequence_id = (SELECT sequence_id FROM sequences_revision WHERE id = %s) AND e.step_id = %s
  AND e.ended_at IS NULL
  AND (%s OR NOT EXISTS (SELECT FROM messaging_message m WHERE m.id = e.message AND m.status = 'sending'))
ORDER BY e.id LIMIT %s FOR UPDATE OF e
"""
# A delay's or a condition's time is worked out anew; who waits for a message's fate goes on waiting.
_KEEP = """
UPDATE sequences_enrollment SET revision_id = %s, step_id = %s,
  next_run_at = CASE WHEN next_run_at IS NULL THEN NULL ELSE least(next_run_at, %s) END
WHERE id = ANY(%s)
"""
_TAKE_ALONG = "UPDATE sequences_steprun SET step_id = %s WHERE enrollment_id = ANY(%s) AND ended_at IS NULL"
_LEAVE = """
UPDATE sequences_steprun SET ended_at = %s, outcome = 'left', reason = 'The step is gone in the new revision'
WHERE enrollment_id = ANY(%s) AND ended_at IS NULL
"""
_GO_ON = """
UPDATE sequences_enrollment SET revision_id = %s, step_id = %s, since = %s, entered_at = NULL, next_run_at = %s,
  message = NULL
WHERE id = ANY(%s)
"""
