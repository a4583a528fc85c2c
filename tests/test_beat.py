"""Beat while Redis is away: what it does itself, and what it must not wait for."""

import socket
import threading
import time
from datetime import timedelta

import pytest
from django.conf import settings as configured
from django.db import connections
from kombu.exceptions import OperationalError

from kaanha.beat import Scheduler, StandIn
from kaanha.celery import app
from kaanha.lib.errors import Refusal
from tests.running import eventually

pytestmark = pytest.mark.django_db(transaction=True)

SWEEP = "broadcasts: due, queued, finished"
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def scheduler(monkeypatch):
    """A scheduler whose stand-in only writes down what it is asked to do."""
    app.loader.import_default_modules()
    monkeypatch.setattr("kaanha.beat.Pulse.start", lambda self: None)
    made = Scheduler(app=app)
    made.asked = []
    made.stand_in.act = lambda task, arguments: made.asked.append(task)
    yield made
    made.close()


@pytest.fixture
def without_redis(monkeypatch):
    monkeypatch.setattr(app.conf, "broker_url", NOWHERE)


def apply(scheduler, name=SWEEP):
    return scheduler.apply_async(scheduler.schedule[name], producer=scheduler.producer, advance=False)


def tick_while_due(scheduler):
    while scheduler.tick() == 0:
        pass
    connections.close_all()


def test_the_settings_name_it():
    assert configured.CELERY_BEAT_SCHEDULER == "kaanha.beat:Scheduler"


def test_with_redis_there_an_entry_is_published_and_not_done_here(scheduler):
    assert apply(scheduler) is not None
    assert (scheduler.away, scheduler.asked) == (False, [])


def test_with_redis_away_an_entry_is_done_here_at_once(without_redis, scheduler):
    begun = time.monotonic()

    assert apply(scheduler) is None

    assert time.monotonic() - begun < 1
    assert eventually(lambda: scheduler.asked == ["broadcasts.tasks.sweep"])
    assert scheduler.away is True


def test_a_tick_with_redis_away_does_every_due_entry_without_waiting_for_any(without_redis, scheduler):
    """With `producer` connecting as it is made, as Celery's does, the first tick didn't come back."""
    gate = threading.Event()
    scheduler.stand_in.act = lambda task, arguments: (scheduler.asked.append(task), gate.wait(10))
    for entry in scheduler.schedule.values():
        entry.last_run_at -= timedelta(days=1)
    clock = threading.Thread(target=tick_while_due, args=[scheduler], daemon=True)
    clock.start()
    clock.join(3)

    assert not clock.is_alive()
    assert eventually(lambda: len(scheduler.asked) == len(scheduler.schedule))
    assert {entry["task"] for entry in configured.CELERY_BEAT_SCHEDULE.values()} <= set(scheduler.asked)
    gate.set()


def test_it_publishes_again_when_redis_answers_again(monkeypatch, scheduler):
    with monkeypatch.context() as away:
        away.setattr(app.conf, "broker_url", NOWHERE)
        apply(scheduler)
    scheduler.away_until = time.monotonic()  # two seconds later

    assert apply(scheduler) is not None
    assert scheduler.away is False


def test_after_a_failure_redis_is_left_alone_for_a_moment(without_redis, monkeypatch, scheduler):
    """A Redis that is silent costs a second for each attempt: five entries a second would take five."""
    apply(scheduler)
    monkeypatch.setattr(app.conf, "broker_url", configured.REDIS_URL)

    assert apply(scheduler) is None


def test_a_redis_that_is_silent_costs_a_second_and_no_more(monkeypatch, scheduler):
    """With Celery's own connection, which has no timeout, the tick didn't come back."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(app.conf, "broker_url", f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        begun = time.monotonic()
        apply(scheduler)

    assert time.monotonic() - begun < 2
    assert eventually(lambda: scheduler.asked == ["broadcasts.tasks.sweep"])


def test_a_mistake_in_an_entry_is_not_taken_for_a_lost_redis(scheduler, monkeypatch):
    monkeypatch.setattr(
        "celery.app.task.Task.apply_async", lambda *_, **__: (_ for _ in ()).throw(TypeError("arguments"))
    )
    with pytest.raises(Exception, match=r"Couldn't apply scheduled task .*: arguments"):
        apply(scheduler)

    assert (scheduler.away, scheduler.asked) == (False, [])


def test_an_entry_is_done_once_at_a_time_and_others_beside_it():
    """Without `busy` a sweep that takes longer than its interval would fill all threads with itself."""
    gate, asked = threading.Event(), []
    stand_in = StandIn(lambda task, arguments: (asked.append(task), gate.wait(10)))

    assert [stand_in.take("sweep", "a", ()), stand_in.take("sweep", "a", ()), stand_in.take("slices", "b", ())] == [
        True,
        False,
        True,
    ]
    assert eventually(lambda: sorted(asked) == ["a", "b"])
    gate.set()
    assert eventually(lambda: stand_in.busy == set())
    assert stand_in.take("sweep", "a", ()) is True
    stand_in.stop()


@pytest.mark.parametrize("error", [Refusal("no"), OperationalError("away"), KeyError("task")])
def test_a_turn_that_fails_does_not_end_the_next(error, caplog):
    def act(task, arguments):
        raise error

    stand_in = StandIn(act)
    stand_in.take("sweep", "a", ())
    assert eventually(lambda: not stand_in.busy)

    assert stand_in.take("sweep", "a", ()) is True
    assert eventually(lambda: not stand_in.busy)
    stand_in.stop()
    assert caplog.messages == ["a could not be done here"] * 2
