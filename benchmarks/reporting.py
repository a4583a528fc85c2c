"""Rows of results: how a figure is judged, kept in latest.json beside those of earlier runs, and shown in a table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from benchmarks.measuring import Cost

Detail = dict[str, float | str]


@dataclass(frozen=True)
class Row:
    """One figure. `met` is decided by `ratio` against the number `target`, or by the bound that `target` says.

    `rate` is in units a second; `cpu_ms` of our processes and PostgreSQL's together, for each unit; `spread` the lowest
    and the highest of what decided.
    """

    name: str
    ratio: float | None
    target: float | str
    rate: float
    cpu_ms: float
    spread: tuple[float, float]
    met: bool
    detail: Detail = field(default_factory=dict)


@dataclass(frozen=True)
class Bound:
    """What a measured value has to be where there is nothing to compare it with."""

    sign: Literal["<", "≤", "≥"]
    limit: float
    unit: str

    def holds(self, value: float) -> bool:
        return {"<": value < self.limit, "≤": value <= self.limit, "≥": value >= self.limit}[self.sign]

    def __str__(self) -> str:
        return f"{self.sign} {self.limit:,g} {self.unit}"


def compared(
    name: str,
    ours: Sequence[Cost],
    theirs: Sequence[Cost],
    *,
    most: float,
    units: int,
    by: Literal["wall", "cpu", "own"] = "wall",
    detail: Detail | None = None,
) -> Row:
    """A row for costs of the same `units` of work, ours and theirs round by round: at most `most` times as much."""
    ratios = [getattr(our, by) / getattr(their, by) for our, their in zip(ours, theirs, strict=True)]
    middle = statistics.median(ratios)
    their_rate: Detail = {"their rate": units / statistics.median(cost.wall for cost in theirs)}
    return Row(
        name=name,
        ratio=middle,
        target=most,
        spread=(min(ratios), max(ratios)),
        met=middle <= most,
        **_paces(ours, units, {**their_rate, **(detail or {})}),
    )


def ratio(ours: Sequence[Cost], theirs: Sequence[Cost]) -> float:
    """How many times as long ours takes, for what a bound decides."""
    return statistics.median(our.wall / their.wall for our, their in zip(ours, theirs, strict=True))


def bounded(
    name: str, values: Sequence[float], bound: Bound, *, costs: Sequence[Cost], units: int, detail: Detail | None = None
) -> Row:
    """A row for values, one of each round, whose median has to keep the bound; beside them what each round took."""
    value = statistics.median(values)
    return Row(
        name=name,
        ratio=None,
        target=str(bound),
        spread=(min(values), max(values)),
        met=bound.holds(value),
        **_paces(costs, units, {bound.unit: value, **(detail or {})}),
    )


def _paces(costs: Sequence[Cost], units: int, detail: Detail) -> dict[str, Any]:
    spent = statistics.median(cost.cpu for cost in costs)
    database = statistics.median(cost.database for cost in costs)
    return {
        "rate": units / statistics.median(cost.wall for cost in costs),
        "cpu_ms": spent / units * 1000,
        "detail": {**detail, "database cpu ms": database / units * 1000},
    }


def rounded(row: Row) -> dict[str, Any]:
    """The row as it stands in latest.json: four figures of each number."""

    def short(value: Any) -> Any:
        if isinstance(value, float):
            return float(f"{value:.4g}")
        if isinstance(value, dict):
            return {key: short(one) for key, one in value.items()}
        return [short(one) for one in value] if isinstance(value, tuple) else value

    return {key: short(value) for key, value in asdict(row).items()}


def merged(known: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """What is known with the parts of a new run in it. Parts from another machine or other versions are left behind."""
    same = all(known.get(key) == new[key] for key in ("machine", "versions"))
    parts = {**(known["parts"] if same else {}), **new["parts"]}
    return {**{key: new[key] for key in ("machine", "versions", "commit")}, "parts": parts}


def write(results: Path, new: dict[str, Any]) -> None:
    """Put a run into the file, which keeps the parts that didn't run."""
    known = json.loads(results.read_text()) if results.exists() else {}
    results.parent.mkdir(exist_ok=True)
    results.write_text(json.dumps(merged(known, new), indent=1, ensure_ascii=False) + "\n")


def table(parts: dict[str, dict[str, Any]]) -> Table:
    """What each part told, for people: a mark at what isn't met."""
    shown = Table("part", "figure", "ratio", "target", "spread", "rate/s", "CPU ms", "met", "beside it")
    for name, part in parts.items():
        for row in part["rows"]:
            shown.add_row(name, *_cells(row))
        if "failed" in part:
            shown.add_row(name, part["failed"], *[""] * 5, "[bold red]no")
    return shown


def line(row: dict[str, Any]) -> str:
    """One row in short, as it comes."""
    return "  " + ", ".join(cell for cell in _cells(row) if cell)


def _cells(row: dict[str, Any]) -> Iterable[str]:
    low, high = row["spread"]
    yield row["name"]
    yield "" if row["ratio"] is None else f"{row['ratio']:,.2f}"
    yield row["target"] if isinstance(row["target"], str) else f"≤ {row['target']:g} ×"
    yield f"{low:,.4g} to {high:,.4g}"
    yield f"{row['rate']:,.0f}"
    yield f"{row['cpu_ms']:,.4f}"
    yield "yes" if row["met"] else "[bold red]no"
    yield ", ".join(
        f"{key} {value:,.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row["detail"].items()
    )
