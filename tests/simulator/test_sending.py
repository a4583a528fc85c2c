"""POST /{PHONE_ID}/messages: what is accepted, and what is refused with which code."""

from __future__ import annotations

import pytest
import requests

from tests.simulator.conftest import PHONE_ID, template_message

TO = "+44 7700 900001"


def test_an_accepted_template_message_answers_contact_wamid_and_status(client, meta):
    answer = client.post(template_message(TO, "autumn_sale", "Asha", "30 November", opaque="msg:1"))

    body = answer.json()
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json; charset=UTF-8"
    assert body["contacts"] == [{"input": TO, "wa_id": "447700900001"}]
    assert body["messages"][0]["message_status"] == "accepted"
    assert "biz_opaque_callback_data" not in answer.text
    [message] = meta.messages()
    assert message["wamid"] == body["messages"][0]["id"]
    assert (message["to"], message["phoneNumberId"], message["opaque"]) == ("447700900001", PHONE_ID, "msg:1")
    assert message["template"] == {"name": "autumn_sale", "language": "en_US"}
    assert message["text"] == "Hi Asha, our autumn sale ends on 30 November. Come and have a look."


def test_the_same_request_twice_is_two_messages(client, meta):
    first, second = client.send(TO).json(), client.send(TO).json()

    assert first["messages"][0]["id"] != second["messages"][0]["id"]
    assert meta.summary()["accepted"] == 2


@pytest.mark.parametrize("version", ["v19.0", "v23.0", "v25.0", "v99.0"])
def test_every_version_is_served(client, meta, version):
    answer = client.session.post(
        f"{meta.base}/{version}/{PHONE_ID}/messages",
        json=template_message(TO, "autumn_sale", "Asha", "today"),
        timeout=5,
    )

    assert answer.status_code == 200


def test_a_wrong_token_is_190(client, meta):
    client.session.headers["Authorization"] = "Bearer somebody-elses"

    answer = client.send(TO)

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, 190)
    assert answer.json()["error"]["type"] == "OAuthException"
    assert meta.summary()["accepted"] == 0


def test_no_token_at_all_is_200(meta):
    answer = requests.post(f"{meta.url}/{PHONE_ID}/messages", json={}, timeout=5)

    assert (answer.status_code, answer.json()["error"]["message"]) == (403, "(#200) Provide valid app ID")


def test_an_unknown_phone_number_id_is_100_with_subcode_33(client):
    error = client.post(template_message(TO), phone_id="999").json()["error"]

    assert (error["code"], error["error_subcode"], error["type"]) == (100, 33, "GraphMethodException")
    assert error["message"].startswith("Unsupported post request. Object with ID '999' does not exist")


def test_an_error_carries_message_type_code_details_and_trace(client):
    error = client.send(TO, "autumn_sale", "Asha").json()["error"]

    assert error.pop("fbtrace_id")
    assert error == {
        "message": "(#132000) Number of parameters does not match the expected number of params",
        "type": "OAuthException",
        "code": 132000,
        "error_data": {
            "messaging_product": "whatsapp",
            "details": "body: number of localizable_params (1) does not match the expected number of params (2)",
        },
    }


@pytest.mark.parametrize(
    ("name", "language", "status", "code"),
    [
        ("no_such_template", "en_US", 404, 132001),
        ("autumn_sale", "en", 404, 132001),
        ("winter_preview", "en_US", 404, 132001),
        ("win_a_car", "en_US", 404, 132001),
        ("flash_deal", "en_US", 400, 132015),
        ("old_newsletter", "en_US", 400, 132016),
    ],
)
def test_a_template_that_cannot_be_sent_is_refused(client, meta, name, language, status, code):
    answer = client.send(TO, name, "Asha", language=language)

    assert client.error(answer)[:2] == (status, code)
    assert meta.summary()["refused"] == {str(code): 1}


def test_a_missing_template_is_named_in_the_details(client):
    assert client.error(client.send(TO, "nothing", language="hi"))[2] == "template name (nothing) does not exist in hi"


