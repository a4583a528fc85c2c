"""/simulator: what it received, and making it do things."""

from __future__ import annotations

import pytest
import requests

from tests.simulator.conftest import template_message

UK = "+44 7700 9000"


def test_the_summary_counts_messages_people_and_who_got_a_template_twice(client, meta):
    for ending in ("01", "01", "02", "60"):
        client.send(UK + ending)
    client.send(UK + "02", "order_update", "Asha", "A-1")
    client.send(UK + "02", "order_update", "Asha", "A-1", language="hi")
    client.send(UK + "03", "no_such_template")
    client.send(UK + "79")

    assert meta.wait_idle()
    summary = meta.summary()
    assert (summary["accepted"], summary["recipients"], summary["twice"]) == (7, 4, 1)
    assert summary["byTemplate"] == {
        "autumn_sale": {"accepted": 5, "recipients": 4, "twice": 1},
        "order_update": {"accepted": 2, "recipients": 1, "twice": 0},
    }
    assert summary["refused"] == {"132001": 1}
    assert summary["unanswered"] == 1
    assert summary["callbacks"]["pending"] == 0


def test_the_same_template_from_another_number_is_not_twice(client, meta):
    body = template_message(UK + "01", "autumn_sale", "Asha", "today")
    client.post(body)
    client.post(body, phone_id="200000000000002")

    assert meta.summary()["twice"] == 0
    assert meta.summary()["recipients"] == 1


def test_one_person_dialed_in_two_ways_is_one_recipient(client, meta):
    client.send("+52 55 5555 0161")
    client.send("+52 1 55 5555 0161")

    assert (meta.summary()["recipients"], meta.summary()["twice"]) == (1, 1)


def test_messages_are_paged_and_filtered(client, meta):
    for ending in ("01", "02", "03", "01"):
        client.send(UK + ending)
    client.send(UK + "01", "season_greetings")

    first = meta.call("GET", "/messages", limit=3)
    second = meta.call("GET", "/messages", limit=3, after=first["next"])

    assert [message["number"] for message in first["data"] + second["data"]] == [1, 2, 3, 4, 5]
    assert (first["next"], second["next"], first["total"]) == (3, None, 5)
    assert [message["number"] for message in meta.messages(to="+44 7700 900001")] == [1, 4, 5]
    assert [message["number"] for message in meta.messages(to="447700900001", template="autumn_sale")] == [1, 4]
    assert meta.messages(to="447700900099") == []


def test_recipients_are_counted_most_recent_first(client, meta):
    for ending in ("60", "61", "60"):
        client.send(UK + ending)
    meta.inbound(UK + "60", "hi", name="Asha")

    assert meta.wait_idle()
    first, second = meta.recipients()
    assert (first["waId"], first["accepted"], first["wrote"], first["name"]) == ("447700900060", 2, 1, "Asha")
    assert first["statuses"] == {"sent": 2, "delivered": 2, "read": 2}
    assert first["templates"] == {"autumn_sale": 2}
    assert (second["waId"], second["statuses"]) == ("447700900061", {"sent": 1, "delivered": 1})
    assert [person["waId"] for person in meta.recipients(wa_id="447700900061")] == ["447700900061"]
    assert [person["waId"] for person in meta.call("GET", "/recipients", limit=1, after=1)["data"]] == ["447700900061"]


def test_recent_requests_tell_method_path_and_outcome(client, meta):
    client.send(UK + "01")
    client.send(UK + "56")
    client.call("GET", "1")

    assert [(each["method"], each["path"], each["outcome"], each["to"]) for each in meta.requests()] == [
        ("GET", "/v25.0/1", "400 · 100", ""),
        ("POST", "/v25.0/200000000000001/messages", "400 · 131056", "447700900056"),
        ("POST", "/v25.0/200000000000001/messages", "200", "447700900001"),
    ]


def test_reset_begins_anew_and_keeps_the_subscription(client, meta, subscribed):
    client.send(UK + "56")
    client.send(UK + "56")
    meta.settings(duplicate=1)
    meta.template("autumn_sale", "en_US", status="DISABLED")
    assert meta.wait_idle()

    meta.reset()

    summary = meta.summary()
    assert (summary["accepted"], summary["recipients"], summary["refused"], summary["statuses"]) == (0, 0, {}, {})
    assert meta.messages() == []
    assert meta.settings()["duplicate"] == 0
    assert meta.settings()["speed"] == 100
    assert client.send(UK + "62").status_code == 200
    assert meta.wait_idle()
    assert subscribed.statuses()[-1]["status"] == "sent"


def test_idle_tells_whether_something_is_still_to_come(client, meta):
    meta.settings(speed=0.001)
    client.send(UK + "60")

    assert meta.call("GET", "/idle") == {"idle": False, "due": 3, "pending": 0}
    assert meta.wait_idle(0.05) is False
    meta.reset()
    assert meta.call("GET", "/idle") == {"idle": True, "due": 0, "pending": 0}


def test_health_and_identity(meta):
    assert meta.call("GET", "/health")["ok"] is True
    identity = meta.call("GET", "/identity")
    assert identity["wabaId"] == "300000000000001"
    assert identity["cards"][0] == {"ending": "26", "title": "accepted, then failed 131026: not on WhatsApp"}


