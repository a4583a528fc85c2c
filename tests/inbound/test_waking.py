"""Who applies callbacks is woken as they come, at no cost for Meta's POST."""

import threading

import pytest
from kombu.exceptions import OperationalError

from kaanha.inbound import tasks, waking


@pytest.fixture
def pokes(monkeypatch):
    """Each poke releases it once."""
    poked = threading.Semaphore(0)
    monkeypatch.setattr(tasks.apply_callbacks, "delay", poked.release)
    monkeypatch.setattr(waking, "PAUSE", 0.01)
    return poked


def test_a_callback_wakes_and_so_does_the_next(pokes):
    for _ in range(2):
        waking.wake()
        assert pokes.acquire(timeout=10)


def test_many_at_once_are_a_few_pokes(pokes, monkeypatch):
    monkeypatch.setattr(waking, "PAUSE", 0.2)
    for _ in range(1000):
        waking.wake()

    assert pokes.acquire(timeout=10)
    pokes.acquire(timeout=0.5)  # of those that came after the first poke
    assert not pokes.acquire(timeout=0.5)


@pytest.mark.parametrize("error", [OperationalError("Redis is away"), RuntimeError("something else")])
def test_a_poke_that_fails_is_not_the_last_one(pokes, monkeypatch, error):
    failed = threading.Event()

    def fail():
        failed.set()
        raise error

    with monkeypatch.context() as away:
        away.setattr(tasks.apply_callbacks, "delay", fail)
        waking.wake()
        assert failed.wait(timeout=10)
    waking.wake()

    assert pokes.acquire(timeout=10)


@pytest.mark.django_db
def test_both_ways_of_a_callback_wake(post, monkeypatch):
    woken = []
    monkeypatch.setattr(waking, "wake", lambda: woken.append(True))

    post(b"{}")
    assert woken == [True]
    post(b"{}", secret="another")
    assert woken == [True]
