"""SIGKILL to every part of a working machine: the broadcast ends by itself, nobody has it twice, nobody is lost."""

import pytest

from tests.scenarios import verdict
from tests.scenarios.machine import SENDERS

WORKER = "worker-work"
UNSETTLED = 300  # what a process may have claimed and not settled

pytestmark = pytest.mark.xdist_group("scenarios")


def test_every_program_killed_one_by_one_and_all_at_once_goes_on_where_it_was(machine):
    """Meta never tells of half the messages, so that no receipt saves what a dead process knew.

    With ended leases going back to the queue instead of to unconfirmed, people got the broadcast twice.
    """
    machine.begin(profile={"silence": 50, "read": 50})
    broadcast = machine.launch(people=600)

    for sent, killed in ((100, SENDERS[:1]), (200, SENDERS[1:]), (300, ["beat"]), (400, machine.programs_of_ours)):
        machine.until_sent(sent)
        machine.restart(*killed)
    machine.finish(broadcast)

    result = verdict.of(machine, broadcast)
    assert result.faults == []
    assert result.unconfirmed <= 4 * UNSETTLED
    assert result.statuses.total() == 600


def test_receipts_survive_the_death_of_whoever_stores_and_whoever_applies_them(machine):
    """With callbacks marked as applied when they are taken, those in the dead worker's hands were never applied."""
    machine.begin(throughput=200, duplicate=0.3, reorder=0.5, early=0.1, batch=10)
    broadcast = machine.launch(people=500)

    for sent, name in ((60, "web"), (140, WORKER), (220, WORKER), (300, "web")):
        machine.until_sent(sent)
        machine.restart(name)
    machine.finish(broadcast)

    result = verdict.of(machine, broadcast)
    assert result.faults == []
    assert (result.unconfirmed, result.statuses["skipped"]) == (0, 0)


def test_meta_away_for_a_moment_is_tried_again_and_tells_nobody_twice(machine):
    broadcast = machine.launch(people=400)

    machine.until_sent(100)
    machine.restart("simulator")
    machine.finish(broadcast)

    assert verdict.of(machine, broadcast).faults == []


def test_postgresql_killed_and_shut_down_at_once_in_the_middle_forgets_nothing(machine):
    broadcast = machine.launch(people=600)

    machine.until_sent(150)
    machine.crash_postgres()
    machine.until_sent(350)
    machine.shut_postgres_down(away=1.5)
    machine.finish(broadcast)

    assert verdict.of(machine, broadcast).faults == []


def test_redis_killed_and_empty_and_then_away_for_a_while_changes_nothing(machine):
    broadcast = machine.launch(people=500)

    machine.until_sent(100)
    machine.crash_redis()
    machine.until_sent(200)
    machine.crash_redis(away=5)
    machine.finish(broadcast)
    next_one = machine.launch(people=20)
    machine.finish(next_one, seconds=15)

    result = verdict.of(machine, broadcast, next_one)
    assert result.faults == []
    assert result.unconfirmed == 0
