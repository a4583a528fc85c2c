"""Accounts, numbers, media, uploads, tokens."""

from __future__ import annotations

import hashlib

import pytest
import requests

from kaanha.simulator import Simulator
from tests.simulator.conftest import PHONE_ID, WABA_ID, Client

APP_ID = "400000000000001"


def test_a_number_answers_the_fields_that_are_asked_for(client):
    fields = (
        "display_phone_number,verified_name,quality_rating,throughput,whatsapp_business_manager_messaging_limit,status"
    )

    assert client.call("GET", PHONE_ID, params={"fields": fields}).json() == {
        "display_phone_number": "+1 555-555-0100",
        "verified_name": "Sample Business",
        "quality_rating": "GREEN",
        "throughput": {"level": "HIGH"},
        "whatsapp_business_manager_messaging_limit": "TIER_100K",
        "status": "CONNECTED",
        "id": PHONE_ID,
    }


@pytest.mark.parametrize(("rate", "level"), [(80, "STANDARD"), (1000, "HIGH"), (None, "HIGH")])
def test_the_level_tells_the_throughput(client, meta, rate, level):
    meta.settings(throughput=rate)

    assert client.call("GET", PHONE_ID).json()["throughput"] == {"level": level}


def test_the_tier_tells_the_messaging_limit(client, meta):
    meta.settings(messaging_limit=250)

    answer = client.call("GET", PHONE_ID, params={"fields": "whatsapp_business_manager_messaging_limit"})

    assert answer.json()["whatsapp_business_manager_messaging_limit"] == "TIER_250"


def test_the_numbers_of_an_account_are_listed(client):
    body = client.call("GET", f"{WABA_ID}/phone_numbers").json()

    assert [(number["id"], number["display_phone_number"]) for number in body["data"]] == [
        ("200000000000001", "+1 555-555-0100"),
        ("200000000000002", "+1 555-555-0101"),
    ]


def test_an_account_answers_name_and_health(client):
    assert client.call("GET", WABA_ID).json()["name"] == "Sample Business"
    health = client.call("GET", WABA_ID, params={"fields": "health_status"}).json()["health_status"]
    assert health["can_send_message"] == "AVAILABLE"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "1"),
        ("GET", "1/phone_numbers"),
        ("GET", "1/message_templates"),
        ("POST", "1/subscribed_apps"),
        ("POST", "1/media"),
        ("GET", "upload:1"),
        ("DELETE", "1"),
        ("GET", "1/2/3"),
    ],
)
def test_an_unknown_id_is_100_with_subcode_33(client, method, path):
    answer = client.call(method, path)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["error_subcode"]) == (400, 100, 33)


def test_a_subscription_is_listed_until_it_is_deleted(client):
    path = f"{WABA_ID}/subscribed_apps"
    assert client.call("GET", path).json() == {"data": []}

    client.call("POST", path)

    assert client.call("GET", path).json()["data"][0]["whatsapp_business_api_data"]["id"] == APP_ID
    client.call("DELETE", path)
    assert client.call("GET", path).json() == {"data": []}


def test_media_is_uploaded_described_downloaded_and_deleted(client):
    content = b"sample image"
    form = {"messaging_product": "whatsapp", "type": "image/jpeg"}
    files = {"file": ("a.jpg", content, "image/jpeg")}

    media_id = client.call("POST", f"{PHONE_ID}/media", data=form, files=files).json()["id"]

    media = client.call("GET", media_id).json()
    assert (media["mime_type"], media["file_size"]) == ("image/jpeg", 12)
    assert media["sha256"] == hashlib.sha256(content).hexdigest()
    assert client.session.get(media["url"], timeout=5).content == content
    assert requests.get(media["url"], timeout=5).status_code == 403
    assert client.call("DELETE", media_id).json() == {"success": True}
    assert client.call("GET", media_id).status_code == 400


@pytest.mark.parametrize(
    ("form", "mime_type", "content"),
    [
        ({"messaging_product": "whatsapp"}, "application/zip", b"x"),
        ({"messaging_product": "whatsapp"}, "image/jpeg", b""),
        ({"messaging_product": "whatsapp"}, "image/jpeg", b"x" * (5 * 1024 * 1024 + 1)),
        ({}, "image/jpeg", b"x"),
    ],
)
def test_media_of_a_wrong_type_or_size_is_100(client, form, mime_type, content):
    answer = client.call("POST", f"{PHONE_ID}/media", data=form, files={"file": ("a", content, mime_type)})

    assert client.error(answer)[:2] == (400, 100)


def test_an_upload_goes_on_where_it_broke_off(client, meta):
    asked = {"file_name": "autumn.jpg", "file_length": 10, "file_type": "image/jpeg"}
    upload = client.call("POST", f"{APP_ID}/uploads", params=asked).json()["id"]
    headers = {"Authorization": "OAuth sim-access-token"}
    assert upload.startswith("upload:")

    first = client.call("POST", upload, data=b"01234", headers=headers | {"file_offset": "0"}).json()

    assert first == {"id": upload, "file_offset": 5}
    assert client.call("GET", upload).json() == {"id": upload, "file_offset": 5}
    assert client.call("POST", upload, data=b"x", headers=headers | {"file_offset": "2"}).status_code == 400
    handle = client.call("POST", upload, data=b"56789", headers=headers | {"file_offset": "5"}).json()["h"]
    assert handle.startswith("4::")


@pytest.mark.parametrize("asked", [{"file_type": "image/jpeg"}, {"file_length": 1, "file_type": "text/plain"}])
def test_an_upload_needs_length_and_type(client, asked):
    assert client.error(client.call("POST", f"{APP_ID}/uploads", params=asked))[:2] == (400, 100)


@pytest.mark.parametrize(("token", "valid"), [("sim-access-token", True), ("other", False)])
def test_a_token_can_be_looked_into(client, token, valid):
    found = client.call("GET", "debug_token", params={"input_token": token}).json()["data"]

    assert (found["is_valid"], found["app_id"]) == (valid, APP_ID)
    assert ("whatsapp_business_messaging" in found["scopes"]) == valid


def test_the_app_behind_a_token_is_told(client):
    assert client.call("GET", "app").json() == {"id": APP_ID, "name": "Sample App"}


def test_the_token_may_come_in_the_query(meta):
    answer = requests.get(f"{meta.url}/{WABA_ID}", params={"access_token": "sim-access-token"}, timeout=5)

    assert answer.status_code == 200


def test_identity_is_chosen_at_the_start():
    with Simulator(access_token="other", waba_id="77", phone_number_ids=("88",), app_id="99") as meta:
        client = Client(meta, "other")
        assert [phone["id"] for phone in client.call("GET", "77/phone_numbers").json()["data"]] == ["88"]
        assert client.call("GET", "99").json()["id"] == "99"
        assert client.call("GET", PHONE_ID).status_code == 400
        client.session.close()
