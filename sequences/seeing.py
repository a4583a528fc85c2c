"""What became of a sequence and of each person in it, for screens, commands and other systems. Constant queries."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from collections.abc import Sequence as Listed
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from kaanha.messaging import counting as messages
from kaanha.messaging.counting import Funnel
from kaanha.messaging.models import Dispatch, Message
from kaanha.organizations.models import Organization
from sequences import counting, running, tree_names, trees
from sequences.counting import Passage, People
from sequences.models import (
    Enrollment,
    EnrollmentStatus,
    Revision,
    Sequence,
    Status,
    Step,
    StepRun,
)


@dataclass(frozen=True)
class StepView:
    """A step with its people. Message steps also have the funnel of everything they sent, and why they are held.

    `dispatches` are those of all revisions, its own first, then the newest: what the funnel counts.
    """

    step: Step
    words: str
    passage: Passage
    funnel: Funnel | None
    dispatches: list[int]
    held: Dispatch | None


@dataclass(frozen=True)
class RunView:
    """A step that a person took, with the message as it is now."""

    run: StepRun
    place: str
    words: str
    message: Message | None


def steps(sequence: Sequence, revision: Revision) -> list[StepView]:
    """The revision's steps in the order of reading. A step's numbers are those of all revisions that have it."""
    own = list(revision.steps.select_related("dispatch").order_by("position"))
    nodes = trees.parse(revision.tree)
    names = trees.names(nodes, sequence.organization)
    words = {step.key: trees.words(step.node, names) for step in trees.flatten(nodes)}
    passages, dispatches = _by_key(sequence)
    funnels = messages.funnels({key for keys in dispatches.values() for key in keys})
    return [
        StepView(
            step=step,
            words=words[step.key],
            passage=passages[step.key],
            funnel=_sum(funnels[key] for key in sorted(dispatches[step.key])) if step.dispatch_id else None,
            dispatches=sorted(dispatches[step.key], key=lambda one: (one != step.dispatch_id, -one)),
            held=step.dispatch if step.dispatch and step.dispatch.held_at is not None else None,
        )
        for step in own
    ]


def funnels(sequences: Iterable[Sequence]) -> dict[int, Funnel]:
    """The funnel of everything that each sequence sent. Two queries."""
    keys = [sequence.pk for sequence in sequences]
    rows = Step.objects.filter(revision__sequence__in=keys, dispatch__isnull=False)
    pairs = set(rows.values_list("revision__sequence_id", "dispatch_id"))
    found = messages.funnels({dispatch for _, dispatch in pairs})
    parts: dict[int, list[Funnel]] = {key: [] for key in keys}
    for owner, dispatch in pairs:
        parts[owner].append(found[dispatch])
    return {key: _sum(own) for key, own in parts.items()}


def people(sequence: Sequence) -> People:
    return counting.people([sequence.pk])[sequence.pk]


def exits(sequence: Sequence) -> dict[str, int]:
    """How many left before the end, by reason, the most frequent first."""
    left = sequence.enrollments.filter(status=EnrollmentStatus.EXITED)
    # Of the rows, not of their keys: those stand in no index.
    return dict(left.values_list("exit_reason").annotate(rows=Count("*")).order_by("-rows", "exit_reason"))


def refusals(sequence: Sequence) -> dict[str, int]:
    """How many people were not enrolled, by reason, the most frequent first."""
    return dict(sequence.refusals.values_list("code").annotate(rows=Count("pk")).order_by("-rows", "code"))


def skips(sequence: Sequence) -> dict[str, dict[str, int]]:
    """By step, how many messages were skipped for each reason, the most frequent first. Two queries.

    Counted from the messages, by the index of those that were skipped: a tenth of a second for a million of them.
    """
    steps = Step.objects.filter(revision__sequence=sequence, dispatch__isnull=False)
    keys = dict(steps.values_list("dispatch_id", "key"))
    rows = Message.objects.filter(dispatch__in=list(keys)).skipped()
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for dispatch, reason, count in rows.values_list("dispatch_id", "skip_reason").annotate(rows=Count("*")):
        found[keys[dispatch]][reason] += count
    return {key: dict(counts.most_common()) for key, counts in found.items()}


def held_steps(sequences: QuerySet[Sequence] | Iterable[int]) -> list[Step]:
    """The steps of these sequences that trouble holds, each dispatch once, the longest held first. One query.

    Those of the newest revisions, and of older ones where people still wait.
    """
    waiting = Message.objects.filter(dispatch=OuterRef("dispatch"), due_at__isnull=False)
    rows = Step.objects.filter(
        revision__sequence__in=sequences,
        revision__sequence__status=Status.ACTIVE,
        dispatch__held_at__isnull=False,
        dispatch__canceled_at=None,
    ).filter(Q(revision__superseded_at=None) | Exists(waiting))
    rows = rows.exclude(dispatch__hold_reason__in=running.OWN_HOLDS).order_by("dispatch__held_at", "-revision__number")
    found: dict[int | None, Step] = {}
    for step in rows.select_related("dispatch", "template", "revision__sequence"):
        found.setdefault(step.dispatch_id, step)
    return list(found.values())


def summary(sequence: Sequence) -> dict[str, Any]:
    """The sequence as other systems see it: where it stands, its people, and every step with its numbers."""
    revision, counts = sequence.revision, people(sequence)
    return {
        "id": sequence.public_id,
        "name": sequence.name,
        "status": sequence.status,
        "trigger": sequence.trigger,
        "triggerTag": sequence.trigger_tag.name if sequence.trigger_tag else None,
        "revision": revision.number if revision else None,
        "enrolled": counts.enrolled,
        "inside": counts.inside,
        "completed": counts.completed,
        "exited": exits(sequence),
        "refused": refusals(sequence),
        "steps": [_told(view) for view in steps(sequence, revision)] if revision else [],
    }


def path(enrollment: Enrollment) -> list[RunView]:
    """The steps that a person has taken, in their order. Four queries, however many revisions they are of."""
    runs = list(enrollment.runs.select_related("step__revision").order_by("at", "pk"))
    found = Message.objects.in_bulk([run.message for run in runs if run.message is not None])
    revisions = {*(run.step.revision for run in runs), enrollment.revision}
    names = _names(sorted(revisions, key=lambda one: one.number), enrollment.sequence.organization)
    return [
        RunView(run, run.step.place, trees.words(trees.parse([run.step.spec])[0], names), found.get(run.message or 0))
        for run in runs
    ]


def _names(revisions: Listed[Revision], organization: Organization) -> dict[str, str]:
    """What people call what is in these revisions, oldest first: a step is called as it is called now. Two queries."""
    roots = [trees.parse(revision.tree) for revision in revisions]
    nodes = [node for tree in roots for node in tree]
    rows = [*tree_names.tags_of(nodes, organization), *tree_names.templates_of(nodes, organization)]
    called = {row.public_id: str(row) for row in rows}
    return called | {step.key: tree_names.step_name(step, called) for tree in roots for step in trees.flatten(tree)}


def _by_key(sequence: Sequence) -> tuple[dict[str, Passage], dict[str, set[int]]]:
    """The passages and the dispatches of each step, over all revisions."""
    rows = list(Step.objects.filter(revision__sequence=sequence).values_list("pk", "key", "dispatch_id"))
    counts = counting.passages(pk for pk, *_ in rows)
    passages: dict[str, Passage] = {}
    dispatches: dict[str, set[int]] = {}
    for pk, key, dispatch in rows:
        passages[key] = passages.get(key, Passage()) + counts[pk]
        dispatches.setdefault(key, set()).update({dispatch} - {None})
    return passages, dispatches


def _sum(parts: Iterable[Funnel]) -> Funnel:
    vectors = [[getattr(part, column) for column in messages.COLUMNS] for part in parts]
    return Funnel(*(sum(column) for column in zip(*vectors, strict=True)))


def _told(view: StepView) -> dict[str, Any]:
    passage, funnel = view.passage, view.funnel
    told: dict[str, Any] = {
        "id": view.step.key,
        "place": view.step.place,
        "type": view.step.kind,
        "words": view.words,
        "arrived": passage.arrived,
        "waiting": passage.waiting,
        "passed": passage.passed,
        "left": passage.left,
    }
    if view.step.kind == Step.Kind.CONDITION:
        told |= {"yes": passage.yes, "no": passage.no}
    if funnel is not None:
        told |= {"skipped": passage.skipped, "failed": passage.failed, "unconfirmed": passage.unconfirmed}
        told |= {
            "funnel": {column: getattr(funnel, column) for column in messages.COLUMNS} | {"waiting": funnel.waiting}
        }
        told |= {"held": view.held.hold_detail if view.held else None}
    return told
