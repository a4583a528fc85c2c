"""The one statement that freezes an audience, interrupted."""

import psycopg
import pytest

from tests.scenarios.machine import SENDERS, Machine

PEOPLE = 100_000
WORKER = "worker-work"

pytestmark = pytest.mark.xdist_group("scenarios")


@pytest.fixture
def watcher(machine: Machine):
    with psycopg.connect(machine.postgres.url, autocommit=True) as connection:
        yield connection


def test_a_launch_that_is_interrupted_twice_gives_everybody_one_row(machine, watcher):
    """Without its transaction the first interruption left a broadcast that was sending to nobody, and completed."""
    machine.kill(*SENDERS)  # so that the rows can be counted at rest
    tag = machine.audience(PEOPLE)
    broadcast = machine.launch(tag=tag)

    first = freezing(machine, watcher)
    watcher.execute("SELECT pg_terminate_backend(%s)", [first])
    freezing(machine, watcher, but=first)
    assert rows(watcher, broadcast) == (0, 0)
    machine.restart(WORKER)
    machine.until(lambda: machine.status(broadcast) == "sending", "the broadcast is sending", spare=SENDERS)

    assert rows(watcher, broadcast) == (PEOPLE, PEOPLE)
    assert total(watcher, broadcast) == PEOPLE
    take_away(machine, broadcast)


def freezing(machine, watcher, *, but=0):
    """Wait for the statement that freezes the audience, and tell who runs it."""
    found = []

    def runs():
        found[:] = watcher.execute(FREEZING, [but]).fetchall()
        return bool(found)

    machine.until(runs, "the audience is being frozen", step=0.002, spare=SENDERS)
    return found[0][0]


def rows(watcher, broadcast):
    """(rows, different contacts) of the audience."""
    return watcher.execute(
        "SELECT count(*), count(DISTINCT contact_id) FROM messaging_message WHERE contact_id = ANY(%s)",
        [list(broadcast.people)],
    ).fetchone()


def total(watcher, broadcast):
    counted = watcher.execute(
        "SELECT sum(total)::int FROM messaging_dispatchcount c JOIN broadcasts_broadcast b USING (dispatch_id)"
        " WHERE b.id = %s",
        [broadcast.id],
    )
    return counted.fetchone()[0]


def take_away(machine, broadcast):
    """End the broadcast and spare the next scenario a hundred thousand skipped rows."""
    machine.do("act", "cancel", broadcast.id)
    machine.rows(TAKE_AWAY, broadcast.id)


FREEZING = """
SELECT pid FROM pg_stat_activity
WHERE state = 'active' AND query LIKE '%%INSERT INTO messaging_message%%' AND pid NOT IN (pg_backend_pid(), %s)
"""
TAKE_AWAY = """
DELETE FROM messaging_message WHERE dispatch_id = (SELECT dispatch_id FROM broadcasts_broadcast WHERE id = %s)
"""
