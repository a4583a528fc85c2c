"""The three lanes: each task goes into its own and no other, and a worker that names none serves them all."""

import os
import subprocess
import sys

import pytest

from broadcasts.tasks import sweep
from kaanha.celery import app
from kaanha.inbound.tasks import apply_callbacks
from kaanha.messaging.tasks import send_slice

LANES = {"default", "callbacks", "send"}


@pytest.mark.parametrize(("task", "lane"), [(sweep, "default"), (apply_callbacks, "callbacks"), (send_slice, "send")])
def test_a_task_has_its_lane(task, lane):
    queue = app.amqp.router.route({}, task.name)["queue"]

    assert queue.name == lane
    # With one exchange and routing key for all, a message would reach every lane.
    assert (queue.exchange.name, queue.routing_key) == (lane, lane)


def test_a_worker_without_lanes_of_its_own_serves_all():
    assert set(app.amqp.queues.consume_from) == LANES


@pytest.mark.parametrize("server", ["wsgi", "asgi"])
def test_every_thread_of_a_web_process_pokes_by_our_broker(server):
    code = f"""
import threading, kaanha.{server}
from contacts.tasks import take_import
threading.Thread(target=lambda: print(take_import.app.conf.broker_url)).start()
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "REDIS_URL": "redis://localhost:6399/5"},
    )

    assert done.stdout == "redis://localhost:6399/5\n"
