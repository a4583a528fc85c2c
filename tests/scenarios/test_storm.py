"""The short chaos; `make chaos` is the long one."""

import pytest

from tests.scenarios import chaos
from tests.scenarios.storm import Storm

SEED = 20261123

pytestmark = pytest.mark.xdist_group("scenarios")


def test_a_storm_of_kills_leaves_nobody_twice_and_nobody_lost(machine):
    storm = Storm(machine, SEED)

    result = chaos.storm_round(machine, storm, people=1_000, seconds=10)

    assert result.faults == []
    assert (result.duplicates, result.lost) == (0, 0)
    assert storm.killed.total() >= 5
