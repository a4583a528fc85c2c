"""Charts as numbers: where bars, lines and labels stand, in percent of the plot. A template draws them as SVG.

Percentages, so that a chart is as wide as its page and its letters never shrink with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

LINES = 4  # at most, above the axis
GAP = 0.25  # of a bar's place stays empty
STEPS = (1, 2, 5, 10)


@dataclass(frozen=True, slots=True)
class Mark:
    """A label on an axis, at so many percent from the left or from the top."""

    at: str
    label: str


@dataclass(frozen=True, slots=True)
class Rect:
    """A part of a bar; `css` says which."""

    y: str
    height: str
    css: str


@dataclass(frozen=True, slots=True)
class Bar:
    """What stands at one place: its parts, one over the other, and what hovering over it tells."""

    x: str
    width: str
    title: str
    rects: list[Rect]


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing, and the same as a table for who can't see it, or wants to read the numbers."""

    label: str
    bars: list[Bar]
    lines: list[Mark]
    marks: list[Mark]
    legend: list[tuple[str, str]]  # (css, words)
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Column:
    """One place on the axis below: values by css class, from the back to the front, and its words."""

    values: Sequence[tuple[str, float]]
    title: str
    label: str = ""


def chart(
    label: str,
    columns: Sequence[Column],
    *,
    number: Callable[[float], str],
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    legend: Sequence[tuple[str, str]] = (),
    smallest_step: float = 1,
) -> Chart:
    """Put columns side by side under a scale of round numbers, which `number` writes."""
    highest = max((value for column in columns for _, value in column.values), default=0)
    scale = ticks(highest, smallest_step=smallest_step)
    place = 100 / max(len(columns), 1)
    bars = [_bar(column, index * place, place, scale[-1]) for index, column in enumerate(columns)]
    lines = [Mark(_percent(100 - 100 * tick / scale[-1]), number(tick)) for tick in scale]
    marks = [Mark(_percent((i + 0.5) * place), column.label) for i, column in enumerate(columns) if column.label]
    return Chart(label, bars, lines, marks, list(legend), list(head), [list(row) for row in rows])


def ticks(highest: float, *, smallest_step: float = 1) -> list[float]:
    """Round numbers from zero up to at least `highest`: 0, 200, 400, 600."""
    wanted = max(highest / LINES, smallest_step)
    magnitude = 10 ** math.floor(math.log10(wanted))
    step = next(factor * magnitude for factor in STEPS if factor * magnitude >= wanted * (1 - 1e-9))
    return [step * index for index in range(max(1, math.ceil(highest / step - 1e-9)) + 1)]


def every(count: int, at_most: int) -> int:
    """Every how many of `count` places has a label, so that no more than `at_most` do."""
    return max(1, math.ceil(count / at_most))


def _bar(column: Column, x: float, place: float, top: float) -> Bar:
    rects = [
        Rect(_percent(100 - 100 * value / top), _percent(100 * value / top), css)
        for css, value in column.values
        if value
    ]
    return Bar(_percent(x + place * GAP / 2), _percent(place * (1 - GAP)), column.title, rects)


def _percent(value: float) -> str:
    return f"{value:.3f}%"
