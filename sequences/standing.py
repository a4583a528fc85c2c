"""Where people stand in their sequences and what lies ahead of them, in words."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from collections.abc import Sequence as Listed
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from kaanha.organizations.models import Organization
from sequences import trees
from sequences.models import INSIDE, Enrollment, EnrollmentStatus, Status, Step, StepRun
from sequences.tree_names import step_name, tags_of, templates_of
from sequences.trees import Condition, Delay, Flat, Node, Reached

# What `standings` asks of the enrollments that it is given.
RELATED = ("sequence", "step__dispatch", "step__next")


@dataclass(frozen=True)
class Standing:
    """The step in which somebody stands: its key, its place and what it does.

    `at` is when it goes on, at the latest; None where nobody knows. `waits_for` is a sentence on what keeps it waiting
    beside that. `then` is what follows a delay.
    """

    key: str
    place: str
    words: str
    at: datetime | None
    waits_for: str
    then: str


@dataclass(frozen=True)
class Ahead:
    """A step that lies ahead. `at` is when it will be over if nothing comes between, None where nobody can know."""

    place: str
    kind: str
    words: str
    at: datetime | None
    paths: list[tuple[str, list[Ahead]]] = field(default_factory=list)


def standings(enrollments: Listed[Enrollment], organization: Organization) -> dict[int, Standing]:
    """Where each of those who are still inside stands, by enrollment. Four queries; read them with RELATED."""
    inside = {row.pk: row.step for row in enrollments if row.status in INSIDE and row.step is not None}
    rows = [row for row in enrollments if row.pk in inside]
    following = {step.pk: step.next for step in inside.values() if step.kind == Step.Kind.DELAY}
    words = in_words([*inside.values(), *(step for step in following.values() if step)], organization)
    open_runs = StepRun.objects.filter(enrollment__in=list(inside), ended_at=None, until__isnull=False)
    until = dict(open_runs.values_list("enrollment_id", "until"))
    found = {}
    for row in rows:
        step = inside[row.pk]
        after = following.get(step.pk)
        then = (words[after.pk] if after else "the end") if step.pk in following else ""
        at = until.get(row.pk) or row.next_run_at
        found[row.pk] = Standing(step.key, step.place, words[step.pk], at, _waits_for(row, step), then)
    return found


def _waits_for(enrollment: Enrollment, step: Step) -> str:
    """What keeps somebody waiting in its step beside the time; empty where it's the time alone."""
    sequence = enrollment.sequence
    if enrollment.status == EnrollmentStatus.PAUSED:
        return "The enrollment is paused: resume it to let it go on."
    if sequence.status == Status.PAUSED:
        return "The sequence is paused: resume it to let everybody go on."
    if step.dispatch and step.dispatch.held_at is not None:
        return f"The step is held: {step.dispatch.hold_detail}"
    if sequence.spread_asked_at is not None or sequence.exit_up_to is not None:
        return "The people inside are being sorted after a pause; it goes on by itself."
    if step.kind == Step.Kind.MESSAGE and enrollment.entered_at is not None:
        return "Its message is waiting to be sent, or for Meta's answer."
    return ""


def in_words(steps: Iterable[Step], organization: Organization) -> dict[int, str]:
    """What each step does, such as: Wait 2 days. Three queries at the most, however many steps and revisions."""
    nodes = {step.pk: trees.parse([step.spec])[0] for step in steps}
    revisions = {step.pk: step.revision_id for step in steps}
    asked = _asked_about(nodes, revisions)
    everything = [*nodes.values(), *(flat.node for _, flat in asked)]
    rows = [*tags_of(everything, organization), *templates_of(everything, organization)]
    called = {row.public_id: str(row) for row in rows}
    names: dict[int, dict[str, str]] = {revision: dict(called) for revision in revisions.values()}
    for revision, flat in asked:
        names[revision][flat.key] = step_name(flat, called)
    return {key: trees.words(node, names[revisions[key]]) for key, node in nodes.items()}


def _asked_about(nodes: Mapping[int, Node], revisions: Mapping[int, int]) -> list[tuple[int, Flat]]:
    """The steps that conditions among `nodes` ask about, each with its revision."""
    tests = [node.test for node in nodes.values() if isinstance(node, Condition)]
    keys = {test.step for test in tests if isinstance(test, Reached)}
    rows = Step.objects.filter(revision__in=set(revisions.values()), key__in=keys) if keys else []
    return [(row.revision_id, Flat(row.key, row.place, trees.parse([row.spec])[0], None)) for row in rows]


def ahead(enrollment: Enrollment, standing: Standing, *, taken: Collection[str]) -> list[Ahead]:
    """Everything that may still come for somebody who is inside, conditions undecided. Two queries.

    The step in which it stands comes first where it is a condition: its paths lie ahead. `taken` are left out, for
    nobody takes a step twice.
    """
    tree, here = trees.parse(enrollment.revision.tree), enrollment.step
    flat = {one.key: one for one in trees.flatten(tree)}
    if here is None or here.key not in flat:
        return []
    zone, current = enrollment.sequence.organization.zone, flat[here.key].node
    places = {key: one.place for key, one in flat.items()}
    shown = _Shown(trees.names(tree, enrollment.sequence.organization), places, set(taken) - {here.key}, zone)
    undecided = [current] if isinstance(current, Condition) else []
    return shown.lines(undecided) + shown.lines(
        _after(tree, here.key) or [], _over(enrollment, standing, current, zone)
    )


def _over(enrollment: Enrollment, standing: Standing, current: Node, zone: ZoneInfo) -> datetime | None:
    """When the step in which it stands will be over, where that is known."""
    if standing.waits_for or isinstance(current, Condition):
        return None
    return trees.due(current, enrollment.since, zone) if isinstance(current, Delay) else standing.at


def _after(nodes: Listed[Node], key: str) -> list[Node] | None:
    """What follows the step on its path and then on those around it; None where it isn't among them."""
    for index, node in enumerate(nodes):
        rest = list(nodes[index + 1 :])
        if node.key == key:
            return rest
        if isinstance(node, Condition):
            inner = next(
                (found for path in (node.yes, node.no) if (found := _after(path or (), key)) is not None), None
            )
            if inner is not None:
                return inner + rest
    return None


@dataclass(frozen=True)
class _Shown:
    names: Mapping[str, str]
    places: Mapping[str, str]
    taken: Collection[str]

    zone: ZoneInfo

    def lines(self, nodes: Iterable[Node], clock: datetime | None = None) -> list[Ahead]:
        """The steps with their times, which are known up to the first condition."""
        found = []
        for node in nodes:
            if node.key in self.taken:
                continue
            if isinstance(node, Delay):
                clock = trees.due(node, clock, self.zone) if clock else None
            found.append(self._line(node, clock))
            clock = None if isinstance(node, Condition) else clock
        return found

    def _line(self, node: Node, at: datetime | None) -> Ahead:
        paths = []
        if isinstance(node, Condition):
            paths = [(name, self.lines(path or ())) for name, path in (("Yes", node.yes), ("No", node.no))]
        return Ahead(self.places[node.key], node.kind.value, trees.words(node, self.names), at, paths)
