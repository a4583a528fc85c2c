"""Something dies every few hundred milliseconds: what, when and for how long is decided by a seed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from random import Random

from tests.scenarios.machine import Machine

WORKER = "worker-work"
GAPS = (0.2, 0.6)  # seconds between two kills
AWAY = (0.0, 0.4)  # seconds until what died is started again
YOUNG = 0.2  # share of kills that may hit a part which is still starting


class Storm:
    """Kills parts of `machine` while it blows. `killed` counts them by name."""

    def __init__(self, machine: Machine, seed: int) -> None:
        self.machine = machine
        self.random = Random(seed)
        self.killed: Counter[str] = Counter()
        self._due: dict[str, float] = {}  # dead parts and when they come back
        self._acts: dict[str, tuple[int, Callable[[], None]]] = {
            "worker-send": (5, lambda: self._kill("worker-send")),
            "worker-send2": (5, lambda: self._kill("worker-send2")),
            WORKER: (4, lambda: self._kill(WORKER)),
            "web": (2, lambda: self._kill("web")),
            "beat": (2, lambda: self._kill("beat")),
            "all at once": (1, lambda: self._kill(*machine.programs_of_ours)),
            "PostgreSQL": (2, lambda: machine.crash_postgres(away=self.random.uniform(*AWAY))),
            "PostgreSQL, immediate shutdown": (1, lambda: machine.shut_postgres_down(away=self.random.uniform(*AWAY))),
            "Redis": (2, lambda: machine.crash_redis(away=self.random.uniform(*AWAY))),
        }

    def blow(self, *, until: Callable[[], bool], seconds: float) -> None:
        """Kill until that has happened, at most for so long; then everything is started again."""
        end = time.monotonic() + seconds
        next_kill = 0.0
        while time.monotonic() < end and not until():
            if time.monotonic() >= next_kill:
                self._strike()
                next_kill = time.monotonic() + self.random.uniform(*GAPS)
            self._bring_back(time.monotonic())
            self._tend()
            time.sleep(0.02)
        self._bring_back(float("inf"))

    def _strike(self) -> None:
        names = list(self._acts)
        name = self.random.choices(names, weights=[weight for weight, _ in self._acts.values()])[0]
        anything = self.random.random() < YOUNG
        if name in self.machine.parts and not anything and (name in self._due or not self.machine.is_up(name)):
            return
        if name in self._due:
            return
        self._acts[name][1]()
        self.killed[name] += 1

    def _kill(self, *names: str) -> None:
        alive = [name for name in names if name not in self._due]
        self.machine.kill(*alive)
        for name in alive:
            self._due[name] = time.monotonic() + self.random.uniform(*AWAY)

    def _bring_back(self, now: float) -> None:
        for name in [name for name, due in self._due.items() if due <= now]:
            del self._due[name]
            self.machine.revive(name)

    def _tend(self) -> None:
        """The supervisor, for parts that have ended by themselves."""
        self.machine.tend(spare=self._due)
