"""What the picture of a sequence's steps is drawn from: its draft, which can be edited, or one of its revisions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Sequence as Listed
from typing import Any

from kaanha.organizations.models import Organization
from sequences import live_page, publishing, step_numbers, trees
from sequences.models import Revision, Sequence
from sequences.steps_shown import Lines, started_by, unpublished
from sequences.tree_names import templates_of
from sequences.trees import Flat, Node, Problem

SHOWN_AT_TOP = 8  # problems; each stands at its step as well


def of_draft(sequence: Sequence, newest: Revision | None, *, moving: str = "") -> dict[str, Any]:
    """The steps as they are being edited, whatever their number in the same number of queries.

    With the problems that keep them from being published, what of them isn't published, and the newest revision's
    numbers. `moving` is the id of the step that looks for another place.
    """
    tree = trees.read(sequence.draft, sequence.organization)
    nodes = trees.parse(tree)
    problems = publishing.problems(sequence, nodes)
    published = trees.parse(newest.tree) if newest else ()
    steps = _flat(nodes)
    lines = _lines(
        nodes,
        sequence.organization,
        problems=_by_step(problems),
        counts=step_numbers.by_step(sequence, newest) if newest else {},
        unpublished=unpublished(published, nodes) if newest else {},
        moving=moving if moving in steps else "",
    )
    return {
        "path": lines.path(tree),
        "moving": steps.get(moving),
        "problems": problems[:SHOWN_AT_TOP],
        "problem_count": len(problems),
        "more_problems": max(len(problems) - SHOWN_AT_TOP, 0),
        "unpublished": publishing.unpublished(sequence, newest),
        "taken_out": _taken_out(published, steps),
        "started_by": started_by(sequence),
        "sends_from": sequence.phone_number,
    }


def of_revision(sequence: Sequence, revision: Revision) -> dict[str, Any]:
    """A published revision as it is for the people on it, with what it changed about the one before it."""
    nodes = trees.parse(revision.tree)
    counts = step_numbers.by_step(sequence, revision)
    return {
        "path": _lines(nodes, sequence.organization, counts=counts).path(revision.tree, held=True),
        "started_by": started_by(revision),
        "sends_from": revision.phone_number,
        **_compared(sequence, revision),
    }


def to_start(sequence: Sequence) -> dict[str, Any]:
    """The draft as it is about to be activated: nothing but its steps."""
    tree = trees.read(sequence.draft, sequence.organization)
    return {"path": _lines(trees.parse(tree), sequence.organization).path(tree, held=True)}


def _lines(nodes: tuple[Node, ...], organization: Organization, **told: Any) -> Lines:
    templates = {row.public_id: row for row in templates_of(nodes, organization)}
    return Lines(_flat(nodes), names=trees.names(nodes, organization), templates=templates, **told)


def _flat(nodes: Listed[Node]) -> dict[str, Flat]:
    return {step.key: step for step in trees.flatten(nodes)}


def _taken_out(published: Listed[Node], steps: Collection[str]) -> int:
    """How many of the published steps the draft no longer has."""
    return sum(step.key not in steps for step in trees.flatten(published))


def _by_step(problems: Iterable[Problem]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for problem in problems:
        found[problem.key].append(problem.sentence)
    return dict(found)


def _compared(sequence: Sequence, revision: Revision) -> dict[str, Any]:
    """What this revision changed about the one that it took over from."""
    rows = sequence.revisions.select_related("trigger_tag", "phone_number")
    before = rows.filter(number=revision.number - 1).first()
    return {"compared": before, "changes": live_page.changes(before, revision)} if before else {}
