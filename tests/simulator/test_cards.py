"""The test cards: what the last two digits of a recipient do."""

from __future__ import annotations

import pytest
import requests

import kaanha.simulator
from kaanha.simulator.outcomes import CARDS, PLANS, profile_of

UK = "+44 7700 9000"


def told(receiver, wamid):
    """The statuses of one message, in the order in which they came, with the code of a failure."""
    return [
        (status["status"], status["errors"][0]["code"]) if "errors" in status else status["status"]
        for status in receiver.statuses()
        if status["id"] == wamid
    ]


def accepted(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["messages"][0]["id"]


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        ("26", [("failed", 131026)]),
        ("31", ["sent", ("failed", 131000)]),
        ("49", [("failed", 131049)]),
        ("50", [("failed", 131050)]),
        ("60", ["sent", "delivered", "read"]),
        ("61", ["sent", "delivered"]),
        ("62", ["sent"]),
        ("63", ["sent", "read"]),
        ("64", [("failed", 131026), "delivered"]),
        ("65", ["sent", "delivered", "read"]),
        ("72", [("failed", 130472)]),
        ("90", []),
    ],
)
def test_a_marketing_message_ends_as_the_card_says(client, meta, subscribed, ending, expected):
    wamid = accepted(client.send(UK + ending))

    assert meta.wait_idle()
    assert told(subscribed, wamid) == expected


@pytest.mark.parametrize("ending", ["49", "50", "72"])
def test_marketing_cards_leave_utility_alone(client, meta, subscribed, ending):
    wamid = accepted(client.send(UK + ending, "order_update", "Asha", "A-1"))

    assert meta.wait_idle()
    assert told(subscribed, wamid) == ["sent", "delivered"]


@pytest.mark.parametrize("number", ["+49 30 23125 026", "+33 6 39 98 00 26", "+91 55555 55526", "+1 555 555 0126"])
def test_cards_are_the_same_in_every_country(client, meta, subscribed, number):
    wamid = accepted(client.send(number))

    assert meta.wait_idle()
    assert told(subscribed, wamid) == [("failed", 131026)]


@pytest.mark.parametrize(
    ("ending", "refusals"),
    [
        ("29", [(429, 130429)]),
        ("56", [(400, 131056)]),
        ("70", [(500, 131000), (500, 131000)]),
        ("73", [(503, 133004), (503, 133004)]),
    ],
)
def test_a_refusing_card_refuses_each_message_anew_and_then_works(client, meta, ending, refusals):
    for number in (1, 2):
        assert [client.error(client.send(UK + ending))[:2] for _ in refusals] == refusals
        accepted(client.send(UK + ending))
        assert meta.summary()["accepted"] == number

    code = str(refusals[0][1])
    assert meta.summary()["refused"] == {code: 2 * len(refusals)}
    assert meta.summary()["unanswered"] == 0


def test_a_refusing_card_counts_for_each_business_number(client):
    assert client.send(UK + "56").status_code == 400
    body = client.send(UK + "56").request.body

    other = client.call("POST", "200000000000002/messages", data=body, headers={"Content-Type": "application/json"})

    assert other.status_code == 400


def test_html_500_that_accepts_nothing_comes_once(client, meta):
    answer = client.send(UK + "74")

    assert (answer.status_code, answer.headers["Content-Type"]) == (500, "text/html; charset=utf-8")
    assert meta.summary()["accepted"] == 0
    assert client.send(UK + "74").status_code == 200


def test_html_500_that_accepts_delivers(client, meta, subscribed):
    answer = client.send(UK + "75")

    assert (answer.status_code, answer.headers["Content-Type"]) == (500, "text/html; charset=utf-8")
    assert meta.wait_idle()
    assert [status["status"] for status in subscribed.statuses()] == ["sent", "delivered"]
    assert meta.summary()["unanswered"] == 1


def test_a_reset_before_accepting_leaves_nothing_and_then_works(client, meta):
    with pytest.raises(requests.ConnectionError):
        client.send(UK + "76")

    assert meta.summary()["accepted"] == 0
    assert meta.summary()["refused"] == {"reset": 1}
    assert client.send(UK + "76").status_code == 200