@pytest.mark.parametrize(
    ("changes", "status", "code", "said"),
    [
        ({"messaging_product": None}, 400, 100, "(#100) The parameter messaging_product is required."),
        ({"to": None}, 400, 100, "(#100) The parameter to is required."),
        ({"to": ""}, 400, 100, "(#100) The parameter to is required."),
        ({"to": "call me"}, 400, 131009, "(#131009) Parameter value is not valid"),
        ({"to": "12345"}, 400, 131009, "(#131009) Parameter value is not valid"),
        ({"to": "+0044 7700 900001"}, 400, 131009, "(#131009) Parameter value is not valid"),
        ({"to": 447700900001}, 400, 131009, "(#131009) Parameter value is not valid"),
        ({"to": "+1 555-555-0100"}, 400, 131021, "(#131021) Recipient cannot be the sender"),
        ({"template": None}, 400, 131008, "(#131008) Required parameter is missing"),
        ({"recipient_type": "crowd"}, 400, 100, "(#100) Param recipient_type must be one of {INDIVIDUAL, GROUP}"),
        (
            {"biz_opaque_callback_data": {"id": 1}},
            400,
            100,
            "(#100) Param biz_opaque_callback_data must be a string",
        ),
        (
            {"biz_opaque_callback_data": "x" * 513},
            400,
            100,
            "(#100) Param biz_opaque_callback_data must be at most 512 characters long.",
        ),
    ],
)
def test_a_faulty_request_is_refused(client, meta, changes, status, code, said):
    answer = client.post(template_message(TO, "autumn_sale", "Asha", "today") | changes)

    assert client.error(answer)[:2] == (status, code)
    assert answer.json()["error"]["message"] == said
    assert meta.summary()["accepted"] == 0


def test_512_characters_of_opaque_data_are_taken(client):
    assert client.send(TO, opaque="x" * 512).status_code == 200


@pytest.mark.parametrize("body", ["not json", "[]", '"text"'])
def test_a_body_that_is_no_json_object_is_100(client, body):
    answer = client.call("POST", f"{PHONE_ID}/messages", data=body, headers={"Content-Type": "application/json"})

    assert client.error(answer)[:2] == (400, 100)


@pytest.mark.parametrize("value", ["two\nlines", "a\ttab", "five     spaces"])
def test_an_untidy_parameter_is_132018_and_100_before_v23(client, meta, value):
    body = template_message(TO, "autumn_sale", value, "today")

    assert client.error(client.post(body))[:2] == (400, 132018)
    old = client.session.post(f"{meta.base}/v22.0/{PHONE_ID}/messages", json=body, timeout=5)
    assert client.error(old)[:2] == (400, 100)


def test_four_spaces_in_a_parameter_are_taken(client):
    assert client.send(TO, "autumn_sale", "As    ha", "today").status_code == 200


def test_an_empty_parameter_is_refused(client):
    assert client.error(client.send(TO, "autumn_sale", "", "today"))[:2] == (400, 131008)


def test_a_body_of_1024_characters_once_filled_is_taken_and_one_more_is_132005(client):
    fixed = len("Hi , our autumn sale ends on . Come and have a look.")

    assert client.send(TO, "autumn_sale", "x" * (1024 - fixed - 1), "y").status_code == 200
    assert client.error(client.send(TO, "autumn_sale", "x" * (1024 - fixed), "y")) == (
        400,
        132005,
        "Translated text has too many characters: body (1025) exceeds 1024",
    )


def named(name, text="Asha"):
    return {"type": "text", "parameter_name": name, "text": text}


def test_named_parameters_fit_a_named_template(client, meta):
    assert client.send(TO, "new_arrivals", named("first_name")).status_code == 200
    assert meta.messages()[0]["text"] == "Hello Asha, the new collection has arrived. See you soon!"