def test_the_page_is_self_contained(meta):
    page = requests.get(meta.control, timeout=5)

    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "prefers-color-scheme: dark" in page.text
    assert "<script src" not in page.text
    assert "https://" not in page.text


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        ("/inbound", {"from": "nobody", "text": "hi"}, "'nobody' is no phone number with its country code."),
        (
            "/inbound",
            {"from": "447700900001"},
            "Say what the person writes: text, button, or message with a whole message object.",
        ),
        (
            "/inbound",
            {"from": "447700900001", "text": "hi", "phoneNumberId": "1"},
            "There is no phone number 1; there are 200000000000001, 200000000000002.",
        ),
        ("/preferences", {"waId": "447700900001", "value": "maybe"}, "value is stop or resume."),
        ("/template", {"name": "nothing", "language": "en_US"}, "There is no template nothing in en_US."),
        (
            "/template",
            {"name": "autumn_sale", "language": "en_US", "category": "NEWS"},
            "category is one of MARKETING, UTILITY, AUTHENTICATION.",
        ),
        (
            "/template",
            {"name": "autumn_sale", "language": "en_US", "components": [1]},
            "components are written as Meta lists them: a list of objects, each with a type.",
        ),
        ("/event", {"field": "account_update"}, 'An event reads like {"field": "account_update", "value": {…}}.'),
        ("/settings", {"duplicate": 2}, "duplicate: a share between 0 and 1."),
        ("/settings", [1], "The body is not a JSON object."),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(meta, path, body, sentence):
    with pytest.raises(ValueError) as refused:  # noqa: PT011  the sentence is compared whole
        meta.call("POST", path, body)

    assert str(refused.value) == sentence


def test_a_listing_of_nobody_is_refused_in_a_sentence(meta):
    with pytest.raises(ValueError, match="'nobody' is no phone number"):
        meta.messages(to="nobody")


def test_a_control_body_that_is_not_json_is_refused(meta):
    answer = requests.post(f"{meta.control}/settings", data="{", timeout=5)

    assert (answer.status_code, answer.json()) == (400, {"error": "The body is not JSON."})


def test_forced_errors_meet_the_next_messages_only(client, meta):
    meta.settings(force={"error": {"code": 131042}, "count": 2})

    codes = [client.send(UK + "01").json().get("error", {}).get("code") for _ in range(3)]

    assert codes == [131042, 131042, None]
    assert meta.settings()["force"] == []
    assert meta.summary()["refused"] == {"131042": 2}


def test_a_forced_status_answers_html(client, meta):
    meta.settings(force={"status": 503, "count": 1})

    answer = client.send(UK + "01")

    assert (answer.status_code, answer.headers["Content-Type"]) == (503, "text/html; charset=utf-8")
    assert client.send(UK + "01").status_code == 200
    assert meta.summary()["refused"] == {"HTTP 503": 1}


def test_a_forced_token_error_has_its_subcode_and_meets_every_call(client, meta):
    meta.settings(force={"error": {"code": 190, "subcode": 463}, "on": "all"})

    for answer in (client.send(UK + "01"), client.call("GET", "300000000000001")):
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["error_subcode"]) == (401, 190, 463)
    meta.settings(force=None)
    assert client.send(UK + "01").status_code == 200


def test_a_forced_failure_comes_in_the_callback(client, meta, subscribed):
    meta.settings(force={"callback": {"code": 131042}, "template": "autumn_sale"})

    assert client.send(UK + "60").status_code == 200
    assert client.send(UK + "60", "season_greetings").status_code == 200

    assert meta.wait_idle()
    failed = [status for status in subscribed.statuses() if status["status"] == "failed"]
    assert [status["errors"][0]["code"] for status in failed] == [131042]
    assert meta.summary()["statuses"] == {"failed": 1, "sent": 1, "delivered": 1, "read": 1}


def test_a_forced_fault_can_meet_an_ending_only(client, meta):
    meta.settings(force=[{"fault": "withoutId", "to": "002"}, {"fault": "tooMany", "to": "003"}])

    assert "id" in client.send(UK + "01").json()["messages"][0]
    assert "id" not in client.send(UK + "02").json()["messages"][0]
    assert client.send(UK + "03").status_code == 429
    assert meta.summary()["accepted"] == 2


@pytest.mark.parametrize("fault", ["reset", "acceptedReset"])
def test_a_forced_reset_breaks_the_connection(client, meta, fault):
    meta.settings(force={"fault": fault, "count": 1})

    with pytest.raises(requests.ConnectionError):
        client.send(UK + "01")

    assert meta.summary()["accepted"] == (fault == "acceptedReset")


def test_a_share_of_faults_meets_a_share_of_messages(client, meta):
    meta.settings(force={"status": 500, "share": 0.5})

    statuses = [client.send(UK + "01").status_code for _ in range(60)]

    assert 10 < statuses.count(500) < 50


def test_latency_delays_the_answer_but_not_for_ever(client, meta):
    meta.settings(latency=0.15)

    assert client.send(UK + "01").elapsed.total_seconds() >= 0.15
