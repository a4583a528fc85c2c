"""Redis stays away: what is due is done all the same, by the clock's own process."""

import pytest

from tests.scenarios import verdict

pytestmark = pytest.mark.xdist_group("scenarios")


def test_a_broadcast_that_falls_due_while_redis_is_away_is_sent_before_it_is_back(machine):
    machine.redis.kill()
    try:
        broadcast = machine.launch(people=40)
        machine.until(lambda: machine.accepted() == 40, "all of it is sent without Redis", seconds=20)
    finally:
        machine.redis.start()
    machine.finish(broadcast)

    assert verdict.of(machine, broadcast).faults == []
