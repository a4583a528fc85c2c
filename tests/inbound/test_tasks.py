"""Celery's doors to the callbacks."""

from datetime import UTC, datetime, timedelta

import pytest

from kaanha.inbound import applying, tasks
from kaanha.messaging import receipts

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def clock(monkeypatch):
    """A list whose only member is the time."""
    told = [NOW]
    monkeypatch.setattr(tasks.timezone, "now", lambda: told[0])
    return told


def test_steady_traffic_keeps_no_worker_for_ever(monkeypatch, clock):
    """The next poke goes on: four that never ended took every thread of the worker."""
    turns = []

    def apply_open(*, now):
        turns.append(now)
        clock[0] += timedelta(seconds=2)
        return 500 if len(turns) < 100 else 0

    monkeypatch.setattr(applying, "apply_open", apply_open)

    assert tasks.apply_callbacks() == 1500
    assert turns == [NOW, NOW + timedelta(seconds=2), NOW + timedelta(seconds=4)]


def test_what_waits_is_applied_and_what_comes_a_moment_later(monkeypatch, clock):
    pauses, waiting = [], [500, 3, 0, 1, 0, 0, 7]
    monkeypatch.setattr(applying, "apply_open", lambda *, now: waiting.pop(0))
    monkeypatch.setattr(tasks.time, "sleep", pauses.append)

    assert tasks.apply_callbacks() == 504
    assert waiting == [7]
    assert len(pauses) == 4  # after each that wasn't large
    assert all(0 < pause <= tasks.PAUSE for pause in pauses)


def test_nothing_to_apply_is_seen_at_the_first_look(monkeypatch, clock):
    waiting = [0]
    monkeypatch.setattr(applying, "apply_open", lambda *, now: waiting.pop(0))

    assert tasks.apply_callbacks() == 0


def test_callbacks_take_one_thread_of_a_worker(monkeypatch, clock):
    deep = []

    def apply_open(*, now):
        deep.append(len(deep))
        tasks.apply_callbacks()
        return 0

    monkeypatch.setattr(applying, "apply_open", apply_open)
    tasks.apply_callbacks()

    assert len(deep) == 1


def test_while_there_is_much_a_second_thread_helps_until_it_finds_little_and_a_third_never(monkeypatch, clock):
    looks, others = [], []

    def apply_open(*, now):
        looks.append(now)
        if len(looks) in (2, 3):  # those of the first thread again, and of its helper: one more begins meanwhile
            place = len(looks)
            others.append(tasks.apply_callbacks())
            return {2: 0, 3: 7}[place]
        return 500 if len(looks) == 1 else 0

    monkeypatch.setattr(tasks.time, "sleep", lambda _: None)
    monkeypatch.setattr(applying, "apply_open", apply_open)

    assert tasks.apply_callbacks() == 500
    assert others == [0, 7]  # the third thread, and the helper
    assert len(looks) == 4
    assert tasks._here.begun == []


def test_a_thread_that_waits_for_longer_than_its_turn_keeps_no_other_from_applying(monkeypatch, clock):
    deep = []

    def apply_open(*, now):
        deep.append(len(deep))
        monkeypatch.setattr(tasks.time, "monotonic", lambda: 1_000_000.0 + 6 * len(deep))
        if len(deep) < 3:
            tasks.apply_callbacks()
        return 0

    monkeypatch.setattr(tasks.time, "monotonic", lambda: 1_000_000.0)
    monkeypatch.setattr(applying, "apply_open", apply_open)
    tasks.apply_callbacks()

    assert len(deep) == 3
    assert tasks._here.begun == []


def test_the_hourly_clean_up_drops_bodies_and_receipts_until_nothing_is_left(monkeypatch, clock):
    bodies, unmatched = [10_000, 1, 0], [3, 0]
    monkeypatch.setattr(applying, "drop_old", lambda *, now: bodies.pop(0))
    monkeypatch.setattr(receipts, "drop_old", lambda *, now: unmatched.pop(0))

    assert tasks.drop_old_callbacks() == 10_004
    assert (bodies, unmatched) == ([], [])