@pytest.mark.parametrize(
    ("template", "parameters", "code", "details"),
    [
        ("new_arrivals", ["Asha"], 100, "Parameter name is missing or empty"),
        ("new_arrivals", [named("surname")], 100, "body: parameter (first_name) is missing"),
        (
            "new_arrivals",
            [named("first_name"), named("surname")],
            132000,
            "body: number of localizable_params (2) does not match the expected number of params (1)",
        ),
        (
            "autumn_sale",
            [named("first_name"), named("end_date")],
            100,
            "body: parameter_name is not allowed, the template has positional parameters",
        ),
        (
            "season_greetings",
            ["Asha"],
            132000,
            "body: number of localizable_params (1) does not match the expected number of params (0)",
        ),
        (
            "autumn_sale",
            [{"type": "image", "image": {"link": "https://cdn.example.test/a.jpg"}}],
            132012,
            "body: Format mismatch, expected TEXT, received IMAGE",
        ),
    ],
)
def test_parameters_that_do_not_fit_the_body_are_refused(client, template, parameters, code, details):
    assert client.error(client.send(TO, template, *parameters)) == (400, code, details)


def test_a_template_without_variables_is_sent_without_components(client):
    assert client.send(TO, "season_greetings").status_code == 200


def test_currency_and_date_count_as_body_parameters(client, meta):
    money = {"type": "currency", "currency": {"fallback_value": "$10.99", "code": "USD", "amount_1000": 10990}}
    date = {"type": "date_time", "date_time": {"fallback_value": "25 December 2026"}}

    assert client.send(TO, "order_update", money, date).status_code == 200
    assert meta.messages()[0]["text"] == "Hi $10.99, your order 25 December 2026 is on its way."


IMAGE = {"type": "header", "parameters": [{"type": "image", "image": {"link": "https://cdn.example.test/autumn.jpg"}}]}
BODY = {"type": "body", "parameters": [{"type": "text", "text": "Asha"}, {"type": "text", "text": "30 November"}]}
SHOP = {"type": "button", "sub_type": "url", "index": "1", "parameters": [{"type": "text", "text": "asha%20n?c=77"}]}
STOP = {
    "type": "button",
    "sub_type": "quick_reply",
    "index": 0,
    "parameters": [{"type": "payload", "payload": "stop:77"}],
}


def test_header_body_and_buttons_together_are_accepted(client):
    assert client.send(TO, "autumn_sale_image", components=[IMAGE, BODY, STOP, SHOP]).status_code == 200


@pytest.mark.parametrize(
    ("components", "code", "details"),
    [
        ([BODY, SHOP], 132012, "header: Format mismatch, expected IMAGE, received UNKNOWN"),
        (
            [{"type": "header", "parameters": [{"type": "text", "text": "Asha"}]}, BODY, SHOP],
            132012,
            "header: Format mismatch, expected IMAGE, received TEXT",
        ),
        (
            [{"type": "header", "parameters": [{"type": "image", "image": {"id": "1"}}]}, BODY, SHOP],
            131009,
            "header: image id (1) does not belong to this phone number",
        ),
        ([IMAGE, BODY], 132000, "buttons: Button at index 1 of type Url requires a parameter"),
        (
            [IMAGE, BODY, SHOP | {"parameters": []}],
            132000,
            "buttons: Button at index 1 of type Url requires a parameter",
        ),
        (
            [IMAGE, BODY, SHOP | {"index": "0"}],
            132012,
            "buttons: Button at index 0 is of type QUICK_REPLY, received URL",
        ),
        ([IMAGE, BODY, SHOP | {"index": 2}], 132012, "buttons: there is no button at index 2 in the created template"),
        (
            [IMAGE, BODY, SHOP | {"parameters": [{"type": "text", "text": "asha n"}]}],
            132018,
            "buttons: Button at index 1 has a URL parameter that is not percent-encoded",
        ),
        ([IMAGE, BODY, BODY, SHOP], 100, "There can be only one body component"),
    ],
)
def test_header_and_buttons_are_checked(client, components, code, details):
    assert client.error(client.send(TO, "autumn_sale_image", components=components)) == (400, code, details)


