"""The three lanes: each task goes into its own and no other, and a worker that names none serves them all."""

import pytest
from redis import Redis

from broadcasts.tasks import sweep
from kaanha.celery import app
from kaanha.inbound.tasks import apply_callbacks
from kaanha.messaging.tasks import send_slice

LANES = ("default", "callbacks", "send")


@pytest.fixture
def redis(settings):
    with Redis.from_url(settings.REDIS_URL) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.mark.parametrize(
    ("ask", "lane"),
    [(sweep.delay, "default"), (apply_callbacks.delay, "callbacks"), (lambda: send_slice.delay(1), "send")],
)
def test_a_task_waits_in_its_lane_only(redis, ask, lane):
    ask()

    assert {name: redis.llen(name) for name in LANES} == {name: int(name == lane) for name in LANES}


def test_a_worker_without_lanes_of_its_own_serves_all():
    assert set(app.amqp.queues.consume_from) == set(LANES)
