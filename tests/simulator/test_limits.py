from __future__ import annotations

import pytest

from kaanha.simulator.errors import GraphError
from kaanha.simulator.limits import DAY, HOUR, Limits

UK = "+44 7700 9000"


def test_throughput_is_per_number_and_refills():
    limits = Limits()
    for _ in range(80):
        limits.spend_throughput("1", rate=80, now=100.0)

    with pytest.raises(GraphError) as refused:
        limits.spend_throughput("1", rate=80, now=100.0)

    assert refused.value.code == 130429
    limits.spend_throughput("2", rate=80, now=100.0)
    limits.spend_throughput("1", rate=80, now=100.0125)


def test_no_throughput_is_no_limit():
    limits = Limits()

    for _ in range(10_000):
        limits.spend_throughput("1", rate=None, now=100.0)


def test_a_pair_has_45_at_once_and_then_one_in_six_seconds():
    limits = Limits()
    for _ in range(45):
        limits.spend_pair("1", "447700900001", now=100.0)

    with pytest.raises(GraphError) as refused:
        limits.spend_pair("1", "447700900001", now=105.9)

    assert refused.value.code == 131056
    limits.spend_pair("1", "447700900002", now=105.9)
    limits.spend_pair("2", "447700900001", now=105.9)
    limits.spend_pair("1", "447700900001", now=106.1)


def test_management_calls_count_in_a_rolling_hour():
    limits = Limits()
    limits.spend_management(per_hour=2, now=0.0)
    limits.spend_management(per_hour=2, now=10.0)

    with pytest.raises(GraphError) as refused:
        limits.spend_management(per_hour=2, now=HOUR - 1)

    assert refused.value.code == 80007
    limits.spend_management(per_hour=2, now=HOUR + 1)


def test_unique_people_count_in_a_moving_day():
    limits = Limits()
    assert limits.admits_person("1", per_day=2, now=0.0)
    assert limits.admits_person("2", per_day=2, now=10.0)

    assert not limits.admits_person("3", per_day=2, now=20.0)
    assert limits.admits_person("1", per_day=2, now=20.0)
    assert limits.admits_person("3", per_day=2, now=DAY + 5)


def test_throughput_is_enforced_when_switched_on(client, meta):
    meta.settings(throughput=2)

    answers = [client.send(f"+44 7700 90000{number}") for number in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 400]
    assert answers[2].json()["error"]["code"] == 130429
    assert meta.summary()["accepted"] == 2


def test_the_pair_rate_is_enforced_when_switched_on(client, meta):
    codes = [client.send(UK + "01").status_code for _ in range(46)]
    meta.settings(pair_rate=True)
    limited = [client.send(UK + "01") for _ in range(46)]

    assert set(codes) == {200}
    assert [answer.status_code for answer in limited] == [200] * 45 + [400]
    assert limited[45].json()["error"]["code"] == 131056


def test_the_messaging_limit_fails_further_people_with_131048(client, meta, subscribed):
    meta.settings(messaging_limit=1)

    for ending in ("61", "61", "62"):
        assert client.send(UK + ending).status_code == 200

    assert meta.wait_idle()
    failed = [status for status in subscribed.statuses() if status["status"] == "failed"]
    assert [(status["recipient_id"], status["errors"][0]["code"]) for status in failed] == [("447700900062", 131048)]


def test_the_management_limit_leaves_messages_alone(client, meta):
    meta.settings(management_limit=1)

    answers = [client.call("GET", "300000000000001") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 400]
    assert answers[1].json()["error"]["code"] == 80007
    assert client.send(UK + "01").status_code == 200
