"""What an act takes: time on the clock, CPU of our process, and CPU of all of PostgreSQL."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from django.db import connection

TICK = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


@dataclass(frozen=True)
class Cost:
    """Seconds: on the clock, of the CPU of our processes, and of PostgreSQL's processes together."""

    wall: float
    own: float
    database: float = 0.0

    @property
    def cpu(self) -> float:
        return self.own + self.database


def cost(act: Callable[[], object], *, processes: Collection[int] = ()) -> Cost:
    """Run `act` and tell what it took; `processes` are others of ours that take part in it and still run after it."""
    postgres = postmaster()
    before = time.perf_counter(), _own(processes), tree_cpu(postgres)
    act()
    after = time.perf_counter(), _own(processes), tree_cpu(postgres)
    return Cost(*(end - start for start, end in zip(before, after, strict=True)))


def in_turns(rounds: int, *acts: Callable[[], Cost]) -> list[list[Cost]]:
    """The costs of each act over so many rounds. Who began the round before comes last in the next."""
    costs: list[list[Cost]] = [[] for _ in acts]
    for number in range(rounds):
        places = list(range(len(acts)))
        for place in places if number % 2 == 0 else reversed(places):
            costs[place].append(acts[place]())
    return costs


def postmaster() -> int | None:
    """PostgreSQL's first process, of which all others are children; None when it runs on another machine."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        stat = PROC / str(cursor.fetchone()[0]) / "stat"
    if not stat.exists() or not stat.read_text().partition("(")[2].startswith("postgres"):
        return None
    return int(_fields(stat)[1])


def cpu(process: int) -> float:
    """Seconds of CPU that a process, and its children that have ended, have had."""
    try:
        return sum(map(int, _fields(PROC / str(process) / "stat")[11:15])) / TICK
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def tree_cpu(process: int | None) -> float:
    """The same of a process with its children, running and ended."""
    if process is None:
        return 0.0
    children = (PROC / str(process) / "task" / str(process) / "children").read_text().split()
    return cpu(process) + sum(cpu(int(child)) for child in children)


def peak_memory() -> float:
    """The most memory that this process has had, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _own(processes: Collection[int]) -> float:
    return time.process_time() + sum(cpu(process) for process in processes)


def _fields(stat: Path) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may have spaces: state, parent, …; proc(5)."""
    return stat.read_text().rpartition(")")[2].split()
