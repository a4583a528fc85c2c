"""Who says that it lives, and who is silent."""

from datetime import UTC, datetime, timedelta

import pytest

from kaanha.operations import heartbeats
from kaanha.operations.heartbeats import Pulse
from kaanha.operations.models import FORGOTTEN, SILENT, Heartbeat
from tests.running import eventually

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)

pytestmark = pytest.mark.django_db


def beat(name, *, at=NOW, **more):
    heartbeats.beat("worker", name, started_at=NOW, now=at, **more)


def test_a_process_has_one_row_however_often_it_beats():
    beat("send@here", lanes=["send"])
    beat("send@here", at=NOW + timedelta(seconds=10), lanes=["send"], note="slow")

    row = Heartbeat.objects.get()
    assert (row.at, row.lanes, row.note) == (NOW + timedelta(seconds=10), ["send"], "slow")


def test_who_missed_four_beats_is_silent_and_forgotten_after_a_day():
    beat("old@here")
    beat("new@here", at=NOW + SILENT)
    names = Heartbeat.objects.values_list("name", flat=True)

    assert list(names.alive(NOW + SILENT)) == ["new@here"]
    assert list(names.silent(NOW + SILENT)) == ["old@here"]
    beat("new@here", at=NOW + FORGOTTEN + timedelta(seconds=1))
    assert list(names) == ["new@here"]


@pytest.mark.django_db(transaction=True)
def test_a_pulse_beats_at_once_and_takes_its_row_with_it():
    pulse = Pulse("worker", "send@here", lanes=["send"])
    pulse.start()
    assert eventually(lambda: Heartbeat.objects.filter(name="send@here").exists())

    pulse.stop()

    assert not pulse.is_alive()
    assert not Heartbeat.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_process_that_does_not_do_its_work_is_not_alive():
    looked = []
    pulse = Pulse("beat", "here", lives=lambda: bool(looked.append(1)))
    pulse.start()
    assert eventually(lambda: bool(looked))

    pulse.stop()

    assert not Heartbeat.objects.exists()
