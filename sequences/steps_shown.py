"""A draft's tree as its page shows it: every step in words, with what is wrong with it and what can be done to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Listed
from dataclasses import dataclass, field
from urllib.parse import urlencode

from django.utils.safestring import SafeString

from kaanha.messaging.policy import is_marketing
from kaanha.messaging.variable_forms import mapped_bubble
from sequences import drafting, trees
from sequences.drafting import Step
from sequences.models import Revision, Sequence, Trigger
from sequences.step_numbers import Counts
from sequences.trees import ChangeKind, Flat, Kind, Message, Node
from templates_app.models import MessageTemplate

ICONS = {Kind.MESSAGE: "chat", Kind.DELAY: "schedule", Kind.CONDITION: "call_split"}
THE_END = "The sequence ends"
UNPUBLISHED = {ChangeKind.ADDED: "new", ChangeKind.CHANGED: "changed", ChangeKind.MOVED: "moved"}


def started_by(sequence: Sequence | Revision) -> str:
    """What starts the sequence, in words: The tag vip is put on a contact."""
    if sequence.trigger == Trigger.TAG_ADDED:
        return f"The tag {sequence.trigger_tag} is put on a contact" if sequence.trigger_tag else "A tag (none chosen)"
    return Trigger(sequence.trigger).label


def unpublished(before: Listed[Node], after: Listed[Node]) -> dict[str, str]:
    """What isn't published of each step that differs from its revision, by key: such as changed, moved."""
    found: dict[str, dict[str, None]] = {}
    for change in trees.diff(before, after):
        if change.kind in UNPUBLISHED:
            found.setdefault(change.key, {})[UNPUBLISHED[change.kind]] = None
    return {key: ", ".join(words) for key, words in found.items()}


@dataclass(frozen=True)
class GapShown:
    """A gap, which takes a new step, or the one that is being moved: `moved` is its id."""

    query: str
    words: str
    moved: str = ""


@dataclass(frozen=True)
class PathShown:
    """A list of steps, and a gap at its end unless nothing may be put there."""

    lines: list[Line]
    end: GapShown | None


@dataclass(frozen=True)
class BranchShown:
    """A path of a condition. `of` names it, as `Gap.end` does; `then` says where contacts go after it."""

    label: str
    of: str
    path: PathShown
    then: str
    # It had steps once, and somebody has to decide. One without any else goes straight on.
    emptied: bool


@dataclass(frozen=True)
class Into:
    """A path of the condition beside a step, into which it can go: what that is called, and the gap's query."""

    words: str
    query: str


@dataclass(frozen=True)
class Line:
    """A step. `up` and `down` are what these buttons do, empty where they do nothing.

    `counts` are its numbers where it is published, `unpublished` says what of it isn't.
    """

    flat: Flat
    words: str
    note: str
    problems: Listed[str]
    bubble: SafeString | str
    inside: int
    before: GapShown | None
    up: str
    down: str
    into: list[Into]
    counts: Counts | None
    unpublished: str
    moves: bool
    branches: list[BranchShown]

    @property
    def key(self) -> str:
        return self.flat.key

    @property
    def kind(self) -> str:
        return self.flat.node.kind.value

    @property
    def icon(self) -> str:
        return ICONS[self.flat.node.kind]


@dataclass(frozen=True)
class Lines:
    """What the lines are made of, by step and by public id. `moving` is the id of the step that is being moved."""

    steps: Mapping[str, Flat]
    names: Mapping[str, str]
    templates: Mapping[str, MessageTemplate]
    problems: Mapping[str, Listed[str]] = field(default_factory=dict)
    counts: Mapping[str, Counts] = field(default_factory=dict)
    unpublished: Mapping[str, str] = field(default_factory=dict)
    moving: str = ""

    def path(self, steps: Listed[Step], *, end: str = "", words: str = "at the end", held: bool = False) -> PathShown:
        """`held`: it is inside the step that is being moved, so that nothing can be put there."""
        lines = [self._line(steps, index, on_path=bool(end), held=held) for index in range(len(steps))]
        full = held or (bool(steps) and steps[-1]["id"] == self.moving)
        return PathShown(lines, None if full else GapShown(urlencode({"end": end}), words, self.moving))

    def _line(self, steps: Listed[Step], index: int, *, on_path: bool, held: bool) -> Line:
        step = steps[index]
        flat = self.steps[step["id"]]
        moves = flat.key == self.moving
        return Line(
            flat=flat,
            words=trees.words(flat.node, self.names),
            note=self._note(flat),
            problems=self.problems.get(flat.key, ()),
            bubble=self._bubble(flat),
            inside=drafting.inside(step),
            before=None if held else self._gap_before(steps, index),
            up=_way("Up", at_edge=index == 0, on_path=on_path),
            down=_way("Down", at_edge=index == len(steps) - 1, on_path=on_path),
            into=list(self._into(steps, index)),
            counts=self.counts.get(flat.key),
            unpublished=self.unpublished.get(flat.key, ""),
            moves=moves,
            branches=list(self._branches(step, flat, held=held or moves)) if flat.node.kind == Kind.CONDITION else [],
        )

    def _gap_before(self, steps: Listed[Step], index: int) -> GapShown | None:
        """None on both sides of the step that is being moved: it stands there already."""
        if self.moving in {step["id"] for step in steps[max(index - 1, 0) : index + 1]}:
            return None
        flat = self.steps[steps[index]["id"]]
        return GapShown(urlencode({"before": flat.key}), f"before step {flat.place}", self.moving)

    def _into(self, steps: Listed[Step], index: int) -> Iterator[Into]:
        """The end of each path of the condition before the step, the beginning of each of the one after it."""
        for beside in (index - 1, index + 1):
            host = steps[beside] if 0 <= beside < len(steps) else None
            if host is None or self.steps[host["id"]].node.kind != Kind.CONDITION:
                continue
            for name in drafting.PATHS:
                first = host.get(name) if beside > index else None
                query = {"before": first[0]["id"]} if first else {"end": f"{host['id']}.{name}"}
                yield Into(f"Into {name.capitalize()} of step {self.steps[host['id']].place}", urlencode(query))

    def _branches(self, step: Step, flat: Flat, *, held: bool) -> Iterator[BranchShown]:
        then = f"On to step {self.steps[flat.next].place}" if flat.next else THE_END
        for name in drafting.PATHS:
            end = f"{flat.key}.{name}"
            words = f"at the end of the {name.capitalize()} path of step {flat.place}"
            path = self.path(step.get(name) or [], end=end, words=words, held=held)
            yield BranchShown(name.capitalize(), end, path, then, emptied=step.get(name) == [])

    def _template(self, flat: Flat) -> MessageTemplate | None:
        return self.templates.get(flat.node.template) if isinstance(flat.node, Message) else None

    def _note(self, flat: Flat) -> str:
        """What a marketing message does where the cap stands in its way."""
        template = self._template(flat)
        if template is None or not isinstance(flat.node, Message) or not is_marketing(template.category):
            return ""
        return "waits at the frequency cap" if flat.node.when_capped == "wait" else "skipped at the frequency cap"

    def _bubble(self, flat: Flat) -> SafeString | str:
        """The message; nothing while it has problems: what isn't filled, or was written by others, can't be shown."""
        template = self._template(flat)
        if template is None or not isinstance(flat.node, Message) or flat.key in self.problems:
            return ""
        return mapped_bubble(template, flat.node.variables)


def _way(word: str, *, at_edge: bool, on_path: bool) -> str:
    if not at_edge:
        return word
    return f"{word}, out of the condition" if on_path else ""
