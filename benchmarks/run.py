"""Run the parts of the benchmark, each in a process of its own on servers of its own, and keep what they tell.

python -m benchmarks.run [PART…] [--scale tiny|usual|full]

Prints a table and puts the parts that ran into benchmarks/results/latest.json, if at the usual or the full scale. Ends
with 1 when a part broke off; a target that isn't met is told in the table.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import machine, reporting
from benchmarks.databases import of_its_own
from benchmarks.scale import KEPT, SCALES
from kaanha.lib import garbage

CHECKOUT = Path(__file__).resolve().parent.parent
RESULTS = CHECKOUT / "benchmarks" / "results" / "latest.json"


@dataclass(frozen=True)
class Part:
    """The part's module in benchmarks/parts, and the environment that its process needs."""

    module: str
    environment: Mapping[str, str] = field(default_factory=dict)


UNLIMITED = {"API_RATE_LIMIT": "1000000/second"}  # refusing requests is no part of what a page takes
# In the order in which they run.
PARTS = {
    "launch": Part("launch"),
    "preview": Part("preview", UNLIMITED),
    "send": Part("send"),
    "weight": Part("weight"),
    "crowd": Part("crowd"),
    "callbacks": Part("callbacks"),
    "import": Part("importing"),
    "enroll": Part("enroll"),
    "advance": Part("advance"),
    "lists": Part("lists", UNLIMITED),
}

console = Console(width=None if sys.stdout.isatty() else 200)


def run(parts: Sequence[str], scale: str) -> bool:
    """Run these parts, keep what they tell and show it; whether all of them came to their end."""
    told: dict[str, Any] = {"parts": {}}
    for part in parts:
        console.print(f"[bold]{part}[/bold] …")
        new = told_by(part, scale)
        told = {**told, **new, "parts": {**told["parts"], **new["parts"]}}
    if "machine" in told and scale in KEPT:
        reporting.write(RESULTS, told)
    console.print(reporting.table(told["parts"]))
    return not any("failed" in part for part in told["parts"].values())


def told_by(part: str, scale: str) -> dict[str, Any]:
    """What the part tells, in a process of its own. One that breaks off is told as such and has no rows."""
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder, "told.json")
        itself = [sys.executable, "-m", "benchmarks.run", part, "--scale", scale, "--into", str(into)]
        command = [sys.executable, "-m", "kaanha.servers", "--", *itself]
        # Never somebody's Redis: what a part leaves there isn't in a database of its own.
        environment = {**os.environ, "REDIS_URL": "", **PARTS[part].environment}
        code = subprocess.run(command, cwd=CHECKOUT, env=environment).returncode  # noqa: S603
        if code or not into.exists():
            return {"parts": {part: {"failed": f"It broke off with exit code {code}.", "rows": []}}}
        told: dict[str, Any] = json.loads(into.read_text())
    return told


def measure(part: str, scale: str, into: Path) -> None:
    """Measure one part in this process, whose environment names the servers, and write what it tells."""
    rows: list[dict[str, Any]] = []
    with of_its_own():
        module = importlib.import_module(f"benchmarks.parts.{PARTS[part].module}")
        garbage.spare_what_is_loaded()  # as our processes do
        load, started = machine.load(), time.perf_counter()
        for row in module.measure(SCALES[scale]):
            rows.append(reporting.rounded(row))
            console.print(reporting.line(rows[-1]))
        seconds = round(time.perf_counter() - started)
        told = {"machine": machine.machine(), "versions": machine.versions(), "commit": machine.commit()}
    at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    about = {"commit": told["commit"], "at": at, "scale": scale, "load_before": load, "seconds": seconds}
    into.write_text(json.dumps({**told, "parts": {part: {**about, "rows": rows}}}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all of them without any")
    parser.add_argument("--scale", choices=SCALES, default="usual")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}: choose of {', '.join(PARTS)}")
    if asked.into:
        measure(asked.parts[0], asked.scale, asked.into)
        return 0
    return 0 if run(asked.parts or list(PARTS), asked.scale) else 1


if __name__ == "__main__":
    sys.exit(main())