@pytest.mark.parametrize("index", [None, "first", True, -1])
def test_a_button_without_a_usable_index_is_refused(client, index):
    answer = client.send(TO, "autumn_sale_image", components=[IMAGE, BODY, SHOP | {"index": index}])

    assert client.error(answer)[:2] == (400, 100)


def test_an_uploaded_image_belongs_to_its_phone_number(client):
    files = {"file": ("a.jpg", b"sample image", "image/jpeg")}
    form = {"messaging_product": "whatsapp", "type": "image/jpeg"}
    media_id = client.call("POST", f"{PHONE_ID}/media", data=form, files=files).json()["id"]
    header = {"type": "header", "parameters": [{"type": "image", "image": {"id": media_id}}]}
    body = template_message(TO, "autumn_sale_image", components=[header, BODY, SHOP])

    assert client.post(body).status_code == 200
    assert client.error(client.post(body, phone_id="200000000000002"))[:2] == (400, 131009)


def test_a_code_goes_into_body_and_button_and_has_15_characters_at_most(client):
    def code(value):
        parameters = [{"type": "text", "text": value}]
        return [
            {"type": "body", "parameters": parameters},
            {"type": "button", "sub_type": "url", "index": "0", "parameters": parameters},
        ]

    assert client.send(TO, "login_code", components=code("481920")).status_code == 200
    assert client.error(client.send(TO, "login_code", components=code("4" * 16)))[:2] == (400, 131009)
    assert client.error(client.send(TO, "login_code", components=code("481920")[:1]))[:2] == (400, 132000)


def test_a_person_may_be_addressed_by_user_id_but_not_for_a_code(client, meta):
    body = template_message(TO, "autumn_sale", "Asha", "today")
    del body["to"]
    body["recipient"] = "GB.1000000447700900001"

    answer = client.post(body).json()

    assert answer["contacts"] == [{"input": "GB.1000000447700900001", "user_id": "GB.1000000447700900001"}]
    assert meta.messages()[0]["waId"] == "447700900001"
    parameters = [{"type": "text", "text": "481920"}]
    button = {"type": "button", "sub_type": "url", "index": 0, "parameters": parameters}
    body["template"] = {
        "name": "login_code",
        "language": {"code": "en_US"},
        "components": [{"type": "body", "parameters": parameters}, button],
    }
    assert client.error(client.post(body))[:2] == (400, 131062)


@pytest.mark.parametrize(
    ("written", "wa_id"),
    [
        ("+52 55 5555 0142", "5215555550142"),
        ("+54 11 5555 0142", "5491155550142"),
        ("+55 71 95555-0142", "557155550142"),
        ("+55 11 95555-0142", "5511955550142"),
        ("(44) 7700.900-142", "447700900142"),
    ],
)
def test_the_wa_id_may_differ_from_what_was_dialed(client, written, wa_id):
    assert client.send(written).json()["contacts"] == [{"input": written, "wa_id": wa_id}]


def test_a_message_can_be_marked_as_read(client, meta):
    body = {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.HBgL"}

    assert client.post(body).json() == {"success": True}
    assert client.error(client.post(body | {"message_id": "1"}))[:2] == (400, 131009)
    assert meta.summary()["accepted"] == 0


def test_marketing_messages_take_marketing_templates_only(client):
    path = f"{PHONE_ID}/marketing_messages"

    sale = client.call("POST", path, json=template_message(TO, "autumn_sale", "Asha", "today"))
    order = client.call("POST", path, json=template_message(TO, "order_update", "Asha", "A-1"))

    assert sale.status_code == 200
    assert client.error(order)[:2] == (400, 134100)


def test_a_text_message_is_limited_to_4096_characters(client):
    body = {"messaging_product": "whatsapp", "to": TO, "type": "text", "text": {"body": "x" * 4096}}

    assert "message_status" not in client.post(body).json()["messages"][0]
    assert client.error(client.post(body | {"text": {"body": "x" * 4097}}))[:2] == (400, 100)
    assert client.error(client.post(body | {"text": {"body": ""}}))[:2] == (400, 131008)
