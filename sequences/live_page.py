"""What stands around the steps of a running sequence: its people, what holds it up, its revisions, what changed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from kaanha.organizations.owned_admin import moment
from kaanha.whatsapp.cloud_api.errors import ErrorClass
from sequences import counting, moving, seeing, trees
from sequences.models import (
    INSIDE,
    Code,
    EnrollmentStatus,
    ExitReason,
    Intake,
    Revision,
    Sequence,
    Status,
    Step,
    Trigger,
    WhenLate,
)
from sequences.step_numbers import people_url
from sequences.steps_shown import started_by
from sequences.trees import Change, ChangeKind

CHANGE_COLORS = {
    ChangeKind.ADDED: "success",
    ChangeKind.CHANGED: "info",
    ChangeKind.MOVED: "info",
    ChangeKind.REMOVED: "danger",
}


# --- the numbers -------------------------------------------------------------------------------------------------


def standing(sequence: Sequence) -> dict[str, Any]:
    """How the sequence as a whole is doing: what holds it up, and how many people are where. Four queries."""
    people = seeing.people(sequence)
    return {
        "sentences": situation(sequence),
        "tiles": [
            ("Enrolled", people.enrolled, people_url(sequence)),
            ("Inside", people.inside, people_url(sequence, status__in=",".join(INSIDE))),
            ("Completed", people.completed, people_url(sequence, status__exact=EnrollmentStatus.COMPLETED.value)),
            ("Left early", people.exited, people_url(sequence, status__exact=EnrollmentStatus.EXITED.value)),
        ],
        "held_steps": [held_words(step) for step in seeing.held_steps([sequence.pk])],
    }


def situation(sequence: Sequence) -> list[str]:
    """What it waits for or is busy with, in sentences; empty while everything takes its course."""
    found = []
    if sequence.status == Status.PAUSED:
        found.append(f"Nobody has moved since {moment(sequence.paused_at)}. {_lets_in(sequence)}")
    elif sequence.status == Status.ARCHIVED:
        found.append(f"It ended for everybody on {moment(sequence.archived_at)}, and takes nobody in.")
    if sequence.exit_up_to is not None:
        inside = counting.people([sequence.pk])[sequence.pk].inside
        found.append(f"The people inside are being taken out: {inside:,} to go.")
    elif sequence.spread_asked_at is not None:
        found.append("Those who fell due meanwhile are being lined up: they go on in a moment, one after the other.")
    if (newest := sequence.revision) is not None and newest.move_turn_at is not None:
        left = moving.people_to_move(newest)
        found.append(f"People are being moved to revision {newest.number}: {left:,} to go.")
    intakes = Intake.objects.filter(sequence=sequence, finished_at=None).select_related("tag").order_by("pk")
    found += [
        f"{f'The holders of the tag {one.tag}' if one.tag else 'The contacts that were chosen'} are being enrolled: "
        f"{one.enrolled:,} so far" + (f", and {one.refused:,} who can't be." if one.refused else ".")
        for one in intakes
    ]
    return found


def _lets_in(sequence: Sequence) -> str:
    if sequence.trigger == Trigger.MANUAL:
        return "Nobody can be enrolled until you resume it."
    return "Its trigger still enrolls people, who wait at the first step; by hand nobody can be enrolled."


def held_words(step: Step) -> str:
    """Which step is held, why, and what it takes to go on."""
    dispatch = step.dispatch
    if dispatch is None:
        return ""
    goes_on = (
        "It goes on by itself once the template can be sent again."
        if dispatch.hold_reason == ErrorClass.TEMPLATE
        else "When the trouble is over, let it try again."
    )
    since = moment(dispatch.held_at)
    return f"Step {step.place}, {step.template}, is held since {since}: {dispatch.hold_detail} {goes_on}"


def reasons(sequence: Sequence) -> dict[str, Any]:
    """Why people left or weren't enrolled. Counted from the rows, so asked for less often."""
    left, refused = seeing.exits(sequence), seeing.refusals(sequence)
    return {
        "exits": [
            (ExitReason(key).label, count, people_url(sequence, exit_reason__exact=key)) for key, count in left.items()
        ],
        "refusals": [(Code(key).label, count) for key, count in refused.items()],
        "refusals_url": people_url(sequence, refused=1),
    }


