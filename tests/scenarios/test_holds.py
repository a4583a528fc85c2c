"""Pause, resume and cancel while two processes send."""

import time

import pytest

from tests.scenarios import verdict

ON_ITS_WAY = 1.5  # seconds: what was claimed before the pause still goes

pytestmark = pytest.mark.xdist_group("scenarios")


def test_pausing_and_resuming_quickly_sends_exactly_the_rest(machine):
    """Without the look at the dispatch in each claim, rows were claimed for half a second after the pause."""
    broadcast = machine.launch(people=500)
    machine.until_sent(60)
    for _ in range(2):
        for act in ("pause", "resume", "pause", "resume"):
            machine.do("act", act, broadcast.id)
        machine.until(lambda: machine.status(broadcast) == "sending", "it is sending again")
        machine.until_sent(machine.accepted() + 20)
    paused = machine.do("act", "pause", broadcast.id)
    claimed = claims(machine, broadcast)
    time.sleep(ON_ITS_WAY)
    at_rest = machine.accepted()
    time.sleep(ON_ITS_WAY)

    assert machine.accepted() == at_rest < 500
    assert claims(machine, broadcast) == claimed
    assert last_accepted(machine) <= paused["committed"] + ON_ITS_WAY
    machine.do("act", "resume", broadcast.id)
    machine.finish(broadcast)
    result = verdict.of(machine, broadcast)
    assert result.faults == []
    assert machine.accepted() == 500


def test_canceling_ends_it_at_once_and_skips_the_rest(machine):
    broadcast = machine.launch(people=800)
    machine.until_sent(100)

    canceled = machine.do("act", "cancel", broadcast.id)
    claimed = claims(machine, broadcast)
    machine.finish(broadcast, status="canceled")

    result = verdict.of(machine, broadcast, status="canceled")
    assert result.faults == []
    assert result.statuses["skipped"] == 800 - machine.accepted() > 0
    assert claims(machine, broadcast) == claimed
    assert last_accepted(machine) <= canceled["committed"] + ON_ITS_WAY


def claims(machine, broadcast):
    """How many claims have been committed for a broadcast."""
    return machine.value(
        "SELECT sum(attempt)::int FROM messaging_message WHERE contact_id = ANY(%s)", list(broadcast.people)
    )


def last_accepted(machine):
    return max(message["acceptedAt"] for message in machine.received())
