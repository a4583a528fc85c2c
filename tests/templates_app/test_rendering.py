"""Variables: which there are, how they are mapped, and how they are filled for one contact."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaanha.lib.errors import Refusal
from templates_app.rendering import (
    MissingVariable,
    Slot,
    TooLong,
    parse_variables,
    prepare,
    preview,
    problems,
    slots,
    unsupported,
)

SALE = [
    {"type": "HEADER", "format": "IMAGE", "example": {"header_handle": ["https://scontent.example.test/h.jpg"]}},
    {
        "type": "BODY",
        "text": "Hi {{1}}, our sale ends on {{2}}, don't miss it.",
        "example": {"body_text": [["Asha", "30 November"]]},
    },
    {"type": "FOOTER", "text": "Reply STOP to opt out"},
    {
        "type": "BUTTONS",
        "buttons": [
            {"type": "QUICK_REPLY", "text": "Unsubscribe"},
            {"type": "URL", "text": "Shop", "url": "https://shop.example.test/{{1}}", "example": ["https://x.test/a1"]},
            {"type": "URL", "text": "Home", "url": "https://shop.example.test/"},
            {"type": "PHONE_NUMBER", "text": "Call", "phone_number": "+15555550100"},
            {"type": "COPY_CODE", "example": "SAVE30"},
        ],
    },
]
MAPPED = {
    "header": {"link": "https://cdn.example.test/a.jpg"},
    "body.1": {"field": "first_name", "fallback": "there"},
    "body.2": {"text": "30 November"},
    "button.1": {"field": "code"},
    "button.4": {"text": "SAVE30"},
}
NAMED = [
    {"type": "HEADER", "format": "TEXT", "text": "Dear {{first_name}}"},
    {
        "type": "BODY",
        "text": "{{end_date}}, {{first_name}}, {{end_date}}!",
        "example": {"body_text_named_params": [{"param_name": "end_date", "example": "30 November"}]},
    },
]
CODE_AS_CREATED = [
    {"type": "BODY", "add_security_recommendation": True},
    {"type": "FOOTER", "code_expiration_minutes": 5},
    {"type": "BUTTONS", "buttons": [{"type": "OTP", "otp_type": "COPY_CODE", "text": "Copy code"}]},
]
CODE_AS_LISTED = [
    {"type": "BODY", "text": "*{{1}}* is your verification code.", "add_security_recommendation": True},
    {
        "type": "BUTTONS",
        "buttons": [{"type": "URL", "text": "Copy", "url": "https://www.whatsapp.com/otp/code/?code=otp{{1}}"}],
    },
]


def body(text):
    return [{"type": "BODY", "text": text}]


def fill(components, variables, values=None, parameter_format="POSITIONAL"):
    return prepare(components, parameter_format, variables).fill(values or {})


# --- slots -------------------------------------------------------------------------------------------------------


def test_the_slots_of_a_template_with_everything():
    assert slots(SALE, "POSITIONAL") == [
        Slot("header", "image", "The image of the header", "https://scontent.example.test/h.jpg"),
        Slot("body.1", "text", "{{1}} in the body", "Asha"),
        Slot("body.2", "text", "{{2}} in the body", "30 November"),
        Slot("button.0", "payload", "What “Unsubscribe” sends back", required=False),
        Slot("button.1", "url", "What follows the address of “Shop”", "https://x.test/a1"),
        Slot("button.4", "coupon", "The code of “button 5”", "SAVE30"),
    ]


def test_named_slots_stand_once_in_the_order_of_reading():
    assert [(slot.key, slot.example) for slot in slots(NAMED, "NAMED")] == [
        ("header.first_name", ""),
        ("body.end_date", "30 November"),
        ("body.first_name", ""),
    ]


def test_numbers_are_sent_in_their_own_order():
    keys = [f"body.{n}" for n in range(1, 12)]
    text = " ".join(f"{{{{{n}}}}}" for n in (2, 1, *range(3, 12)))

    assert [slot.key for slot in slots(body(text), "POSITIONAL")] == keys


@pytest.mark.parametrize("components", [CODE_AS_CREATED, CODE_AS_LISTED])
def test_an_authentication_template_has_one_slot_that_fills_both_places(components):
    assert [(slot.key, slot.kind) for slot in slots(components, "POSITIONAL")] == [("body.1", "code")]
    assert fill(components, {"body.1": {"field": "code"}}, {"code": "481920"}) == [
        {"type": "body", "parameters": [{"type": "text", "text": "481920"}]},
        {"type": "button", "sub_type": "url", "index": "0", "parameters": [{"type": "text", "text": "481920"}]},
    ]


def test_a_template_without_variables_has_no_slots_and_sends_no_components():
    assert slots(body("Our sale ends soon."), "POSITIONAL") == []
    assert fill(body("Our sale ends soon."), {}) == []


@pytest.mark.parametrize(
    ("component", "word"),
    [
        ({"type": "HEADER", "format": "LOCATION"}, "LOCATION"),
        ({"type": "HEADER", "format": "PRODUCT"}, "PRODUCT"),
        ({"type": "CAROUSEL", "cards": []}, "CAROUSEL"),
        ({"type": "LIMITED_TIME_OFFER"}, "LIMITED_TIME_OFFER"),
        ({"type": "BUTTONS", "buttons": [{"type": "FLOW", "text": "Go"}]}, "FLOW"),
        ({"type": "BUTTONS", "buttons": [{"type": "CATALOG"}]}, "CATALOG"),
        ({}, "without a name"),
    ],
)
def test_what_cannot_be_sent_is_refused_in_a_sentence(component, word):
    components = [*body("Hi"), component]

    assert word in (unsupported(components) or "")
    assert problems(components, "POSITIONAL", {}) == [unsupported(components)]
    with pytest.raises(Refusal, match=word):
        prepare(components, "POSITIONAL", {})


@pytest.mark.parametrize("components", [SALE, NAMED, CODE_AS_CREATED, CODE_AS_LISTED])
def test_what_can_be_sent_is_not_refused(components):
    assert unsupported(components) is None


def test_a_template_without_a_body_cannot_be_sent():
    assert unsupported([{"type": "FOOTER", "text": "x"}]) == "The template has no body."


# --- mapping -----------------------------------------------------------------------------------------------------


def test_a_complete_mapping_has_no_problems():
    assert problems(SALE, "POSITIONAL", MAPPED) == []


def test_every_unmapped_slot_is_told_and_the_optional_one_is_not():
    assert problems(SALE, "POSITIONAL", {}) == [
        "The image of the header (header) has no value: give it a link or a media id.",
        "{{1}} in the body (body.1) has no value: map it to a contact's field or a text.",
        "{{2}} in the body (body.2) has no value: map it to a contact's field or a text.",
        "What follows the address of “Shop” (button.1) has no value: map it to a contact's field or a text.",
        "The code of “button 5” (button.4) has no value: map it to a contact's field or a text.",
    ]


def test_an_unknown_variable_is_told_with_the_known_ones():
    assert problems(body("Hi {{1}}"), "POSITIONAL", {"body.1": {"text": "x"}, "body.2": {"text": "y"}}) == [
        "The template has no variable body.2; it has: body.1."
    ]


@pytest.mark.parametrize(
    "mapping",
    [
        {},
        [],
        "x",
        7,
        {"text": ""},
        {"field": 7},
        {"field": "a", "text": "b"},
        {"text": " \n"},
        {"link": "https://x.test"},
    ],
)
def test_a_mapping_that_says_nothing_usable_is_a_problem(mapping):
    assert len(problems(body("Hi {{1}}"), "POSITIONAL", {"body.1": mapping})) == 1


@pytest.mark.parametrize(
    ("mapping", "fits"),
    [
        ({"link": "https://x.test/a.jpg"}, True),
        ({"link": "http://127.0.0.1/a.jpg"}, True),
        ({"id": "500000000000001"}, True),
        ({"field": "photo"}, True),
        ({"field": "photo", "fallback": "https://x.test/a.jpg"}, True),
        ({"link": "a.jpg"}, False),
        ({"link": "https://"}, False),
        ({"field": "photo", "fallback": "a.jpg"}, False),
        ({"text": "a.jpg"}, False),
    ],
)
def test_a_media_header_takes_a_link_or_an_id(mapping, fits):
    assert (problems(SALE, "POSITIONAL", MAPPED | {"header": mapping}) == []) is fits


@pytest.mark.parametrize("variables", [None, [], "x"])
def test_variables_that_are_no_mapping_are_a_problem(variables):
    assert len(problems(SALE, "POSITIONAL", variables)) == 1


def test_preparing_with_problems_is_refused_with_all_of_them():
    with pytest.raises(Refusal, match=r"body\.1.*body\.2") as refusal:
        prepare(body("{{1}} and {{2}}"), "POSITIONAL", {})

    assert refusal.value.code == "variables_unmapped"


# --- filling -----------------------------------------------------------------------------------------------------


def test_a_filled_template():
    assert fill(SALE, MAPPED | {"button.0": {"text": "stop:77"}}, {"first_name": "Asha", "code": "a1"}) == [
        {"type": "header", "parameters": [{"type": "image", "image": {"link": "https://cdn.example.test/a.jpg"}}]},
        {
            "type": "body",
            "parameters": [{"type": "text", "text": "Asha"}, {"type": "text", "text": "30 November"}],
        },
        {
            "type": "button",
            "sub_type": "quick_reply",
            "index": "0",
            "parameters": [{"type": "payload", "payload": "stop:77"}],
        },
        {"type": "button", "sub_type": "url", "index": "1", "parameters": [{"type": "text", "text": "a1"}]},
        {
            "type": "button",
            "sub_type": "copy_code",
            "index": "4",
            "parameters": [{"type": "coupon_code", "coupon_code": "SAVE30"}],
        },
    ]


def test_a_filled_named_template():
    variables = {
        "header.first_name": {"field": "first_name"},
        "body.first_name": {"field": "first_name"},
        "body.end_date": {"field": "attributes.ends"},
    }

    assert fill(NAMED, variables, {"first_name": "Asha", "attributes.ends": "soon"}, "NAMED") == [
        {"type": "header", "parameters": [{"type": "text", "parameter_name": "first_name", "text": "Asha"}]},
        {
            "type": "body",
            "parameters": [
                {"type": "text", "parameter_name": "end_date", "text": "soon"},
                {"type": "text", "parameter_name": "first_name", "text": "Asha"},
            ],
        },
    ]


def test_two_contacts_do_not_mix():
    filler = prepare(SALE, "POSITIONAL", MAPPED)

    first = json.dumps(filler.fill({"first_name": "Asha", "code": "a1"}))
    second = json.dumps(filler.fill({"first_name": "Ben", "code": "b2"}))

    assert ("Asha" in first, "Ben" in first, "Asha" in second, "Ben" in second) == (True, False, False, True)
    assert json.dumps(filler.fill({"first_name": "Asha", "code": "a1"})) == first


@pytest.mark.parametrize(
    ("header", "variable", "parameter"),
    [
        ("IMAGE", {"id": "5"}, {"type": "image", "image": {"id": "5"}}),
        ("VIDEO", {"link": "https://x.test/v"}, {"type": "video", "video": {"link": "https://x.test/v"}}),
        (
            "DOCUMENT",
            {"link": "https://x.test/d", "filename": "invoice.pdf"},
            {"type": "document", "document": {"link": "https://x.test/d", "filename": "invoice.pdf"}},
        ),
        ("DOCUMENT", {"field": "bill"}, {"type": "document", "document": {"link": "https://x.test/bill.pdf"}}),
    ],
)
def test_media_headers(header, variable, parameter):
    components = [{"type": "HEADER", "format": header}, *body("Hi")]

    assert fill(components, {"header": variable}, {"bill": "https://x.test/bill.pdf"}) == [
        {"type": "header", "parameters": [parameter]}
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("  Asha ", "Asha"),
        ("a\nb", "a b"),
        ("a \r\n\t b", "a b"),
        ("a\u2028b", "a b"),
        ("a    b", "a    b"),
        ("a     b", "a b"),
        ("a  \n   b", "a b"),
        ("a\0b\ud800", "ab"),
        ("Zoë 😀", "Zoë 😀"),
        ("", "there"),
        (" \n\t ", "there"),
    ],
)
def test_values_are_made_fit_for_meta(value, text):
    variables = {"body.1": {"field": "name", "fallback": "there"}}

    [component] = fill(body("Hi {{1}}!"), variables, {"name": value})

    assert component["parameters"][0]["text"] == text


def test_a_missing_value_without_fallback_names_slot_and_field():
    with pytest.raises(MissingVariable, match=r"body\.1 has no value: the contact has no city\.") as missing:
        fill(body("Hi {{1}}!"), {"body.1": {"field": "city"}}, {"name": "Asha"})

    assert (missing.value.slot, missing.value.field) == ("body.1", "city")


def test_a_link_from_a_contact_must_be_one():
    components = [{"type": "HEADER", "format": "IMAGE"}, *body("Hi")]

    with pytest.raises(MissingVariable):
        fill(components, {"header": {"field": "photo"}}, {"photo": "photo.jpg"})


@pytest.mark.parametrize(
    ("mapping", "suffix"),
    [
        ({"field": "code"}, "a%20b%3A%7C%C3%A9%3F%26%25/c"),
        ({"text": "asha n?c=77&d=%20#e"}, "asha%20n?c=77&d=%20#e"),
        ({"text": "100%"}, "100%25"),
        ({"text": "a:b|é"}, "a%3Ab%7C%C3%A9"),
        ({"field": "none", "fallback": "x y?z=1"}, "x%20y?z=1"),
    ],
)
def test_a_url_suffix_is_percent_encoded(mapping, suffix):
    components = [
        *body("Hi"),
        {"type": "BUTTONS", "buttons": [{"type": "URL", "text": "Go", "url": "https://x.test/{{1}}"}]},
    ]

    [button] = fill(components, {"button.0": mapping}, {"code": "a b:|é?&%/c"})

    assert button["parameters"] == [{"type": "text", "text": suffix}]


@pytest.mark.parametrize(("length", "fits"), [(1024 - 4, True), (1024 - 3, False)])
def test_a_body_longer_than_1024_characters_after_filling_is_too_long(length, fits):
    filler = prepare(body("Hi {{1}}!"), "POSITIONAL", {"body.1": {"field": "name"}})

    if fits:
        assert filler.fill({"name": "x" * length})
    else:
        with pytest.raises(TooLong, match="body is longer than 1024 characters"):
            filler.fill({"name": "x" * length})


def test_a_variable_that_stands_twice_counts_twice():
    filler = prepare(body("{{a}} {{a}}"), "NAMED", {"body.a": {"field": "name"}})

    assert filler.fill({"name": "x" * 511})
    with pytest.raises(TooLong):
        filler.fill({"name": "x" * 512})


def test_too_long_counts_as_a_missing_variable():
    assert issubclass(TooLong, MissingVariable)


def test_codes_have_limits_of_their_own():
    filler = prepare(CODE_AS_LISTED, "POSITIONAL", {"body.1": {"field": "code"}})

    with pytest.raises(TooLong, match="longer than 15"):
        filler.fill({"code": "1" * 16})


@given(st.dictionaries(st.sampled_from(["first_name", "code", "name"]), st.text()))
def test_whatever_the_contact_holds_the_message_keeps_metas_rules(values):
    filler = prepare(SALE, "POSITIONAL", MAPPED | {"button.1": {"field": "code", "fallback": "x"}})

    try:
        filled = filler.fill(values)
    except TooLong:
        return
    texts = [parameter["text"] for part in filled for parameter in part["parameters"] if parameter["type"] == "text"]
    for text in texts:
        assert text.strip() == text != ""
        assert not set(text) & set("\n\r\t\0")
        assert "     " not in text
        text.encode()
    assert texts[2].isascii()


WEIRD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.sampled_from(["BODY", "BUTTONS", "HEADER", "IMAGE", "{{1}}", "URL"]),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["type", "text", "format", "buttons", "example", "url"]), inner)
    ),
    max_leaves=20,
)


@given(WEIRD, WEIRD)
def test_weird_components_are_refused_or_read_and_never_crash(components, variables):
    slots(components, "POSITIONAL")
    preview(components, {})
    if isinstance(components, list):
        problems(components, "POSITIONAL", variables)


# --- for people --------------------------------------------------------------------------------------------------


def test_a_preview_reads_as_the_person_reads_it():
    texts = prepare(SALE, "POSITIONAL", MAPPED).texts({"first_name": "", "code": "a1"})

    assert preview(SALE, texts) == {
        "header": "[image] https://cdn.example.test/a.jpg",
        "body": "Hi there, our sale ends on 30 November, don't miss it.",
        "footer": "Reply STOP to opt out",
        "buttons": [
            {"kind": "QUICK_REPLY", "text": "Unsubscribe"},
            {"kind": "URL", "text": "Shop", "url": "https://shop.example.test/a1"},
            {"kind": "URL", "text": "Home", "url": "https://shop.example.test/"},
            {"kind": "PHONE_NUMBER", "text": "Call"},
            {"kind": "COPY_CODE", "text": ""},
        ],
    }


def test_a_preview_leaves_what_has_no_value():
    assert preview(body("Hi {{1}} and {{2}}"), {"body.2": "you"})["body"] == "Hi {{1}} and you"


# --- the command line --------------------------------------------------------------------------------------------


def test_the_mapping_of_a_command_line():
    pairs = [
        "1=contact.first_name|there",
        "body.2=30 November",
        "header=https://x.test/a.jpg?b=c",
        "button.0=contact.code",
        "first_name=contact.attributes.city",
        "header.1=a=b",
    ]

    assert parse_variables(pairs) == {
        "body.1": {"field": "first_name", "fallback": "there"},
        "body.2": {"text": "30 November"},
        "header": {"link": "https://x.test/a.jpg?b=c"},
        "button.0": {"field": "code"},
        "body.first_name": {"field": "attributes.city"},
        "header.1": {"text": "a=b"},
    }


@pytest.mark.parametrize(
    ("pair", "mapping"),
    [
        ("header=500000000000001", {"header": {"id": "500000000000001"}}),
        ("header=contact.photo", {"header": {"field": "photo"}}),
        ("1=contact.name|", {"body.1": {"field": "name"}}),
        ("1=contacts welcome | all", {"body.1": {"text": "contacts welcome | all"}}),
        (" 1 = x ", {"body.1": {"text": "x"}}),
    ],
)
def test_readings_of_a_pair(pair, mapping):
    assert parse_variables([pair]) == mapping


@pytest.mark.parametrize(
    "pair", ["", "1", "=x", "1=", "1= ", "footer.1=x", "button.x=1", "a b=c", "1=contact.", "1=contact.|x"]
)
def test_nonsense_is_refused_with_examples(pair):
    with pytest.raises(Refusal, match=r"1=contact\.first_name\|there"):
        parse_variables([pair])


def test_a_variable_given_twice_is_refused():
    with pytest.raises(Refusal, match=r"body\.1 is given twice"):
        parse_variables(["1=a", "body.1=b"])