def test_a_reset_after_accepting_delivers(client, meta):
    with pytest.raises(requests.ConnectionError):
        client.send(UK + "77")

    assert meta.wait_idle()
    assert (meta.summary()["accepted"], meta.summary()["unanswered"]) == (1, 1)
    assert [each["status"] for each in meta.messages()[0]["statuses"]] == ["sent", "delivered"]


def test_hanging_lets_the_client_give_up_and_delivers(client, meta):
    with pytest.raises(requests.ReadTimeout):
        client.session.post(
            f"{meta.url}/200000000000001/messages",
            json={
                "messaging_product": "whatsapp",
                "to": UK + "78",
                "type": "template",
                "template": {"name": "season_greetings", "language": {"code": "en_US"}},
            },
            timeout=0.3,
        )

    assert meta.wait_idle()
    assert (meta.summary()["accepted"], meta.summary()["unanswered"]) == (1, 1)
    assert meta.messages()[0]["statuses"][-1]["status"] == "delivered"


def test_a_cut_answer_is_200_with_half_of_the_json(client, meta):
    answer = client.send(UK + "79")

    assert answer.status_code == 200
    with pytest.raises(requests.JSONDecodeError):
        answer.json()
    assert (meta.summary()["accepted"], meta.summary()["unanswered"]) == (1, 1)


def test_an_answer_without_message_id(client, meta):
    assert client.send(UK + "71").json()["messages"] == [{"message_status": "accepted"}]
    assert meta.summary()["accepted"] == 1


@pytest.mark.parametrize("ending", ["65"])
def test_held_messages_say_so_in_the_answer(client, ending):
    assert client.send(UK + ending).json()["messages"][0]["message_status"] == "held_for_quality_assessment"


def test_stop_is_written_without_quoting(client, meta, subscribed):
    accepted(client.send(UK + "80"))

    assert meta.wait_idle()
    [message] = subscribed.inbound()
    assert (message["from"], message["text"]) == ("447700900080", {"body": "STOP"})
    assert "context" not in message


def test_a_quoting_reply_names_our_message(client, meta, subscribed):
    wamid = accepted(client.send(UK + "81"))

    assert meta.wait_idle()
    [message] = subscribed.inbound()
    assert message["context"] == {"from": "15555550100", "id": wamid}
    assert message["type"] == "text"


def test_a_reply_may_come_without_a_quote(client, meta, subscribed):
    accepted(client.send(UK + "82"))

    assert meta.wait_idle()
    [message] = subscribed.inbound()
    assert "context" not in message


def test_a_tap_brings_the_payload_that_was_sent(client, meta, subscribed):
    payload = [{"type": "payload", "payload": "stop:campaign-77"}]
    header = {"type": "header", "parameters": [{"type": "text", "text": "Asha"}]}
    body = {"type": "body", "parameters": [{"type": "text", "text": "3"}]}
    button = {"type": "button", "sub_type": "quick_reply", "index": "0", "parameters": payload}
    wamid = accepted(client.send(UK + "83", "sale_reminder", components=[header, body, button]))

    assert meta.wait_idle()
    [message] = subscribed.inbound()
    assert (message["type"], message["context"]["id"]) == ("button", wamid)
    assert message["button"] == {"payload": "stop:campaign-77", "text": "Tell me more"}


def test_a_tap_without_a_payload_sent_brings_the_label(client, meta, subscribed):
    header = {"type": "header", "parameters": [{"type": "text", "text": "Asha"}]}
    body = {"type": "body", "parameters": [{"type": "text", "text": "3"}]}
    accepted(client.send(UK + "83", "sale_reminder", components=[header, body]))

    assert meta.wait_idle()
    assert subscribed.inbound()[0]["button"] == {"payload": "Tell me more", "text": "Tell me more"}


def test_where_there_is_no_button_to_tap_the_person_replies_quoting(client, meta, subscribed):
    wamid = accepted(client.send(UK + "83"))

    assert meta.wait_idle()
    [message] = subscribed.inbound()
    assert (message["type"], message["context"]["id"]) == ("text", wamid)