def late_words(sequence: Sequence) -> str:
    """What becomes of somebody whose step comes too late."""
    if sequence.late_limit is None:
        return "Steps are never too late"
    return f"More than {trees.span(sequence.late_limit)} late: {sequence.get_when_late_display().lower()}"


# --- revisions ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RevisionShown:
    """A line of the list of revisions."""

    number: int
    at: str
    by: str
    inside: int
    newest: bool
    shown: bool


def revisions(sequence: Sequence, shown: Revision | None) -> list[RevisionShown]:
    """All that were published, the newest first, each with the people who are on it. Two queries."""
    inside = inside_by_revision(sequence)
    return [
        RevisionShown(
            number=one.number,
            at=moment(one.published_at),
            by=str(one.published_by or ""),
            inside=inside.get(one.pk, 0),
            newest=one.superseded_at is None,
            shown=one == shown,
        )
        for one in sequence.revisions.select_related("published_by").defer("tree").order_by("-number")
    ]


def inside_by_revision(sequence: Sequence) -> dict[int, int]:
    """How many people are on their way on each revision. Two queries of the steps' counters."""
    steps = dict(Step.objects.filter(revision__sequence=sequence).values_list("pk", "revision"))
    found: Counter[int] = Counter()
    for step, passage in counting.passages(steps).items():
        found[steps[step]] += passage.waiting
    return found


def changes(old: Revision, new: Revision | Sequence) -> list[tuple[str, str, str, str]]:
    """What `new` changes: (color, kind, place, sentence). The draft is what counts of a sequence."""
    organization = new.organization
    before = trees.parse(old.tree)
    after = trees.parse(new.tree if isinstance(new, Revision) else trees.read(new.draft, organization))
    called = trees.names(before, organization) | trees.names(after, organization)
    return [*_setting_changes(old, new), *(_told(change) for change in trees.diff(before, after, called))]


def _told(change: Change) -> tuple[str, str, str, str]:
    return CHANGE_COLORS[change.kind], change.kind.value, f"Step {change.place}", change.sentence


def _setting_changes(old: Any, new: Any) -> list[tuple[str, str, str, str]]:
    pairs = (
        ("What starts it", started_by(old), started_by(new)),
        ("Sends from", str(old.phone_number), str(new.phone_number)),
    )
    color = CHANGE_COLORS[ChangeKind.CHANGED]
    return [
        (color, ChangeKind.CHANGED.value, what, f"“{before}” becomes “{after}”.")
        for what, before, after in pairs
        if before != after
    ]


# --- words for acts ----------------------------------------------------------------------------------------------


def people(count: int) -> str:
    """1 person, 12,000 people."""
    return f"{count:,} {'person' if count == 1 else 'people'}"


def overdue(sequence: Sequence, *, now: datetime) -> list[str]:
    """What a resume sets in motion: who fell due meanwhile, how long they take, and who is too late by now."""
    due = sequence.enrollments.filter(status=EnrollmentStatus.ACTIVE, next_run_at__lte=now)
    count = due.count()
    if not count:
        return ["Nobody fell due meanwhile: everybody goes on at the planned time."]
    late = _late(sequence, due, now=now)
    rate = sequence.spread_per_minute
    line = f"{people(count)} fell due meanwhile. They go on one after the other, {rate:,} a minute"
    return [f"{line}: that takes about {_minutes(count, rate)}.", *late]


def _minutes(count: int, rate: int) -> str:
    minutes = ceil(count / rate)
    if minutes < 2 * 60:
        return f"{minutes} minute{'s' if minutes > 1 else ''}"
    return f"{timedelta(minutes=minutes) / timedelta(hours=1):.0f} hours"


def _late(sequence: Sequence, due: Any, *, now: datetime) -> list[str]:
    if sequence.late_limit is None or sequence.when_late == WhenLate.SEND:
        return []
    count = due.filter(next_run_at__lt=now - sequence.late_limit).count()
    then = "their late messages are skipped" if sequence.when_late == WhenLate.SKIP else "the sequence ends for them"
    return [f"Late by more than {trees.span(sequence.late_limit)}: {count:,} of them, and {then}."] if count else []
