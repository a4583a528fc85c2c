"""The three lanes: each task goes into its own and no other, and a worker that names none serves them all."""

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
