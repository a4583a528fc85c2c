"""What one of many costs: launched, counted, imported and enrolled, 10⁴ to 10⁶ of them at once, and a tenth advanced.

python -m benchmarks.sizes [--most 1000000]

Runs these parts of the benchmark at each size, prints the figures, keeps them in benchmarks/results/sizes.json and
draws docs/sizes.svg.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

from benchmarks import plot
from benchmarks.run import CHECKOUT, told_by
from benchmarks.scale import SIZES

RESULTS, DRAWING = CHECKOUT / "benchmarks/results/sizes.json", CHECKOUT / "docs/sizes.svg"
TITLE = "CPU of one, ours and PostgreSQL's, in ms"
# {what: {how many at once: milliseconds}}
Curves = dict[str, dict[int, float]]
TOO_SHORT = ("preview", 10_000)  # PostgreSQL's CPU is told in ticks of ten milliseconds, two or three of these
# For each part: how a row is called at a size, in how many parts a size is done, what that is in the drawing.
WANTED = {
    "launch": [("{:,} recipients", 1, "a recipient, launched")],
    "preview": [("{:,} contacts", 1, "a recipient, counted")],
    "import": [("{:,} rows", 1, "a row, imported")],
    "enroll": [("{:,} people", 1, "a person, enrolled")],
    "advance": [
        ("begin to wait", 10, "a wait, begun"),
        ("wait is over: condition, message", 10, "a wait, ended"),
    ],
}


def measure(most: int) -> Iterator[Curves]:
    """All curves, up to the size that was measured last."""
    curves: Curves = {name: {} for wanted in WANTED.values() for *_, name in wanted}
    for size in (size for size in SIZES if size <= most):
        for part, wanted in WANTED.items():
            if (part, size) == TOO_SHORT:
                continue
            told = told_by(part, f"{size:,}")["parts"][part]
            if "failed" in told:
                raise SystemExit(f"{part} at {size:,}: {told['failed']}")
            rows = {row["name"]: row for row in told["rows"]}
            for row, parts, name in wanted:
                curves[name][size // parts] = rows[row.format(size)]["cpu_ms"]
        yield curves


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--most", type=int, default=max(SIZES))
    most = asked.parse_args().most
    for curves in measure(most):
        print({name: curve[max(curve)] for name, curve in curves.items() if curve})  # noqa: T201
        if most == max(SIZES):
            RESULTS.write_text(json.dumps(curves, indent=1, ensure_ascii=False) + "\n")
            DRAWING.write_text(plot.drawn({TITLE: curves}, below="at once"))


if __name__ == "__main__":
    main()
