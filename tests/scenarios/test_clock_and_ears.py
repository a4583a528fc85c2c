"""Beat that starts without Redis, two beats at once, and a worker that has grown deaf."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from celery import Celery

from kaanha import processes
from kaanha.processes import Child, Program
from kaanha.worker import DEAF
from tests.running import eventually
from tests.scenarios import verdict
from tests.scenarios.machine import Machine

pytestmark = pytest.mark.xdist_group("scenarios")


@contextmanager
def beside(machine: Machine, program: Program, name: str, **environment: str) -> Iterator[Child]:
    """One more part, for this scenario only."""
    child = Child(program, machine.folder / f"{name}.log", machine.environment | environment)
    try:
        assert eventually(lambda: child.ready, 20)
        yield child
    finally:
        child.kill()


def test_a_beat_that_starts_while_redis_is_away_sends(machine):
    """Killed: Redis, and then beat. With Celery's own producer the new beat stood in its first attempt to connect."""
    machine.redis.kill()
    try:
        machine.restart("beat")
        broadcast = machine.launch(people=40)
        machine.until(lambda: machine.accepted() == 40, "all of it is sent", seconds=20)
    finally:
        machine.redis.start()
    machine.finish(broadcast)

    assert verdict.of(machine, broadcast).faults == []


def test_two_beats_that_both_send_while_redis_is_away_reach_nobody_twice(machine):
    """Killed: Redis. Both beats sweep and send at the same time; the claims in PostgreSQL keep them apart."""
    with beside(machine, processes.beat(), "beat2"):
        machine.redis.kill()
        try:
            broadcast = machine.launch(people=300)
            machine.until(lambda: machine.accepted() >= 250, "most of it is sent", seconds=30)
        finally:
            machine.redis.start()
        machine.finish(broadcast)

    assert verdict.of(machine, broadcast).faults == []


def test_a_worker_that_hears_nothing_although_redis_answers_ends_to_be_started_again(machine):
    """Its ears are closed over Celery's remote control. Without the guard it stayed, alive to see and useless."""
    program = processes.worker("deaf", "nobodys")
    with beside(machine, program, "worker-deaf", WORKER_DEAF_AFTER_SECONDS="1") as worker:
        name = f"deaf@{socket.gethostname()}"
        assert eventually(lambda: machine.rows("SELECT 1 FROM operations_heartbeat WHERE name = %s", name) != [], 10)
        assert not eventually(lambda: worker.ended, 7), "it hears itself"
        with Celery(broker=machine.redis.url) as outside:
            for queue in ("nobodys", f"{name}.dq2"):
                outside.control.cancel_consumer(queue, destination=[name])

        assert eventually(lambda: worker.ended, 12)
        assert worker.process.returncode == DEAF
