"""What an installation needs for so many messages a day, multiplied from what `make bench` has measured.

python -m benchmarks.scaling

Prints the table of docs/scaling.md from benchmarks/results/latest.json, which needs the parts `send` and `weight`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from benchmarks.run import RESULTS

BUSY = 0.1  # share of a day's messages in its busiest hour
USED = 0.6  # share of a core that is planned for: the rest is for what comes unevenly
CALLBACKS = 3  # sent, delivered, read
TOGETHER = 2  # statuses in a POST of Meta, while it is busy
CONNECTIONS = 6  # of a worker that sends or applies: claims, settles, leases, sweeps
BATCH = 75  # messages of a claim
DAYS = (1_000_000, 10_000_000, 100_000_000)


@dataclass(frozen=True)
class Weight:
    """What a message takes in all its stages: milliseconds of CPU, and kilobytes."""

    sending: float
    applying: float
    postgres: float
    wal: float
    disk: float


def weight(parts: dict[str, Any]) -> Weight:
    send = _details(parts["send"])["one worker, 50 ms answers: CPU of the worker"]
    stages = _details(parts["weight"])
    heard = [stages[f"callbacks: {status}"] for status in ("sent", "delivered", "read")]
    every = [stages["launch"], stages["claim and settle"], *heard]
    return Weight(
        sending=send["worker CPU ms"],
        applying=sum(stage["own cpu ms"] for stage in heard),
        postgres=sum(stage["database cpu ms"] for stage in every),
        wal=sum(stage["kB of WAL"] for stage in every),
        disk=stages["left on the disk"]["kB of disk"],
    )


def table(cost: Weight) -> str:
    columns = [needs(cost, day) for day in DAYS]
    head = ["", *(f"{day:,} a day" for day in DAYS)]
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def needs(cost: Weight, day: int) -> dict[str, str]:
    """What so many messages a day ask for, in the order of the table."""
    rate = day * BUSY / 3600
    senders, appliers = (_processes(rate * each) for each in (cost.sending, cost.applying))
    return {
        "messages a second in the busiest hour": f"{rate:,.0f}",
        "numbers at 80 a second": f"{math.ceil(rate / 80):,}",
        "numbers at 1,000 a second": f"{math.ceil(rate / 1000):,}",
        "worker processes that send": f"{senders:,}",
        "worker processes that apply callbacks": f"{appliers:,}",
        "callbacks a second, two statuses each": f"{rate * CALLBACKS / TOGETHER:,.0f}",
        "cores of PostgreSQL": f"{max(1, math.ceil(rate * cost.postgres / 1000 / USED)):,}",
        "connections of the workers": f"{(senders + appliers) * CONNECTIONS:,}",
        "WAL a day": _bytes(day * cost.wal),
        "WAL a second in the busiest hour": _bytes(rate * cost.wal),
        "the ledger grows by, a day": _bytes(day * cost.disk),
        "Redis: claims a second that ask for the pace": f"{math.ceil(rate / BATCH):,}",
    }


def _processes(milliseconds: float) -> int:
    return max(1, math.ceil(milliseconds / 1000 / USED))


def _bytes(kilobytes: float) -> str:
    for unit in ("kB", "MB", "GB"):
        if kilobytes < 1000:
            return f"{kilobytes:,.0f} {unit}"
        kilobytes /= 1024
    return f"{kilobytes:,.1f} TB"


def _details(part: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {row["name"]: row["detail"] for row in part["rows"]}


def main() -> None:
    cost = weight(json.loads(RESULTS.read_text())["parts"])
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(table(cost))
    console.print(cost)


if __name__ == "__main__":
    main()
