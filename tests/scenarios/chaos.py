"""`make chaos`: broadcasts and sequences through a storm of kills, for minutes, and a sum at the end.

    python -m tests.scenarios.chaos --seed 7 --minutes 10
    python -m tests.scenarios.chaos --only sequences

The last line is `kills survived N, duplicates N, lost N, unconfirmed N`; it ends with 0 only where nothing is wrong.
The same seed draws the same kills, though not at the same instants of the work: that is the machine's own chance.
"""

# ruff: noqa: T201 — what a program says

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from itertools import cycle

from kaanha.tied import leave_when_told
from tests.scenarios import drips, verdict
from tests.scenarios.machine import MARKETING, THERE, UTILITY, Launched, Machine, OutOfPatienceError
from tests.scenarios.storm import Storm
from tests.scenarios.verdict import Verdict

PEOPLE = 3_000
STORM = 75  # seconds that one round is stormy at the most
CALM = 120  # seconds that it gets to end after that
CALM_DRIP = 300  # a sequence sends three messages to each, one after the other's fate
# Every card but "slow down": one in a hundred saying so would only make the rounds longer.
CARDS = [ending for ending in range(100) if ending != 29]
# Meta at its worst: callbacks twice, in any order, before the answer. Such an answer waits for a web that is dead just
# then, so they are few: more would be the safety stop's business.
UNRULY = {"cards": True, "duplicate": 0.2, "reorder": 0.3, "early": 0.03, "batch": 25}


def storm_round(
    machine: Machine, storm: Storm, *, people: int = PEOPLE, seconds: float = STORM, cards: Sequence[int] = CARDS
) -> Verdict:
    """Two organizations' broadcasts through the storm, and what became of them once it is over."""
    machine.begin(throughput=150, **UNRULY)
    launched = [
        machine.launch(people, endings=cards, template=MARKETING),
        machine.launch(people // 5, endings=cards, template=UTILITY, organization=THERE),
    ]
    storm.blow(until=lambda: _over(machine, launched), seconds=seconds)
    machine.finish(*launched, seconds=CALM)
    return verdict.of(machine, *launched)


def drip_round(
    machine: Machine, storm: Storm, *, people: int = PEOPLE, seconds: float = STORM, cards: Sequence[int] = CARDS
) -> Verdict:
    """A sequence that an import starts, through the storm, and what became of everybody once it is over."""
    machine.begin(throughput=300, **UNRULY)
    drip = drips.start(machine, people, endings=cards)

    def over() -> bool:
        drips.go_on(machine, drip)
        return drips.everybody_ended(machine, drip)

    storm.blow(until=over, seconds=seconds)
    drips.finish(machine, drip, seconds=CALM_DRIP)
    return drips.verdict(machine, drip)


ROUNDS: dict[str, Callable[..., Verdict]] = {"broadcasts": storm_round, "sequences": drip_round}


def _over(machine: Machine, launched: list[Launched]) -> bool:
    return all(machine.status(broadcast) == "completed" for broadcast in launched)


def run(*, seed: int, minutes: float, people: int, only: str | None = None) -> Verdict:
    """Rounds by turns until the time is over or something is wrong; what became of all of them together."""
    end = time.monotonic() + minutes * 60
    total = Verdict()
    with Machine() as machine:
        storm = Storm(machine, seed)
        longest = 0.0
        rounds = cycle([only] if only else ROUNDS)
        while not total.faults and time.monotonic() + longest < end:
            begun, kills = time.monotonic(), machine.kills
            name = next(rounds)
            one = _survived(ROUNDS[name], machine, storm, people=people, seconds=min(STORM, end - begun))
            longest = max(longest, time.monotonic() - begun)
            _tell(name, one, machine.kills - kills, time.monotonic() - begun)
            total.add(one)
        print("killed: " + ", ".join(f"{name} {count}" for name, count in storm.killed.most_common()))
        if total.faults:
            print(machine.last_words())
        _conclude(total, machine.kills)
    return total


def _survived(
    round_: Callable[..., Verdict], machine: Machine, storm: Storm, *, people: int, seconds: float
) -> Verdict:
    """The verdict on one round; people whose broadcast or sequence never ended are lost."""
    try:
        return round_(machine, storm, people=people, seconds=seconds)
    except OutOfPatienceError as error:
        return Verdict(faults=[str(error)], lost=people)


def _tell(name: str, one: Verdict, kills: int, seconds: float) -> None:
    parts = ", ".join(f"{status} {count:,}" for status, count in one.statuses.most_common())
    print(f"{name}: {one.statuses.total():,} messages, {kills} kills, {seconds:.0f} s: {parts}", flush=True)
    for fault in one.faults[:20]:
        print(f"  FAULT {fault}")


def _conclude(total: Verdict, kills: int) -> None:
    counts = f"duplicates {total.duplicates}, lost {total.lost}, unconfirmed {total.unconfirmed}"
    print(f"kills survived {kills}, {counts}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill parts of a working Kaanha for minutes and count what is wrong.")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="which kills (default: drawn)")
    parser.add_argument("--minutes", type=float, default=9, help="how long (default: 9)")
    parser.add_argument("--people", type=int, default=PEOPLE, help=f"in a broadcast or sequence (default: {PEOPLE})")
    parser.add_argument("--only", choices=list(ROUNDS), help="rounds of one kind alone (default: both by turns)")
    options = parser.parse_args()
    leave_when_told()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kaanha.settings")
    print(f"seed {options.seed}, {options.minutes:g} minutes", flush=True)
    total = run(seed=options.seed, minutes=options.minutes, people=options.people, only=options.only)
    return 1 if total.faults or total.duplicates or total.lost else 0


if __name__ == "__main__":
    sys.exit(main())
