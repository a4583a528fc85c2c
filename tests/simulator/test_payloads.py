from __future__ import annotations

import json
from random import Random

from kaanha.simulator.payloads import Event, encode, envelope, new_wamid, signature

VECTOR = (
    rb'{"object":"whatsapp_business_account","entry":[{"id":"900100200300401","changes":[{"value":'
    rb'{"messaging_product":"whatsapp","note":"Caf\u00e9 \ud83d\ude00 a\/b"},"field":"messages"}]}]}'
)


def test_encoding_gives_the_bytes_of_the_test_vector():
    assert len(VECTOR) == 184
    assert encode(json.loads(VECTOR)) == VECTOR


def test_signature_of_the_test_vector():
    expected = "sha256=ef3ddeb2d7d05d484fd3460ed99d501877c360e4d1fd33ecd05b13c69fdc57ff"

    assert signature("sim_app_secret_0001", VECTOR) == expected


def test_the_same_json_in_other_bytes_has_another_signature():
    raw = json.dumps(json.loads(VECTOR), ensure_ascii=False, separators=(",", ":")).encode()

    assert signature("sim_app_secret_0001", raw).startswith("sha256=1acf89f0")
    assert signature("sim_app_secret_0001", json.dumps(json.loads(VECTOR)).encode()).startswith("sha256=2f7f7f3b")


def test_every_event_is_in_the_envelope_once_however_it_is_spread():
    phones = (("15555550100", "1"), ("15555550101", "2"))
    events = [Event("u", "messages", "statuses", {"id": number}, phones[number // 7 % 2]) for number in range(100)]
    layouts = set()

    for seed in range(30):
        body = envelope("3", events, Random(seed))
        values = [change["value"] for entry in body["entry"] for change in entry["changes"]]
        assert [status["id"] for value in values for status in value["statuses"]] == list(range(100))
        for value in values:
            where = phones[value["statuses"][0]["id"] // 7 % 2]
            assert value["metadata"] == {"display_phone_number": where[0], "phone_number_id": where[1]}
        layouts.add((len(body["entry"]) > 1, len(values)))

    assert {several for several, _ in layouts} == {True, False}
    assert len(layouts) > 2


def test_time_stands_on_account_events_only():
    account = Event("u", "account_update", None, {"event": "ACCOUNT_DELETED"}, at=1795000000)
    status = Event("u", "messages", "statuses", {"id": 1}, ("15555550100", "1"))

    for seed in range(10):
        entries = envelope("3", [status, account, status], Random(seed))["entry"]
        assert [entry.get("time") for entry in entries] == [None, 1795000000, None]
        assert entries[1]["changes"] == [{"value": {"event": "ACCOUNT_DELETED"}, "field": "account_update"}]


def test_message_ids_are_unique_text():
    ids = {new_wamid("447700900001") for _ in range(1000)}

    assert len(ids) == 1000
    assert all(each.startswith("wamid.HBgM") and len(each) < 256 for each in ids)
