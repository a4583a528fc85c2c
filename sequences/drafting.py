"""Editing the draft of a sequence: one step at a time, by people, in several windows.

The edits are pure: they take a tree as it is stored and give a new one. They speak of steps by id, never by number, so
that an edit made on an old page still hits the step that was meant.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from kaanha.lib.errors import Refusal
from sequences import trees
from sequences.models import Sequence, Status

Step = dict[str, Any]
Tree = list[Step]
Edit = Callable[[Tree], Tree]
PATHS = ("yes", "no")


@dataclass(frozen=True)
class Gap:
    """Where a step can be put: before the step `before`; without one at the end of the list `end`.

    The list is "" for the sequence itself, and such as "3f2a.yes" for a path of the condition 3f2a.
    """

    before: str = ""
    end: str = ""


@dataclass(frozen=True)
class Spot:
    """Where a step stands: in which list, at which index, and on which path of which condition, if on one."""

    steps: Tree
    index: int
    condition: str = ""
    path: str = ""

    @property
    def step(self) -> Step:
        return self.steps[self.index]


def edit(sequence: Sequence, change: Edit) -> None:
    """Change the draft as it is by now. Refusal, and no change, where that doesn't work on it any more."""
    with transaction.atomic():
        held = Sequence.objects.select_for_update(no_key=True).filter(pk=sequence.pk).first()
        if held is None:
            raise Sequence.gone()
        if held.status == Status.ARCHIVED:
            raise Refusal(f"Sequence {held.name!r} is archived: its steps stay as they are.", code="wrong_status")
        held.draft = trees.read(change(held.draft), held.organization)
        held.save(update_fields=["draft", "updated_at"])
    sequence.draft, sequence.updated_at = held.draft, held.updated_at


def new_id() -> str:
    """An id for a new step."""
    return secrets.token_hex(4)


# --- looking -----------------------------------------------------------------------------------------------------


def spots(tree: Tree, condition: str = "", path: str = "") -> Iterator[Spot]:
    """Every step in the order of reading."""
    for index, step in enumerate(tree):
        yield Spot(tree, index, condition, path)
        for name in PATHS:
            yield from spots(step.get(name) or [], step["id"], name)


def find(tree: Tree, key: str) -> Spot:
    """Where the step stands. Refusal where there is none."""
    for spot in spots(tree):
        if spot.step["id"] == key:
            return spot
    raise Refusal("That step isn't there any more: it was removed in another window.", code="step_gone")


def bare(step: Mapping[str, Any]) -> Step:
    """The step without the steps inside it."""
    return {name: value for name, value in step.items() if name not in PATHS}


def inside(step: Mapping[str, Any]) -> int:
    """How many steps stand on its paths."""
    return sum(1 for path in PATHS for _ in spots(step.get(path) or []))


def fingerprint(step: Mapping[str, Any]) -> str:
    """Says whether the step itself is as it was: the steps inside it don't count."""
    return hashlib.sha256(json.dumps(bare(step), sort_keys=True).encode()).hexdigest()[:16]


# --- edits -------------------------------------------------------------------------------------------------------


def insert(tree: Tree, step: Step, gap: Gap) -> Tree:
    """Put a new step there. Refusal where its id is taken, or the place is gone."""
    if any(spot.step["id"] == step["id"] for spot in spots(tree)):
        raise Refusal("That step was added already.", code="step_there")
    return _put(deepcopy(tree), step, gap)


def replace(tree: Tree, key: str, step: Step, *, seen: str) -> Tree:
    """Give the step other members. Its id and its paths stay. Refusal unless it is as `seen`, its fingerprint, says."""
    tree = deepcopy(tree)
    spot = find(tree, key)
    if fingerprint(spot.step) != seen:
        raise Refusal(
            "That step was changed in another window since you opened it. Open it again to see how it is now.",
            code="step_changed",
        )
    paths = {name: spot.step[name] for name in PATHS if name in spot.step}
    spot.steps[spot.index] = {**bare(step), "id": key, **paths}
    return tree


def remove(tree: Tree, key: str, *, least: int = 0) -> Tree:
    """Leave out the step and all that is inside it. A path that loses its last step stays, empty.

    What asks about the step goes on asking, which is a problem until somebody decides. Refusal where more than `least`
    steps are inside it: the caller says how many somebody agreed to lose.
    """
    tree = deepcopy(tree)
    spot = find(tree, key)
    if (count := inside(spot.step)) > least:
        raise Refusal(f"By now there are {count} steps inside that condition: confirm again.", code="steps_inside")
    del spot.steps[spot.index]
    return tree


def duplicate(tree: Tree, key: str) -> Tree:
    """Put a copy right after the step: new ids all through, and what in it asks about a copied step asks the copy."""
    tree = deepcopy(tree)
    spot = find(tree, key)
    copy = deepcopy(spot.step)
    ids = {one.step["id"]: new_id() for one in spots([copy])}
    for one in spots([copy]):
        one.step["id"] = ids[one.step["id"]]
        test = one.step.get("if", {})
        if "step" in test:
            test["step"] = ids.get(test["step"], test["step"])
    spot.steps.insert(spot.index + 1, copy)
    return tree


def shift(tree: Tree, key: str, by: int) -> Tree:
    """Swap the step with the one before it (`by` -1) or after it (1); at a path's edge it leaves the condition."""
    tree = deepcopy(tree)
    spot = find(tree, key)
    target = spot.index + by
    if 0 <= target < len(spot.steps):
        spot.steps.insert(target, spot.steps.pop(spot.index))
        return tree
    if not spot.condition:
        edge = "first" if by < 0 else "last"
        raise Refusal(f"It is the {edge} step already.", code="at_the_edge")
    step = spot.steps.pop(spot.index)
    outer = find(tree, spot.condition)
    outer.steps.insert(outer.index + (by > 0), step)
    return tree


def move(tree: Tree, key: str, gap: Gap) -> Tree:
    """Take the step, with all that is inside it, somewhere else. It stays the same step."""
    tree = deepcopy(tree)
    if gap.before == key:
        return tree
    spot = find(tree, key)
    step = spot.steps.pop(spot.index)
    host = gap.before or gap.end.partition(".")[0]
    if any(one.step["id"] == host for one in spots([step])):
        raise Refusal("A condition can't be put on a path of its own.", code="inside_itself")
    return _put(tree, step, gap)


def straighten(tree: Tree, key: str, path: str) -> Tree:
    """Drop a path that has no steps, so that it goes straight on. Refusal where it has some by now."""
    tree = deepcopy(tree)
    step = find(tree, key).step
    _require_path(step, path)
    if step.get(path):
        raise Refusal("By now there are steps on that path: it stays.", code="steps_inside")
    step.pop(path, None)
    return tree


def _put(tree: Tree, step: Step, gap: Gap) -> Tree:
    if gap.before:
        spot = find(tree, gap.before)
        spot.steps.insert(spot.index, step)
        return tree
    if not gap.end:
        return [*tree, step]
    key, _, path = gap.end.partition(".")
    condition = find(tree, key).step
    _require_path(condition, path)
    condition[path] = [*condition.get(path, []), step]
    return tree


def _require_path(step: Step, path: str) -> None:
    if step["type"] != trees.Kind.CONDITION or path not in PATHS:
        raise Refusal("There is no such path: open the steps again.", code="path_unknown")
