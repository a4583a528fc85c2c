"""One pace for all processes, and nobody's thousands before somebody's ten."""

import bisect

import pytest

from tests.scenarios import verdict
from tests.scenarios.machine import HERE, NUMBERS, THERE, UTILITY

RATE = 50
BURST = RATE // 10
JITTER = RATE // 10  # requests on their way when a second begins and there when it ends

pytestmark = pytest.mark.xdist_group("scenarios")


def test_two_senders_together_never_exceed_the_rate_of_the_number(machine):
    """With a bucket in each process instead of one in Redis, 93 went in one second.

    Without the lock on the rows that a claim takes, both processes claimed some, and people got the broadcast twice.
    """
    machine.begin(throughput=RATE)
    broadcast = machine.launch(people=150)

    machine.finish(broadcast)

    assert verdict.of(machine, broadcast).faults == []
    times = sorted(message["acceptedAt"] for message in machine.received())
    assert machine.value(HOLDERS, NUMBERS[HERE][0]) == 2
    assert fullest_second(times) <= RATE + BURST + JITTER
    assert len(times) <= RATE * (times[-1] - times[0]) + BURST + JITTER


def test_others_do_not_wait_behind_a_large_broadcast(machine):
    machine.begin(throughput=100)
    large = machine.launch(people=8_000)
    machine.until_sent(100)

    small = machine.launch(people=20, organization=THERE, template=UTILITY)
    (person,) = machine.holders(machine.audience(1))
    single = machine.do("single", HERE, person, UTILITY[0], NUMBERS[HERE][0])
    asked = machine.accepted()
    machine.until(lambda: machine.status(small) == "completed", "the small broadcast is completed", seconds=15)
    machine.until(lambda: machine.value(OPEN, single) == 0, "the single message is sent", seconds=15)

    assert machine.status(large) == "sending"
    assert machine.value(WAITING, large.id) > 4_000
    assert machine.accepted() - asked < 100 * 15
    machine.do("act", "cancel", large.id)
    machine.finish(large, status="canceled")
    assert verdict.of(machine, large, status="canceled").faults == []
    assert verdict.of(machine, small).faults == []


def fullest_second(times):
    """The most that was accepted in any one second, wherever it begins."""
    return max(bisect.bisect_left(times, at + 1) - place for place, at in enumerate(times))


HOLDERS = """
SELECT count(DISTINCT holder)::int FROM messaging_sendslot s JOIN whatsapp_phonenumber n ON n.id = s.phone_number_id
WHERE n.phone_number_id = %s AND leased_until > now() - interval '1 minute'
"""
OPEN = """
SELECT count(*)::int FROM messaging_message
WHERE dispatch_id = %s AND (due_at IS NOT NULL OR lease_until IS NOT NULL)
"""
WAITING = """
SELECT count(*)::int FROM messaging_message m JOIN broadcasts_broadcast b USING (dispatch_id)
WHERE b.id = %s AND m.due_at IS NOT NULL
"""
