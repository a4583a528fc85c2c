"""What a new revision changes, step by step. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sequences.tree_nodes import Condition, Flat, Message, Node, flatten
from sequences.tree_words import words


class ChangeKind(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    MOVED = "moved"


@dataclass(frozen=True)
class Change:
    """One thing that became different. `place` is the new one, or where a removed step was."""

    place: str
    key: str
    sentence: str
    kind: ChangeKind


def diff(old_nodes: Sequence[Node], new_nodes: Sequence[Node], names: Mapping[str, str] | None = None) -> list[Change]:
    """What the new tree changes, in its order of reading, then what was removed. A step is known by its key.

    `names` says what people call public ids and steps (`tree_names.names` of the old tree and the new).
    """
    old = {step.key: step for step in flatten(old_nodes)}
    new = {step.key: step for step in flatten(new_nodes)}
    moved, called = _moved(old_nodes, new_nodes), names or {}
    found = [change for key, step in new.items() for change in _changes(old.get(key), step, key in moved, called)]
    gone = [step for key, step in old.items() if key not in new]
    return found + [_change(step, ChangeKind.REMOVED, f"{_quoted(step.node, called)} is removed.") for step in gone]


def _changes(old: Flat | None, new: Flat, moved: bool, names: Mapping[str, str]) -> Iterator[Change]:
    if old is None:
        yield _change(new, ChangeKind.ADDED, f"{_quoted(new.node, names)} is added.")
        return
    if moved:
        yield _change(new, ChangeKind.MOVED, f"{_quoted(new.node, names)} is moved here from {old.place}.")
    for sentence in _alterations(old.node, new.node, names):
        yield _change(new, ChangeKind.CHANGED, sentence)


def _change(step: Flat, kind: ChangeKind, sentence: str) -> Change:
    return Change(step.place, step.key, sentence, kind)


def _quoted(node: Node, names: Mapping[str, str]) -> str:
    return f"“{words(node, names)}”"


def _alterations(old: Node, new: Node, names: Mapping[str, str]) -> Iterator[str]:
    """How the content of a step differs; what stands on a condition's paths is told by the steps there."""
    shown = _quoted(new, names)
    if (before := _quoted(old, names)) != shown:
        yield f"{before} becomes {shown}."
    if not isinstance(old, Message) or not isinstance(new, Message):
        return
    if old.template != new.template and before == shown:
        yield f"{shown} takes another template of the same name."
    keys = sorted(
        key for key in old.variables.keys() | new.variables if old.variables.get(key) != new.variables.get(key)
    )
    if keys:
        yield f"{shown} is filled differently: {', '.join(keys)}."
    if old.when_capped != new.when_capped:
        does = "waits until the cap frees" if new.when_capped == "wait" else "is skipped"
        yield f"{shown} now {does} where the frequency cap forbids it."


def _moved(old_nodes: Sequence[Node], new_nodes: Sequence[Node]) -> set[str]:
    """The steps that stand on another path than before, or have changed their order there: as few as explain it."""
    old, new = _paths(old_nodes), _paths(new_nodes)
    before = {key: (path, number) for path, keys in old.items() for number, key in enumerate(keys)}
    moved: set[str] = set()
    for path, keys in new.items():
        known = [key for key in keys if key in before]
        stayed = [key for key in known if before[key][0] == path]
        kept = _longest_rising([before[key][1] for key in stayed])
        moved |= {key for key in known if key not in stayed or before[key][1] not in kept}
    return moved


def _paths(nodes: Sequence[Node], path: tuple[str, str] = ("", "")) -> dict[tuple[str, str], list[str]]:
    """The keys on every path of the tree, in order, by the condition's key and yes or no."""
    found = {path: [node.key for node in nodes]}
    for node in nodes:
        if isinstance(node, Condition):
            found |= _paths(node.yes or (), (node.key, "yes")) | _paths(node.no or (), (node.key, "no"))
    return found


def _longest_rising(numbers: Sequence[int]) -> set[int]:
    """The members of a longest rising subsequence of different numbers."""
    ends: list[int] = []  # the smallest last member of a subsequence of each length
    before: dict[int, int | None] = {}
    for number in numbers:
        length = bisect_left(ends, number)
        before[number] = ends[length - 1] if length else None
        ends[length : length + 1] = [number]
    kept: set[int] = set()
    member = ends[-1] if ends else None
    while member is not None:
        kept.add(member)
        member = before[member]
    return kept
