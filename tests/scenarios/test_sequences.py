"""A sequence through the whole machine, at rest and in a storm of kills."""

import pytest

from tests.scenarios import chaos, drips
from tests.scenarios.storm import Storm

SEED = 20261123
# Without those whom Meta refuses for a while: waiting for their next try is no part of this.
CARDS = [ending for ending in chaos.CARDS if ending not in (56, 70, 73)]

pytestmark = pytest.mark.xdist_group("scenarios")


def test_everybody_goes_through_every_way_of_a_sequence(machine):
    machine.begin(throughput=200, profile={"read": 50, "delivered": 50})
    drip = drips.start(machine, people=120)
    machine.until_sent(60)

    drips.finish(machine, drip, seconds=60)

    assert drips.verdict(machine, drip).faults == []
    ways = dict(machine.rows(WAYS, drip.id))
    assert ways.keys() == {"bought yes", "bought no", "seen yes", "seen no"}
    assert ways["bought yes"] + ways["bought no"] >= 120 * 19 // 20


def test_a_storm_of_kills_takes_nobody_through_a_step_twice_and_loses_nobody(machine):
    storm = Storm(machine, SEED)

    result = chaos.drip_round(machine, storm, people=300, seconds=8, cards=CARDS)

    assert result.faults == []
    assert (result.duplicates, result.lost) == (0, 0)
    assert storm.killed, "nothing was killed"


WAYS = """
SELECT r.key || ' ' || r.outcome, count(*)::int FROM sequences_steprun r
JOIN sequences_enrollment e ON e.id = r.enrollment_id
WHERE e.sequence_id = %s AND r.outcome IN ('yes', 'no') GROUP BY 1
"""
