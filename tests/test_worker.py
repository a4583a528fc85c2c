"""When a worker holds itself for deaf."""

import pytest

from kaanha import worker
from kaanha.worker import Hearing


class Surroundings:
    """A worker's hands and its Redis, under a clock that the test turns."""

    def __init__(self):
        self.now, self.calls = 1000.0, 0
        self.redis_answers, self.full, self.idle = True, False, True

    def call(self):
        self.calls += 1
        return self.redis_answers

    def pass_(self, seconds, hearing):
        """Look once a second; whether it wanted to end."""
        ends = False
        for _ in range(seconds):
            self.now += 1
            ends = ends or hearing.is_lost()
        return ends


@pytest.fixture
def around(monkeypatch, settings):
    settings.WORKER_DEAF_AFTER = 60
    around = Surroundings()
    monkeypatch.setattr(worker.time, "monotonic", lambda: around.now)
    return around


@pytest.fixture
def hearing(around):
    return Hearing(call=around.call, full=lambda: around.full, idle=lambda: around.idle)


def test_it_ends_when_it_has_not_heard_its_own_calls_for_a_minute(around, hearing):
    assert around.pass_(64, hearing) is False
    assert around.pass_(1, hearing) is True


def test_hearing_anything_lets_the_minute_begin_anew(around, hearing):
    around.pass_(60, hearing)
    hearing.heard()

    assert around.pass_(64, hearing) is False


def test_it_calls_only_when_it_hears_nothing(around, hearing):
    for _ in range(30):
        around.pass_(1, hearing)
        hearing.heard()

    assert around.calls == 0


def test_while_redis_is_away_silence_means_nothing(around, hearing):
    around.redis_answers = False
    assert around.pass_(600, hearing) is False
    around.redis_answers = True

    assert around.pass_(59, hearing) is False


def test_with_full_hands_it_cannot_know(around, hearing):
    around.full = True

    assert around.pass_(600, hearing) is False


def test_what_is_in_hand_may_settle_but_not_for_ever(around, hearing):
    around.idle = False

    assert around.pass_(300, hearing) is False
    assert around.pass_(5, hearing) is True
