"""Meta's signature covers the raw bytes, escapes and all."""

import json

import pytest

from kaanha.whatsapp.cloud_api.signature import sign, valid

SECRET = "sim_app_secret_0001"
BODY = (
    rb'{"object":"whatsapp_business_account","entry":[{"id":"900100200300401","changes":[{"value":'
    rb'{"messaging_product":"whatsapp","note":"Caf\u00e9 \ud83d\ude00 a\/b"},"field":"messages"}]}]}'
)
HEADER = "sha256=ef3ddeb2d7d05d484fd3460ed99d501877c360e4d1fd33ecd05b13c69fdc57ff"


def test_the_known_body_has_the_known_signature():
    assert len(BODY) == 184
    assert sign(SECRET, BODY) == HEADER
    assert valid(HEADER, BODY, [SECRET])


@pytest.mark.parametrize(
    ("body", "begins"),
    [
        (json.dumps(json.loads(BODY), ensure_ascii=False, separators=(",", ":")).encode(), "sha256=1acf89f0"),
        (json.dumps(json.loads(BODY)).encode(), "sha256=2f7f7f3b"),
    ],
)
def test_the_same_json_written_otherwise_has_another_signature(body, begins):
    assert sign(SECRET, body).startswith(begins)
    assert not valid(HEADER, body, [SECRET])


def test_either_secret_is_accepted_while_one_is_being_rotated():
    assert valid(HEADER, BODY, ["the new one", SECRET])
    assert not valid(HEADER, BODY, ["the new one"])


@pytest.mark.parametrize("secrets", [[], [""]])
def test_without_a_secret_nothing_is_valid(secrets):
    assert not valid(sign("", BODY), BODY, secrets)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "sha256=",
        HEADER[7:],
        HEADER[:-1],
        HEADER.upper(),
        "sha1=" + HEADER[7:],
        HEADER + " ",
        "sha256=é😀",
        "\udc80",
    ],
)
def test_garbage_is_not_a_signature(header):
    assert not valid(header, BODY, [SECRET])
