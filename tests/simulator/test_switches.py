from __future__ import annotations

import pytest

from kaanha.simulator.outcomes import Fault
from kaanha.simulator.switches import Forced, Switches, span


def test_switches_are_set_in_either_spelling():
    switches = Switches()

    switches.update({"pairRate": True, "messaging_limit": 250, "latency": "0.05-0.4", "callbackVersion": "v23.0"})

    assert switches.pair_rate is True
    assert switches.messaging_limit == 250
    assert switches.latency == (0.05, 0.4)
    assert switches.callback_version == 23
    assert switches.as_json()["pairRate"] is True


def test_one_delay_is_changed_and_the_others_stay():
    switches = Switches()

    switches.update({"delays": {"read": [5, 6]}})

    assert switches.delays["read"] == (5.0, 6.0)
    assert switches.delays["sent"] == (0.1, 0.5)


@pytest.mark.parametrize(
    "changes",
    [
        {"nothing": 1},
        {"speed": 0},
        {"speed": "fast"},
        {"speed": True},
        {"cards": 1},
        {"latency": [2, 1]},
        {"latency": [-1, 1]},
        {"latency": "soon"},
        {"duplicate": 1.1},
        {"batch": 0},
        {"batch": 1001},
        {"batch": 1.5},
        {"throughput": 0},
        {"delays": {"lunch": [1, 2]}},
        {"delays": 3},
        {"profile": {"nothing": 1}},
        {"profile": {"read": 0}},
        {"retryGaps": []},
        {"templateVerdict": "MAYBE"},
        {"force": {"count": 1}},
        {"force": {"status": 500, "error": {"code": 1}}},
        {"force": {"error": {}}},
        {"force": {"fault": "nothing"}},
        {"force": {"status": 500, "on": "sundays"}},
        {"force": {"nothing": 500}},
    ],
)
def test_a_wrong_value_is_refused_and_nothing_is_set(changes):
    switches = Switches()

    with pytest.raises(ValueError):  # noqa: PT011  the sentences are looked at in test_control
        switches.update({"drop": 0.5} | changes)

    assert switches == Switches()


def test_throughput_and_limits_can_be_taken_away_again():
    switches = Switches(throughput=80)

    switches.update({"throughput": None})

    assert switches.throughput is None


def test_a_forced_fault_is_over_after_its_count():
    forced = Forced(fault=Fault.HANG, count=1)

    assert not forced.over
    forced.count = 0
    assert forced.over


def test_a_forced_fault_is_over_after_its_seconds():
    assert Forced(status=500, seconds=-1).over
    assert not Forced(status=500, seconds=60).over


@pytest.mark.parametrize(
    ("written", "read"), [(1, (1.0, 1.0)), ([1, 2], (1.0, 2.0)), ("0.5-2", (0.5, 2.0)), ("3", (3.0, 3.0))]
)
def test_spans(written, read):
    if written == "3":
        with pytest.raises(ValueError):  # noqa: PT011
            span(written)
        return
    assert span(written) == read
