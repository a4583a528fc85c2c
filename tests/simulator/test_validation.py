"""Whatever is sent, it is accepted or refused by one of Meta's errors; nothing else ever comes of it."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kaanha.simulator import creation, validation
from kaanha.simulator.errors import GraphError
from kaanha.simulator.samples import SAMPLES
from kaanha.simulator.template_endpoints import read_back
from kaanha.simulator.templates import Templates

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
WHOLE = {
    "messaging_product": "whatsapp",
    "to": "+44 7700 900001",
    "type": "template",
    "biz_opaque_callback_data": "msg:1",
    "template": {
        "name": "autumn_sale_image",
        "language": {"code": "en_US"},
        "components": [
            {"type": "header", "parameters": [{"type": "image", "image": {"link": "https://cdn.example.test/a.jpg"}}]},
            {"type": "body", "parameters": [{"type": "text", "text": "Asha"}, {"type": "text", "text": "today"}]},
            {"type": "button", "sub_type": "url", "index": 1, "parameters": [{"type": "text", "text": "a"}]},
            {
                "type": "button",
                "sub_type": "quick_reply",
                "index": 0,
                "parameters": [{"type": "payload", "payload": "p"}],
            },
        ],
    },
}
NEW = {
    "name": "winter_sale",
    "language": "en_US",
    "category": "MARKETING",
    "components": [
        {"type": "HEADER", "format": "IMAGE", "example": {"header_handle": ["4::aW1hZ2UvanBlZw=="]}},
        {
            "type": "BODY",
            "text": "Hi {{1}}, our winter sale ends on {{2}}, come soon.",
            "example": {"body_text": [["Asha", "31 January"]]},
        },
        {"type": "FOOTER", "text": "Reply STOP to opt out"},
        {
            "type": "BUTTONS",
            "buttons": [
                {"type": "QUICK_REPLY", "text": "Unsubscribe"},
                {"type": "PHONE_NUMBER", "text": "Call", "phone_number": "+15555550100"},
                {"type": "URL", "text": "Shop", "url": "https://shop.example.test/{{1}}", "example": ["a"]},
            ],
        },
    ],
}
NEW_CODE = {
    "name": "code",
    "language": "en_US",
    "category": "AUTHENTICATION",
    "components": [
        {"type": "BODY", "add_security_recommendation": True},
        {"type": "FOOTER", "code_expiration_minutes": 5},
        {
            "type": "BUTTONS",
            "buttons": [
                {
                    "type": "OTP",
                    "otp_type": "ONE_TAP",
                    "text": "Copy code",
                    "supported_apps": [{"package_name": "test.example", "signature_hash": "12345678901"}],
                }
            ],
        },
    ],
}
TEMPLATES = Templates()
for sample in SAMPLES:
    TEMPLATES.add(sample)


def paths(value, path=()):
    """The way to every value inside."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield from paths(each, (*path, key))


def check(body):
    kind = validation.envelope(body)
    validation.addressee(body, own_digits="15555550100", rewritten=True)
    if kind == "text":
        validation.text(body)
    if kind == "template":
        name, language = validation.names(body["template"])
        template = validation.state(TEMPLATES.find(name, language), name=name, language=language)
        validation.components(body["template"], template, media_ids=(), version=25)


def create(body):
    creation.check_new(body)
    Templates().add(body | {"components": read_back(body["components"])})


def spoiled(whole, path, value):
    """A copy with `value` in this place."""
    body = copy.deepcopy(whole)
    place: Any = body
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return body


def spots(whole):
    return st.sampled_from([path for path in paths(whole) if path])


def code_of(body, act=check):
    """The code of the refusal, None for what is accepted."""
    try:
        act(body)
    except GraphError as refusal:
        return refusal.code
    return None


def test_the_unspoiled_message_is_accepted():
    assert code_of(WHOLE) is None


def test_the_unspoiled_templates_are_accepted():
    assert code_of(NEW, create) is code_of(NEW_CODE, create) is None


@given(spots(WHOLE), JSON)
def test_a_message_spoiled_in_any_place_is_accepted_or_refused(path, value):
    code = code_of(spoiled(WHOLE, path, value))

    assert code in {None, 100, 131008, 131009, 132000, 132001, 132005, 132012, 132018}


@given(spots(NEW), JSON)
def test_a_template_spoiled_in_any_place_is_taken_or_refused(path, value):
    assert code_of(spoiled(NEW, path, value), create) in {None, 100}


@given(spots(NEW_CODE), JSON)
def test_an_authentication_template_spoiled_in_any_place_is_taken_or_refused(path, value):
    assert code_of(spoiled(NEW_CODE, path, value), create) in {None, 100}