def test_the_person_may_use_whatsapps_own_switch_and_gets_no_marketing_until_they_resume(client, meta, subscribed):
    accepted(client.send(UK + "84"))
    assert meta.wait_idle()

    [preference] = [value["user_preferences"][0] for value in subscribed.changes("user_preferences")]
    assert (preference["wa_id"], preference["value"]) == ("447700900084", "stop")
    assert isinstance(preference["timestamp"], int)
    refused = accepted(client.send(UK + "84"))
    utility = accepted(client.send(UK + "84", "order_update", "Asha", "A-1"))
    assert meta.wait_idle()
    assert told(subscribed, refused) == [("failed", 131050)]
    assert told(subscribed, utility) == ["sent", "delivered", "read"]
    meta.preference("447700900084", "resume")
    again = accepted(client.send(UK + "84"))
    assert meta.wait_idle()
    assert told(subscribed, again) == ["sent", "delivered", "read"]


def test_card_50_ends_when_the_person_resumes(client, meta, subscribed):
    meta.preference("447700900050", "resume")

    wamid = accepted(client.send(UK + "50"))

    assert meta.wait_idle()
    assert told(subscribed, wamid) == ["sent", "delivered"]


def test_card_49_does_not_count_inside_the_window(client, meta, subscribed):
    meta.inbound("447700900049", "hi")

    wamid = accepted(client.send(UK + "49"))

    assert meta.wait_idle()
    assert told(subscribed, wamid) == ["sent", "delivered"]


def test_cards_can_be_switched_off(client, meta, subscribed):
    meta.settings(cards=False, profile={"read": 1})

    assert client.send(UK + "70").status_code == 200
    wamid = accepted(client.send(UK + "26"))

    assert meta.wait_idle()
    assert told(subscribed, wamid) == ["sent", "delivered", "read"]
    assert meta.messages()[0]["card"] is None


def test_ordinary_numbers_follow_the_profile_and_always_the_same_one():
    people = [f"4477009{number:05d}" for number in range(10_000)]
    weights = {"read": 60.0, "delivered": 40.0}

    read = [profile_of(person, seed=1, weights=weights) == "read" for person in people]

    assert 5700 < sum(read) < 6300
    assert read == [profile_of(person, seed=1, weights=weights) == "read" for person in people]
    assert read != [profile_of(person, seed=2, weights=weights) == "read" for person in people]


def test_marketing_to_the_united_states_fails_unless_switched_on(client, meta, subscribed):
    wamid = accepted(client.send("+1 202 555 0101"))
    utility = accepted(client.send("+1 202 555 0161", "order_update", "Asha", "A-1"))
    canada = accepted(client.send("+1 416 555 0161"))
    meta.settings(marketing_to_united_states=True)
    allowed = accepted(client.send("+1 202 555 0161"))

    assert meta.wait_idle()
    assert told(subscribed, wamid) == [("failed", 131049)]
    assert told(subscribed, utility) == told(subscribed, canada) == told(subscribed, allowed) == ["sent", "delivered"]


def test_text_outside_the_window_fails_131047_and_inside_is_delivered(client, meta, subscribed):
    body = {"messaging_product": "whatsapp", "to": UK + "61", "type": "text", "text": {"body": "You are unsubscribed."}}
    outside = accepted(client.post(body))
    meta.inbound("447700900061", "START")
    inside = accepted(client.post(body))

    assert meta.wait_idle()
    assert told(subscribed, outside) == [("failed", 131047)]
    assert told(subscribed, inside) == ["sent", "delivered"]
    pricing = next(status["pricing"] for status in subscribed.statuses() if status["id"] == inside)
    assert pricing == {
        "billable": False,
        "pricing_model": "PMP",
        "type": "free_customer_service",
        "category": "service",
    }


def test_a_media_link_that_cannot_exist_fails_131053(client, meta, subscribed):
    header = {
        "type": "header",
        "parameters": [{"type": "document", "document": {"link": "https://files.invalid/a.pdf"}}],
    }
    body = {"type": "body", "parameters": [{"type": "text", "text": "Asha"}, {"type": "text", "text": "A-1"}]}

    wamid = accepted(client.send(UK + "61", "invoice_ready", components=[header, body]))

    assert meta.wait_idle()
    assert told(subscribed, wamid) == [("failed", 131053)]


def test_the_documentation_lists_exactly_these_cards():
    lines = [line.strip() for line in (kaanha.simulator.__doc__ or "").splitlines()]
    listed = [line for line in lines if line[:2].isdigit()]

    assert listed == [f"{card.ending}  {card.title}" for card in CARDS.values()]
    assert all(card.plan in PLANS for card in CARDS.values())
