"""Months of sequences made by chance: the engine does what a second, separately written interpreter says.

Each scene has trees, people and events by a seed, in two organizations. The clock jumps from timer to timer and from
event to event; after every sweep all that the engine's rows say is compared with the reference: who is enrolled and who
was refused, paths with outcomes and times, where everybody stands and until when, messages, ends, counters.

Faults put into the engine on purpose were found: delays counted from the run, branches swapped, an exit tag overlooked,
lateness ignored, a deadline counted from the step before, and three kinds of clocks read wrongly.
"""

import json
import os
from datetime import UTC, datetime, time, timedelta
from random import Random, SystemRandom
from zoneinfo import ZoneInfo

import pytest
from django.db import transaction

from sequences.trees import Delay, Until, due
from tests.sequences.playing import Disagreement, play
from tests.sequences.reference import next_showing
from tests.sequences.scenes import CLOCKS, DAYS, STYLES, ZONES, scene, smaller

pytestmark = pytest.mark.django_db
SEEDS = (*range(1, 20), 871113582)
FRESH = int(os.environ.get("FUZZ_SCENES", "0"))  # make fuzz: everywhere else the same scenes each time
CHANGES = ((3, 9), (3, 30), (4, 6), (7, 1), (9, 7), (10, 5), (10, 26), (11, 2))  # days after clocks changed somewhere
TRIES = 60  # cuts of a scene that failed, to show the least that still fails


@pytest.mark.parametrize("seed", [*SEEDS, *["new"] * FRESH])
def test_the_engine_does_what_the_reference_says(seed):
    check(SystemRandom().randrange(10**9) if seed == "new" else seed)


@pytest.mark.parametrize("style", sorted(set(STYLES)))
def test_the_same_scene_ends_the_same_however_it_is_swept(style):
    check(17, style=style)


def test_clocks_are_read_as_if_they_were_watched_minute_by_minute():
    chance = Random(26)
    for _ in range(250):
        since = datetime(2026, *chance.choice(CHANGES), tzinfo=UTC) - timedelta(seconds=chance.randrange(3 * 86400))
        zone, clock = chance.choice(ZONES), chance.choice(CLOCKS)
        days = tuple(chance.sample(DAYS, chance.randint(1, 7)))
        until = Until(time.fromisoformat(clock), frozenset(map(DAYS.index, days)), zone)
        found = due(Delay("d", until=until), since, ZoneInfo("UTC"))
        assert found == next_showing(since, clock, days, zone), (since, clock, days, zone)


def check(seed, **change):
    played = scene(seed) | change
    said = objection(played)
    if said:
        least = smaller(played, lambda cut: kind(objection(cut)) == kind(said), tries=TRIES)
        pytest.fail(f"Seed {seed}: {said}\nThe least that fails: {json.dumps(least, default=str)}\n{objection(least)}")


def objection(played):
    """What the engine and the reference disagree about; empty if nothing. Leaves nothing behind."""
    point = transaction.savepoint()
    try:
        play(played)
    except Disagreement as disagreement:
        return str(disagreement)
    finally:
        transaction.savepoint_rollback(point)
    return ""


def kind(said):
    return said.split(":")[0]
