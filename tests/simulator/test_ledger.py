"""The file of accepted messages: it is complete at every moment, and read back."""

from __future__ import annotations

import json

from kaanha.simulator import Simulator
from kaanha.simulator.ledger import Ledger, Message
from tests.simulator.conftest import VERIFY_TOKEN, Client


def message(number, to="447700900001", template="autumn_sale"):
    return Message(
        number=number,
        wamid=f"wamid.{number}",
        to=to,
        wa_id=to,
        phone_number_id="1",
        template=template,
        language="en_US",
        category="marketing",
        opaque="msg:é",
        raw=b'{"to":\n"+44 7700 900001"}',
        accepted_at=1795000000.25,
    )


def test_a_message_is_in_the_file_as_soon_as_it_is_taken(tmp_path):
    ledger = Ledger(tmp_path / "log")

    ledger.add(message(1))

    [line] = (tmp_path / "log").read_text().splitlines()
    assert json.loads(line)["wamid"] == "wamid.1"
    assert json.loads(line)["payload"] == {"to": "+44 7700 900001"}
    ledger.close()


def test_counts_go_on_after_a_restart(tmp_path):
    first = Ledger(tmp_path / "log")
    first.add(message(1))
    first.add(message(2, to="447700900002"))

    second = Ledger(tmp_path / "log")
    second.add(message(3))

    assert second.summary()["accepted"] == 3
    assert (second.summary()["recipients"], second.summary()["twice"]) == (2, 1)
    assert [each.number for each in second.messages] == [1, 2, 3]
    assert second.messages[0].payload == {"to": "+44 7700 900001"}
    assert (second.messages[0].opaque, second.messages[0].accepted_at) == ("msg:é", 1795000000.25)
    first.close()
    second.close()


def test_a_line_cut_off_by_a_kill_is_dropped_and_the_next_one_stands_alone(tmp_path):
    path = tmp_path / "log"
    first = Ledger(path)
    first.add(message(1))
    first.close()
    path.write_bytes(path.read_bytes() + b'{"wamid":"wamid.2","to":"4477')

    second = Ledger(path)
    second.add(message(2))
    second.close()

    assert [json.loads(line)["wamid"] for line in path.read_text().splitlines()] == ["wamid.1", "wamid.2"]
    third = Ledger(path)
    assert third.summary()["accepted"] == 2
    third.close()


def test_what_was_reset_stays_forgotten(tmp_path):
    first = Ledger(tmp_path / "log")
    first.add(message(1))
    first.clear()
    first.add(message(1, to="447700900002"))
    first.close()

    second = Ledger(tmp_path / "log")
    assert [each.to for each in second.messages] == ["447700900002"]
    second.close()


def test_what_was_not_told_before_a_restart_is_told_after_it(tmp_path, receiver):
    with Simulator(speed=0.001, log=tmp_path / "log") as meta:
        meta.subscribe(receiver.url, VERIFY_TOKEN)
        client = Client(meta, "sim-access-token")
        client.send("+44 7700 900060", opaque="msg:1")
        client.session.close()
    assert receiver.posts == []

    with Simulator(speed=100, concurrency=1, log=tmp_path / "log") as meta:
        assert meta.wait_idle()
        assert [each["status"] for each in receiver.statuses()] == ["sent", "delivered", "read"]
        assert {each["biz_opaque_callback_data"] for each in receiver.statuses()} == {"msg:1"}
    with Simulator(speed=100, log=tmp_path / "log") as meta:
        assert meta.wait_idle()
        assert meta.summary()["statuses"] == {"sent": 1, "delivered": 1, "read": 1}
    assert len(receiver.statuses()) == 3


def test_a_status_that_nobody_took_is_told_after_a_restart(tmp_path, receiver):
    receiver.answers = [500]
    with Simulator(speed=100, retry_gaps=[60], log=tmp_path / "log") as meta:
        meta.subscribe(receiver.url, VERIFY_TOKEN)
        client = Client(meta, "sim-access-token")
        client.send("+44 7700 900026")
        client.session.close()
        assert not meta.wait_idle(0.2)

    with Simulator(speed=100, log=tmp_path / "log") as meta:
        assert meta.wait_idle()

    assert [each["status"] for each in receiver.statuses()] == ["failed", "failed"]


def test_a_simulator_goes_on_where_the_last_one_was(tmp_path):
    for expected in (1, 2):
        with Simulator(speed=100, log=tmp_path / "log") as meta:
            client = Client(meta, "sim-access-token")
            client.send("+44 7700 900001")
            client.session.close()
            assert meta.summary()["accepted"] == expected
    with Simulator(log=tmp_path / "log") as meta:
        assert meta.summary()["twice"] == 1
        assert meta.recipients()[0]["accepted"] == 2
