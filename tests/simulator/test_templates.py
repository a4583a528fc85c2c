"""Template management: listing, creating, editing, deleting, and Meta's review."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kaanha.simulator import Simulator
from kaanha.simulator.samples import SAMPLES
from tests.simulator.conftest import WABA_ID, Client

LIST = f"{WABA_ID}/message_templates"
TO = "+44 7700 900061"


def walk(client, **query):
    """Every page of a listing."""
    pages, url = [], f"{client.meta.url}/{LIST}"
    while url:
        body = client.session.get(url, params=query, timeout=5).json()
        pages.append(body["data"])
        url, query = body.get("paging", {}).get("next"), {}
    return pages


def test_the_samples_are_there_with_what_the_documentation_promises(client):
    [page] = walk(client, limit=100)

    assert len(page) == len(SAMPLES)
    assert len({template["id"] for template in page}) == len(SAMPLES)
    assert {template["language"] for template in page} == {"en_US", "hi", "es", "ar"}
    assert {template["status"] for template in page} == {"APPROVED", "PENDING", "REJECTED", "PAUSED", "DISABLED"}
    assert {template["category"] for template in page} == {"MARKETING", "UTILITY", "AUTHENTICATION"}
    sale = page[0]
    assert (sale["name"], sale["language"], sale["category"]) == ("autumn_sale", "en_US", "MARKETING")
    assert sale["components"][1] == {"type": "FOOTER", "text": "Reply STOP to opt out"}
    assert isinstance(sale["id"], str)


def test_a_listing_is_walked_in_pages_of_25_or_as_many_as_asked_for(client):
    assert [len(page) for page in walk(client, limit=8)] == [8, 8, 6]
    assert [len(page) for page in walk(client)] == [22]
    seen = [template["id"] for page in walk(client, limit=4) for template in page]
    assert len(seen) == len(set(seen)) == 22


def test_an_empty_page_may_stand_in_the_middle(client, meta):
    meta.settings(empty_page=True)

    sizes = [len(page) for page in walk(client, limit=100)]

    assert sizes == [11, 0, 11]
    assert [len(page) for page in walk(client, limit=100, name="new_arrivals")] == [1]


def test_the_last_page_has_cursors_but_no_next(client):
    paging = client.call("GET", LIST, params={"limit": 100}).json()["paging"]

    assert set(paging) == {"cursors"}
    assert set(paging["cursors"]) == {"before", "after"}


def test_a_cursor_survives_a_deletion(client):
    first = client.call("GET", LIST, params={"limit": 2}).json()
    client.call("DELETE", LIST, params={"name": "new_arrivals"})

    second = client.session.get(first["paging"]["next"], timeout=5).json()

    assert [template["name"] for template in second["data"]] == ["order_update", "autumn_sale_image"]


def test_an_invented_cursor_is_100(client):
    assert client.error(client.call("GET", LIST, params={"after": "invented"}))[:2] == (400, 100)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"name": "autumn"}, ["autumn_sale", "autumn_sale_image", "autumn_sale"]),
        ({"name": "autumn", "language": "es"}, ["autumn_sale"]),
        ({"status": "PAUSED"}, ["flash_deal"]),
        ({"category": "AUTHENTICATION"}, ["login_code"]),
        ({"name": "nothing"}, []),
    ],
)
def test_a_listing_is_filtered(client, query, names):
    assert [template["name"] for template in client.call("GET", LIST, params=query).json()["data"]] == names


def test_fields_choose_what_is_answered(client):
    body = client.call("GET", LIST, params={"fields": "name,quality_score", "name": "new_arrivals"}).json()

    [template] = body["data"]
    assert set(template) == {"id", "name", "quality_score"}
    assert template["quality_score"]["score"] == "GREEN"


def test_a_summary_counts_all_templates(client):
    body = client.call("GET", LIST, params={"summary": "total_count", "limit": 1}).json()

    assert body["summary"]["total_count"] == 22


def test_one_template_is_read_by_its_id(client):
    template_id = client.call("GET", LIST).json()["data"][0]["id"]

    assert client.call("GET", template_id, params={"fields": "name,language"}).json() == {
        "name": "autumn_sale",
        "language": "en_US",
        "id": template_id,
    }


def new(**changes):
    body = {
        "name": "winter_sale",
        "language": "en_US",
        "category": "MARKETING",
        "components": [
            {"type": "header", "format": "TEXT", "text": "For {{1}}", "example": {"header_text": ["Asha"]}},
            {
                "type": "body",
                "text": "Hi {{1}}, our winter sale ends on {{2}}, come soon.",
                "example": {"body_text": [["Asha", "31 January"]]},
            },
            {"type": "footer", "text": "Reply STOP to opt out"},
            {"type": "buttons", "buttons": [{"type": "QUICK_REPLY", "text": "Unsubscribe"}]},
        ],
    }
    return body | changes


def create(client, **changes):
    return client.call("POST", LIST, json=new(**changes))


def test_a_new_template_is_pending_then_approved_with_a_callback(client, meta, subscribed):
    created = create(client).json()

    assert created == {"id": created["id"], "status": "PENDING", "category": "MARKETING"}
    assert client.error(client.send(TO, "winter_sale", "Asha", "today"))[:2] == (404, 132001)
    assert meta.wait_idle()
    [event] = subscribed.changes("message_template_status_update")
    assert event == {
        "event": "APPROVED",
        "message_template_id": int(created["id"]),
        "message_template_name": "winter_sale",
        "message_template_language": "en_US",
        "message_template_category": "MARKETING",
        "reason": "NONE",
    }
    listed = client.call("GET", created["id"]).json()
    assert (listed["status"], listed["components"][0]["type"]) == ("APPROVED", "HEADER")


def test_the_review_can_reject(client, meta, subscribed):
    meta.settings(template_verdict="REJECTED")
    created = create(client).json()

    assert meta.wait_idle()
    [event] = subscribed.changes("message_template_status_update")
    assert (event["event"], event["reason"]) == ("REJECTED", "INVALID_FORMAT")
    assert event["rejection_info"]["recommendation"]
    assert client.call("GET", created["id"], params={"fields": "status,rejected_reason"}).json() == {
        "status": "REJECTED",
        "rejected_reason": "INVALID_FORMAT",
        "id": created["id"],
    }


def test_two_variables_side_by_side_are_rejected_in_review(client, meta):
    body = {"type": "BODY", "text": "Dear {{1}} {{2}}, our sale ends soon.", "example": {"body_text": [["A", "B"]]}}

    created = create(client, components=[body]).json()

    assert meta.wait_idle()
    assert client.call("GET", created["id"]).json()["status"] == "REJECTED"


def test_named_variables_need_named_examples(client):
    body = {
        "type": "BODY",
        "text": "Hello {{first_name}}, we have news.",
        "example": {"body_text_named_params": [{"param_name": "first_name", "example": "Asha"}]},
    }

    assert create(client, components=[body], parameter_format="NAMED").status_code == 200
    assert client.error(create(client, name="other", components=[body]))[0] == 400


def body_of(text, *examples):
    return [{"type": "BODY", "text": text} | ({"example": {"body_text": [list(examples)]}} if examples else {})]


GOOD = body_of("Hello there.")


def with_buttons(*buttons):
    return [*GOOD, {"type": "BUTTONS", "buttons": list(buttons)}]


REPLY = {"type": "QUICK_REPLY", "text": "Yes"}
URL = {"type": "URL", "text": "Shop", "url": "https://shop.example.test/"}


@pytest.mark.parametrize(
    ("changes", "subcode"),
    [
        ({"name": "Winter Sale"}, None),
        ({"name": "x" * 513}, None),
        ({"language": "English"}, None),
        ({"category": "NEWS"}, None),
        ({"components": None}, None),
        ({"components": [{"type": "FOOTER", "text": "x"}]}, 2388042),
        ({"components": [*GOOD, *GOOD]}, 2388042),
        ({"components": body_of("")}, 2388042),
        ({"components": body_of("x" * 1025)}, 2388040),
        ({"components": body_of("Hi\tthere")}, 2388072),
        ({"components": body_of("Hi     there")}, 2388072),
        ({"components": body_of("Hi\n\n\nthere")}, 2388072),
        ({"components": body_of("Hi {{2}} and welcome.", "Asha")}, 2388072),
        ({"components": body_of("{{1}} is welcome here.", "Asha")}, 2388299),
        ({"components": body_of("You are welcome {{1}}", "Asha")}, 2388299),
        ({"components": body_of("A {{1}} b {{2}} c", "Asha", "B")}, 2388293),
        ({"components": body_of("Hi {{1}} and welcome.")}, None),
        ({"components": [*GOOD, {"type": "FOOTER", "text": "x" * 61}]}, 2388040),
        ({"components": [*GOOD, {"type": "FOOTER", "text": "For {{1}} only"}]}, 2388073),
        ({"components": [*GOOD, {"type": "HEADER", "format": "TEXT", "text": "x" * 61}]}, 2388040),
        ({"components": [*GOOD, {"type": "HEADER", "format": "TEXT", "text": "*Sale*"}]}, 2388047),
        ({"components": [*GOOD, {"type": "HEADER", "format": "TEXT", "text": "Sale 😀"}]}, 2388047),
        ({"components": [*GOOD, {"type": "HEADER", "format": "TEXT", "text": "{{1}} and {{2}}"}]}, 2388047),
        ({"components": [*GOOD, {"type": "HEADER", "format": "IMAGE"}]}, 2388273),
        ({"components": [*GOOD, {"type": "HEADER", "format": "SONG"}]}, None),
        ({"components": with_buttons(*[REPLY] * 11)}, None),
        ({"components": with_buttons(URL, URL, URL)}, None),
        ({"components": with_buttons(REPLY, URL, REPLY)}, None),
        ({"components": with_buttons(REPLY | {"text": "x" * 26})}, 2388040),
        ({"components": with_buttons(URL | {"url": "shop.example.test"})}, None),
        ({"components": with_buttons(URL | {"url": "https://wa.me/15555550100"})}, None),
        ({"components": with_buttons(URL | {"url": "https://a.example.test/{{1}}/b", "example": ["x"]})}, None),
        ({"components": with_buttons(URL | {"url": "https://a.example.test/{{1}}"})}, None),
        ({"components": with_buttons({"type": "PHONE_NUMBER", "text": "Call", "phone_number": "1" * 21})}, 2388040),
        ({"category": "AUTHENTICATION"}, 2388042),
        ({"name": "autumn_sale", "components": GOOD}, 2388024),
    ],
)
def test_a_template_that_breaks_a_rule_is_refused(client, changes, subcode):
    answer = create(client, **changes)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error.get("error_subcode")) == (400, 100, subcode)
    assert ("error_user_msg" in error) == (subcode is not None)
    assert client.call("GET", LIST, params={"name": "winter_sale"}).json()["data"] == []


@pytest.mark.parametrize(
    "components",
    [
        GOOD,
        body_of("x" * 1024),
        body_of("Hi {{1}}, welcome to us.", "Asha"),
        with_buttons(REPLY, REPLY, URL, URL),
        with_buttons(URL | {"url": "https://shop.example.test/{{1}}", "example": ["https://shop.example.test/a"]}),
        [*GOOD, {"type": "HEADER", "format": "IMAGE", "example": {"header_handle": ["4::aW1hZ2UvanBlZw=="]}}],
    ],
)
def test_a_template_within_the_rules_is_taken(client, components):
    assert create(client, components=components).status_code == 200


def test_an_authentication_template_has_one_code_button(client):
    otp: dict[str, Any] = {"type": "OTP", "otp_type": "COPY_CODE", "text": "Copy code"}
    parts: list[dict[str, Any]] = [
        {"type": "BODY", "add_security_recommendation": True},
        {"type": "FOOTER", "code_expiration_minutes": 5},
        {"type": "BUTTONS", "buttons": [otp]},
    ]

    assert create(client, name="code", category="AUTHENTICATION", components=parts).status_code == 200
    parts[1]["code_expiration_minutes"] = 91
    assert create(client, name="code_2", category="AUTHENTICATION", components=parts).status_code == 400
    parts[1]["code_expiration_minutes"] = 90
    otp["otp_type"] = "ONE_TAP"
    assert create(client, name="code_3", category="AUTHENTICATION", components=parts).status_code == 400
    otp["supported_apps"] = [{"package_name": "test.example", "signature_hash": "x" * 11}]
    assert create(client, name="code_4", category="AUTHENTICATION", components=parts).status_code == 200


def test_an_edit_sends_the_template_back_into_review_once_a_day(client, meta):
    template_id = client.call("GET", LIST).json()["data"][0]["id"]
    change = {"components": body_of("Hi {{1}}, the sale is over now.", "Asha")}

    assert client.call("POST", template_id, json=change).json()["success"] is True
    assert client.error(client.send(TO, "autumn_sale"))[:2] == (404, 132001)
    assert meta.wait_idle()
    assert client.error(client.send(TO, "autumn_sale"))[:2] == (400, 132000)
    assert client.send(TO, "autumn_sale", "Asha").status_code == 200
    again = client.call("POST", template_id, json=change).json()["error"]
    assert (again["code"], again["error_subcode"]) == (100, 2388039)


def test_an_approved_category_cannot_be_edited(client):
    template_id = client.call("GET", LIST).json()["data"][0]["id"]

    error = client.call("POST", template_id, json={"category": "UTILITY"}).json()["error"]

    assert error["error_subcode"] == 2388039


def test_deleting_a_name_deletes_every_language_and_blocks_it(client):
    assert client.call("DELETE", LIST, params={"name": "order_update"}).json() == {"success": True}

    assert client.call("GET", LIST, params={"name": "order_update"}).json()["data"] == []
    assert client.error(client.send(TO, "order_update", "Asha", "A-1"))[:2] == (404, 132001)
    assert create(client, name="order_update", components=GOOD).json()["error"]["error_subcode"] == 2388023


def test_deleting_one_language_leaves_the_others(client):
    spanish = client.call("GET", LIST, params={"name": "order_update", "language": "es"}).json()["data"][0]["id"]

    client.call("DELETE", LIST, params={"name": "order_update", "hsm_id": spanish})

    left = client.call("GET", LIST, params={"name": "order_update"}).json()["data"]
    assert [template["language"] for template in left] == ["en_US", "hi"]


def test_deleting_what_is_not_there_is_2593002(client):
    error = client.call("DELETE", LIST, params={"name": "nothing"}).json()["error"]

    assert (error["code"], error["error_subcode"]) == (100, 2593002)


def test_several_ids_are_deleted_together(client):
    ids = [template["id"] for template in client.call("GET", LIST, params={"limit": 3}).json()["data"]]

    assert client.call("DELETE", LIST, params={"hsm_ids": json.dumps(ids)}).json() == {"success": True}
    assert len(walk(client, limit=100)[0]) == 19


def test_a_pause_refuses_messages_until_it_is_over(client, meta, subscribed):
    meta.template("autumn_sale", "en_US", status="PAUSED", pause="pacing")
    template_id = client.call("GET", LIST).json()["data"][0]["id"]

    assert client.error(client.send(TO))[:2] == (400, 132015)
    assert client.call("POST", f"{template_id}/unpause").json() == {"success": True}
    assert client.send(TO).status_code == 200
    assert meta.wait_idle()
    paused, back = subscribed.changes("message_template_status_update")
    assert (paused["event"], paused["other_info"]["title"]) == ("PAUSED", "FIRST_PAUSE")
    assert (back["event"], back["other_info"]["title"]) == ("APPROVED", "UNPAUSE")


def test_a_quality_pause_is_not_undone_by_hand(client, meta):
    meta.template("autumn_sale", "en_US", status="PAUSED")
    template_id = client.call("GET", LIST).json()["data"][0]["id"]

    assert client.error(client.call("POST", f"{template_id}/unpause"))[:2] == (400, 100)


def test_quality_and_category_change_with_their_callbacks(client, meta, subscribed):
    meta.template("autumn_sale", "en_US", quality="YELLOW")
    meta.template("order_update", "en_US", category="MARKETING")

    assert meta.wait_idle()
    [quality] = subscribed.changes("message_template_quality_update")
    assert (quality["previous_quality_score"], quality["new_quality_score"]) == ("GREEN", "YELLOW")
    [category] = subscribed.changes("template_category_update")
    assert (category["previous_category"], category["new_category"]) == ("UTILITY", "MARKETING")
    assert isinstance(category["message_template_id"], int)
    listed = client.call("GET", LIST, params={"name": "order_update", "fields": "category,previous_category"}).json()
    assert (listed["data"][0]["category"], listed["data"][0]["previous_category"]) == ("MARKETING", "UTILITY")


def test_components_change_under_the_sender(client, meta, subscribed):
    meta.template("autumn_sale", "en_US", components=body_of("Hi {{1}}, the sale is over.", "Asha"))

    assert client.error(client.send(TO))[:2] == (400, 132000)
    assert meta.wait_idle()
    [event] = subscribed.changes("message_template_components_update")
    assert event["message_template_element"] == "Hi {{1}}, the sale is over."


def test_own_templates_are_added_and_replace_samples_of_the_same_name():
    own = {"name": "autumn_sale", "language": "en_US", "category": "UTILITY", "components": GOOD}
    with Simulator(speed=100, templates=[own, own | {"name": "ours"}]) as meta:
        client = Client(meta, "sim-access-token")
        assert len(walk(client, limit=100)[0]) == 23
        assert client.send(TO, "ours").status_code == 200
        assert client.error(client.send(TO, "autumn_sale"))[:2] == (400, 132000)
        client.session.close()


def test_every_sample_passes_the_rules_of_creation():
    with Simulator(speed=100) as meta:
        client = Client(meta, "sim-access-token")
        for sample in SAMPLES:
            if sample["category"] == "AUTHENTICATION":
                continue
            components = json.loads(json.dumps(sample["components"]).replace("https://scontent", "4::https://scontent"))
            answer = create(client, **(sample | {"name": f"{sample['name']}_2", "components": components}))
            assert answer.status_code == 200, (sample["name"], answer.text)
        client.session.close()
