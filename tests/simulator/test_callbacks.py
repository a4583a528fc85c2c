"""What the callback URL gets: shapes, signatures, batches, repeats, and all that Meta does not promise."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections import Counter

import pytest

from kaanha.simulator import Simulator
from tests.simulator.conftest import VERIFY_TOKEN, Client, serving, template_message

READS_FAST = "+44 7700 900060"
UNDELIVERABLE = "+44 7700 900026"


def test_statuses_of_a_read_message_are_shaped_as_metas(client, meta, subscribed):
    before = int(time.time())
    wamid = client.send(READS_FAST, opaque="msg:01JD8Z7Q").json()["messages"][0]["id"]

    assert meta.wait_idle()
    sent, delivered, read = subscribed.statuses()
    assert before <= int(sent.pop("timestamp")) <= int(time.time())
    assert sent == {
        "id": wamid,
        "status": "sent",
        "recipient_id": "447700900060",
        "recipient_user_id": "GB.1000000447700900060",
        "biz_opaque_callback_data": "msg:01JD8Z7Q",
        "pricing": {"billable": True, "pricing_model": "PMP", "type": "regular", "category": "marketing"},
    }
    assert (delivered["status"], delivered["pricing"]) == ("delivered", sent["pricing"])
    assert read["status"] == "read"
    assert "pricing" not in read
    assert isinstance(read["timestamp"], str)


def test_pricing_stands_on_read_where_delivered_is_skipped(client, meta, subscribed):
    client.send("+44 7700 900063")

    assert meta.wait_idle()
    assert [(status["status"], "pricing" in status) for status in subscribed.statuses()] == [
        ("sent", True),
        ("read", True),
    ]


def test_a_failure_carries_its_error_and_no_price(client, meta, subscribed):
    client.send("+44 7700 900049", opaque="msg:2")

    assert meta.wait_idle()
    [failed] = subscribed.statuses()
    assert (failed["status"], failed["biz_opaque_callback_data"]) == ("failed", "msg:2")
    assert "pricing" not in failed
    text = "This message was not delivered to maintain healthy ecosystem engagement."
    assert failed["errors"] == [
        {
            "code": 131049,
            "title": text,
            "message": text,
            "error_data": {
                "details": "In order to maintain a healthy ecosystem engagement, the message failed to be delivered."
            },
            "href": "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/",
        }
    ]


def test_the_envelope_names_account_number_and_contacts(client, meta, subscribed):
    client.send("+44 7700 900062")

    assert meta.wait_idle()
    [body] = subscribed.bodies
    assert body["object"] == "whatsapp_business_account"
    [entry] = body["entry"]
    assert set(entry) == {"id", "changes"}
    assert entry["id"] == "300000000000001"
    value = entry["changes"][0]["value"]
    assert value["messaging_product"] == "whatsapp"
    assert value["metadata"] == {"display_phone_number": "15555550100", "phone_number_id": "200000000000001"}
    [contact] = value["contacts"]
    assert contact == {
        "profile": {"name": contact["profile"]["name"]},
        "wa_id": "447700900062",
        "user_id": "GB.1000000447700900062",
    }


def test_bodies_are_escaped_ascii_signed_byte_by_byte(meta, subscribed):
    meta.inbound("447700900001", "Café 😀 a/b", name="Zoë")

    assert meta.wait_idle()
    [(headers, raw)] = subscribed.posts
    assert raw.isascii()
    assert rb'"body":"Caf\u00e9 \ud83d\ude00 a\/b"' in raw
    assert rb'"name":"Zo\u00eb"' in raw
    digest = hmac.new(b"sim_app_secret_0001", raw, hashlib.sha256).hexdigest()
    assert headers["X-Hub-Signature-256"] == f"sha256={digest}"
    assert headers["Content-Type"] == "application/json"


def test_another_app_secret_signs(receiver):
    with Simulator(speed=100, app_secret="another") as meta:
        meta.subscribe(receiver.url, VERIFY_TOKEN)
        meta.inbound("447700900001", "hi")
        assert meta.wait_idle()

    [(headers, raw)] = receiver.posts
    assert headers["X-Hub-Signature-256"] == "sha256=" + hmac.new(b"another", raw, hashlib.sha256).hexdigest()


def test_the_handshake_asks_as_meta_does(meta, receiver):
    meta.subscribe(receiver.url, VERIFY_TOKEN)

    [query] = receiver.handshakes
    assert query["hub.mode"] == ["subscribe"]
    assert query["hub.verify_token"] == [VERIFY_TOKEN]
    assert query["hub.challenge"][0].isdigit()


def test_a_failed_handshake_says_what_went_wrong(meta, receiver):
    with pytest.raises(ValueError, match=r"with HTTP 403 instead of 200\. The verify token may differ\."):
        meta.subscribe(receiver.url, "wrong")
    receiver.wrong_challenge = '"12345"'
    with pytest.raises(ValueError, match="instead of the bare challenge"):
        meta.subscribe(receiver.url, VERIFY_TOKEN)
    with pytest.raises(ValueError, match=r"http://127\.0\.0\.1:9/hook could not be reached"):
        meta.subscribe("http://127.0.0.1:9/hook", VERIFY_TOKEN)
    with pytest.raises(ValueError, match="callbackUrl is missing"):
        meta.subscribe("", VERIFY_TOKEN)


def test_nothing_is_told_without_a_subscription(client, meta, receiver):
    meta.subscribe(receiver.url, VERIFY_TOKEN)
    assert client.call("DELETE", "300000000000001/subscribed_apps").json() == {"success": True}

    client.send(READS_FAST)

    assert meta.wait_idle()
    assert receiver.posts == []
    assert meta.summary()["callbacks"]["unsubscribed"] == 3
    assert meta.summary()["statuses"] == {"sent": 1, "delivered": 1, "read": 1}


def test_a_subscription_can_be_ended(client, meta, subscribed):
    meta.unsubscribe()

    client.send(READS_FAST)

    assert meta.wait_idle()
    assert subscribed.posts == []
    assert client.call("GET", "300000000000001/subscribed_apps").json() == {"data": []}


@pytest.mark.parametrize("status", [500, 404, 202, 204, 301])
def test_anything_but_200_is_posted_again_byte_by_byte(client, meta, subscribed, status):
    meta.settings(retry_gaps=[0.01])
    subscribed.answers = [status, status]

    client.send(UNDELIVERABLE)

    assert meta.wait_idle()
    assert len(subscribed.posts) == 3
    assert len({raw for _, raw in subscribed.posts}) == 1
    counts = meta.summary()["callbacks"]
    assert (counts["posted"], counts["ok"], counts["failed"], counts["pending"]) == (3, 1, 2, 0)
    assert counts["lastError"] == f"HTTP {status}"


def test_a_callback_url_that_is_down_is_tried_until_it_is_up(client, meta):
    meta.settings(retry_gaps=[0.02])
    with serving(0) as receiver:
        port = receiver.server_port
        meta.subscribe(receiver.url, VERIFY_TOKEN)

    client.send(UNDELIVERABLE)
    assert not meta.wait_idle(0.2)
    assert meta.summary()["callbacks"]["failed"] > 1
    with serving(port) as back:
        assert meta.wait_idle()

    assert [status["status"] for status in back.statuses()] == ["failed"]
    assert meta.summary()["callbacks"]["ok"] == 1


def test_callbacks_are_given_up_in_the_end(client, meta, subscribed):
    meta.settings(retry_gaps=[0.01], retry_for=0.05)
    subscribed.answers = [500] * 1000

    client.send(UNDELIVERABLE)

    assert meta.wait_idle()
    assert meta.summary()["callbacks"]["givenUp"] == 1
    assert meta.summary()["callbacks"]["ok"] == 0


def send_many(client, count, ending="60"):
    for number in range(count):
        assert client.send(f"+44 7700 9{number:03d}{ending}").status_code == 200


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_callbacks_hold_no_more_events_than_the_batch(client, meta, subscribed, batch):
    meta.settings(batch=batch, delays={"sent": 1, "delivered": 0, "read": 0}, speed=4, concurrency=1)
    send_many(client, 20)

    assert meta.wait_idle()
    sizes = [
        sum(len(change["value"]["statuses"]) for entry in body["entry"] for change in entry["changes"])
        for body in subscribed.bodies
    ]
    assert sum(sizes) == 60
    assert max(sizes) <= batch
    assert (max(sizes) > 1) == (batch > 1)
    assert meta.summary()["callbacks"]["events"] == 60


def test_every_event_comes_twice_when_duplicated(client, meta, subscribed):
    meta.settings(duplicate=1)
    send_many(client, 5)

    assert meta.wait_idle()
    seen = Counter((status["id"], status["status"]) for status in subscribed.statuses())
    assert len(seen) == 15
    assert set(seen.values()) == {2}
    assert meta.summary()["statuses"] == {"sent": 5, "delivered": 5, "read": 5}
    assert meta.summary()["callbacks"]["duplicated"] == 15


def test_dropped_events_never_come_but_have_happened(client, meta, subscribed):
    meta.settings(drop=1)
    send_many(client, 5)

    assert meta.wait_idle()
    assert subscribed.posts == []
    assert meta.summary()["callbacks"]["dropped"] == 15
    assert meta.summary()["statuses"]["read"] == 5


def test_reordered_statuses_keep_their_timestamps(client, meta, subscribed):
    meta.settings(reorder=1, delays={"sent": 0, "delivered": 60, "read": 60})
    send_many(client, 8)

    assert meta.wait_idle()
    orders = set()
    for message in meta.messages():
        mine = [status for status in subscribed.statuses() if status["id"] == message["wamid"]]
        at = {status["status"]: int(status["timestamp"]) for status in mine}
        assert set(at) == {"sent", "delivered", "read"}
        assert at["sent"] <= at["delivered"] <= at["read"]
        orders.add(tuple(status["status"] for status in mine))
    assert len(orders) > 1


def test_the_sent_status_can_come_before_the_answer(client, meta, subscribed):
    meta.settings(early=1, speed=1, delays={"sent": 2, "delivered": 0.1, "read": 0.1})

    wamid = client.send("+44 7700 900062").json()["messages"][0]["id"]

    assert [(status["id"], status["status"]) for status in subscribed.statuses()] == [(wamid, "sent")]


def test_a_failed_status_may_lack_its_errors(client, meta, subscribed):
    meta.settings(missing_errors=1)
    client.send(UNDELIVERABLE)

    assert meta.wait_idle()
    [failed] = subscribed.statuses()
    assert failed["status"] == "failed"
    assert "errors" not in failed


def test_statuses_up_to_v23_carry_a_conversation(client, meta, subscribed):
    meta.settings(callback_version="v23.0")
    client.send("+44 7700 900061")

    assert meta.wait_idle()
    sent, delivered = (status["conversation"] for status in subscribed.statuses())
    assert sent["origin"] == {"type": "marketing"}
    assert isinstance(sent["expiration_timestamp"], str)
    assert delivered == {"id": sent["id"], "origin": {"type": "marketing"}}


def test_undocumented_fields_can_be_mixed_in(client, meta, subscribed):
    meta.settings(oddities=1)
    client.send("+44 7700 900062")

    assert meta.wait_idle()
    assert "sample_undocumented_field" in subscribed.statuses()[0]


def test_an_override_of_the_account_wins_over_the_app_and_one_of_the_number_over_both(client, meta, subscribed):
    account = {"override_callback_uri": subscribed.url + "/account", "verify_token": VERIFY_TOKEN}
    number = {"override_callback_uri": subscribed.url + "/number", "verify_token": VERIFY_TOKEN}
    assert client.call("POST", "300000000000001/subscribed_apps", json=account).json() == {"success": True}
    assert client.call("POST", "200000000000002", json={"webhook_configuration": number}).json() == {"success": True}
    listed = client.call("GET", "300000000000001/subscribed_apps").json()["data"]
    assert listed[0]["override_callback_uri"] == subscribed.url + "/account"
    assert len(subscribed.handshakes) == 3

    body = template_message("+44 7700 900062", "autumn_sale", "Asha", "today")
    client.post(body)
    client.post(body, phone_id="200000000000002")

    assert meta.wait_idle()
    assert {status["status"] for status in subscribed.statuses()} == {"sent"}
    assert len(subscribed.posts) == 2


def test_an_override_with_a_wrong_verify_token_is_refused_and_changes_nothing(client, subscribed):
    override = {"override_callback_uri": subscribed.url, "verify_token": "wrong"}

    answer = client.call("POST", "300000000000001/subscribed_apps", json=override)

    assert client.error(answer)[:2] == (400, 100)
    assert answer.json()["error"]["error_subcode"] == 2200
    assert "override_callback_uri" not in client.call("GET", "300000000000001/subscribed_apps").json()["data"][0]


def test_inbound_of_every_kind_can_be_made(meta, subscribed):
    wamid = meta.inbound("+44 7700 900001", "hi", name="Asha")
    meta.inbound("447700900001", button={"payload": "p", "text": "Yes"}, quote="wamid.OUT")
    reaction = {"type": "reaction", "reaction": {"message_id": "wamid.OUT", "emoji": "😮"}}
    meta.inbound("447700900001", message=reaction, phone_number_id="200000000000002")

    assert meta.wait_idle()
    text, button, reacted = subscribed.inbound()
    assert (text["id"], text["from"], text["type"], text["text"]) == (wamid, "447700900001", "text", {"body": "hi"})
    assert isinstance(text["timestamp"], str)
    assert (button["button"], button["context"]) == (
        {"payload": "p", "text": "Yes"},
        {"from": "15555550100", "id": "wamid.OUT"},
    )
    assert reacted["reaction"] == {"message_id": "wamid.OUT", "emoji": "😮"}
    values = subscribed.changes("messages")
    assert values[0]["contacts"] == [
        {"profile": {"name": "Asha"}, "wa_id": "447700900001", "user_id": "GB.1000000447700900001"}
    ]
    assert values[-1]["metadata"]["phone_number_id"] == "200000000000002"


def test_a_person_with_a_username_writes_without_showing_a_number(meta, subscribed):
    meta.inbound("447700900001", "hi", name="Asha", without_number=True)

    assert meta.wait_idle()
    [(_, raw)] = subscribed.posts
    [message] = subscribed.inbound()
    assert message["from_user_id"] == "GB.1000000447700900001"
    assert "from" not in message
    profile = {"name": "Asha", "username": "sample.0001"}
    assert subscribed.changes("messages")[0]["contacts"] == [{"profile": profile, "user_id": "GB.1000000447700900001"}]
    assert b'"447700900001"' not in raw


def test_statuses_of_a_message_to_a_user_id_show_no_number(client, meta, subscribed):
    body = template_message("", "autumn_sale", "Asha", "today") | {"recipient": "GB.1000000447700900060"}
    del body["to"]
    client.post(body)

    assert meta.wait_idle()
    assert [status["status"] for status in subscribed.statuses()] == ["sent", "delivered", "read"]
    assert {status["recipient_user_id"] for status in subscribed.statuses()} == {"GB.1000000447700900060"}
    assert not any("recipient_id" in status for status in subscribed.statuses())


def test_any_other_event_can_be_sent(meta, subscribed):
    value = {"event": "ACCOUNT_RESTRICTION", "restriction_info": [{"restriction_type": "RESTRICTED_UTILITY_TEMPLATES"}]}

    meta.event("account_update", value)

    assert meta.wait_idle()
    [entry] = subscribed.bodies[0]["entry"]
    assert isinstance(entry["time"], int)
    assert entry["changes"] == [{"value": value, "field": "account_update"}]


def test_callbacks_at_start_need_a_handshake(receiver):
    with Simulator(speed=100, callback_url=receiver.url, verify_token=VERIFY_TOKEN) as meta:
        meta.inbound("447700900001", "hi")
        assert meta.wait_idle()

    assert [json.loads(raw)["object"] for _, raw in receiver.posts] == ["whatsapp_business_account"]


def test_two_simulators_know_nothing_of_each_other(client, meta):
    with Simulator(speed=100) as other:
        client.send(READS_FAST)

        assert other.port != meta.port
        assert other.summary()["accepted"] == 0
        second = Client(other, "sim-access-token")
        second.send(READS_FAST)
        second.session.close()
        assert (other.summary()["accepted"], meta.summary()["accepted"]) == (1, 1)
