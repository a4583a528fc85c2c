"""Every fact in a callback is read by itself; nothing that Meta or a person writes breaks the others."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaanha.whatsapp.cloud_api.events import (
    READERS,
    AccountUpdate,
    Inbound,
    NumberChanged,
    NumberError,
    Other,
    Parsed,
    Preference,
    Problem,
    Receipt,
    TemplateCategory,
    TemplateQuality,
    TemplateStatus,
    parse,
)
from kaanha.whatsapp.cloud_api.limits import UNLIMITED

PAYLOADS = Path(__file__).parent.parent / "payloads" / "callbacks"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
NUMBER = "200000000000001"


def at(seconds):
    return datetime.fromtimestamp(seconds, UTC)


def changes(*changes, time=None):
    """A callback with these changes, each a field and a value."""
    entry = {"id": "300000000000001", "changes": [{"field": name, "value": value} for name, value in changes]}
    return json.dumps(
        {"object": "whatsapp_business_account", "entry": [entry | ({"time": time} if time else {})]}
    ).encode()


def messages(**members):
    """A callback of the field `messages`."""
    metadata = {"display_phone_number": "15555550100", "phone_number_id": NUMBER}
    return changes(("messages", {"messaging_product": "whatsapp", "metadata": metadata, **members}))


def status(**more):
    return {"id": "wamid.A", "status": "sent", "timestamp": "1795000031", "recipient_id": "15555550142"} | more


def message(kind="text", **more):
    return {"from": "15555550142", "id": "wamid.IN", "timestamp": "1795000100", "type": kind} | more


def example(name):
    return parse((PAYLOADS / f"{name}.json").read_bytes())


# --- receipts ----------------------------------------------------------------------------------------------------


def test_metas_example_of_a_delivered_message():
    assert example("delivered") == Parsed(
        receipts=[
            Receipt(
                phone_number_id=NUMBER,
                wamid="wamid.HBgLMTU1NTU1NTAxNDIVAgARGBI3QTBGMTIzNDU2Nzg5QUJDREVGAA==",
                status="delivered",
                at=at(1795000031),
                callback_data="msg:01JD8Z7Q",
                wa_id="15555550142",
                user_id="US.1000000000000000042",
            )
        ]
    )


def test_metas_example_of_a_failed_message():
    [receipt] = example("failed").receipts

    assert (receipt.status, receipt.callback_data, receipt.user_id) == ("failed", "msg:01JD8Z9K", None)
    assert receipt.error["code"] == 131049
    assert receipt.error["error_data"]["details"].startswith("In order to maintain")


@pytest.mark.parametrize("errors", [None, [], {}, "boom", ["boom"]])
def test_a_failure_without_errors_is_still_a_receipt(errors):
    [receipt] = parse(messages(statuses=[status(status="failed", errors=errors)])).receipts

    assert (receipt.status, receipt.error) == ("failed", None)


def test_a_status_of_tomorrow_comes_as_it_is():
    assert parse(messages(statuses=[status(status="Pondered")])).receipts[0].status == "pondered"


def test_the_shape_of_older_versions_is_read_as_well():
    conversation = {"id": "c", "expiration_timestamp": "1795086400", "origin": {"type": "marketing"}}

    assert parse(messages(statuses=[status(conversation=conversation)])).receipts[0].wamid == "wamid.A"


def test_all_receipts_of_a_large_body_are_read_in_order():
    rows = [status(id=f"wamid.{n}") for n in range(1000)]

    assert [receipt.wamid for receipt in parse(messages(statuses=rows)).receipts] == [f"wamid.{n}" for n in range(1000)]


def test_every_level_is_walked():
    value = {"metadata": {"phone_number_id": NUMBER}, "statuses": [status(), status(id="wamid.B")]}
    entry = {"id": "3", "changes": [{"field": "messages", "value": value}] * 2}

    assert len(parse(json.dumps({"entry": [entry, entry]}).encode()).receipts) == 8


BROKEN: list[object] = [
    None,
    7,
    "text",
    [],
    [{}],
    True,
    {},
    {"id": None},
    {"id": "wamid.X"},
    {"id": "x" * 300, "status": "sent"},
]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_status_leaves_its_neighbors(broken):
    parsed = parse(messages(statuses=[status(id="wamid.1"), broken, status(id="wamid.2")]))

    assert [receipt.wamid for receipt in parsed.receipts] == ["wamid.1", "wamid.2"]
    assert [problem.where for problem in parsed.problems] == ["entry[0].changes[0].value.statuses[1]"]


@pytest.mark.parametrize("broken", [None, 7, "text", [], {"field": "messages"}, {"field": "messages", "value": []}])
def test_a_broken_change_leaves_its_neighbors(broken):
    body = json.loads(messages(statuses=[status()]))
    body["entry"][0]["changes"].insert(0, broken)

    parsed = parse(json.dumps(body).encode())

    assert (len(parsed.receipts), [problem.where for problem in parsed.problems]) == (1, ["entry[0].changes[0]"])


@pytest.mark.parametrize("broken", [None, 7, "text", [], {}, {"changes": {}}])
def test_a_broken_entry_leaves_its_neighbors(broken):
    body = json.loads(messages(statuses=[status()]))
    body["entry"].insert(0, broken)

    parsed = parse(json.dumps(body).encode())

    assert (len(parsed.receipts), [problem.where for problem in parsed.problems]) == (1, ["entry[0].changes"])


@pytest.mark.parametrize("rows", [{}, "text", 7, True])
def test_what_stands_where_a_list_belongs_is_told(rows):
    parsed = parse(messages(statuses=rows, messages=[message(text={"body": "hi"})]))

    assert [problem.where for problem in parsed.problems] == ["entry[0].changes[0].value.statuses"]
    assert len(parsed.inbound) == 1


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe\x00", b"null", b"[]", b"7", b'{"entry":7}', b"[" * 100_000])
def test_what_is_no_callback_is_a_problem(body):
    assert len(parse(body).problems) == 1


@pytest.mark.parametrize("moment", [None, "", "soon", True, -1, 0, "1e400", 10**30, 1795000031000, [], {}, "nan"])
def test_an_absurd_timestamp_becomes_the_time_of_receipt(moment):
    body = messages(statuses=[status(timestamp=moment)])

    assert parse(body, received_at=NOW).receipts[0].at == NOW
    assert (parse(body).receipts, len(parse(body).problems)) == ([], 1)


@pytest.mark.parametrize("moment", ["1795000031", 1795000031, 1795000031.0])
def test_a_timestamp_is_text_or_a_number(moment):
    assert parse(messages(statuses=[status(timestamp=moment)]), received_at=NOW).receipts[0].at == at(1795000031)


def test_ids_may_be_numbers():
    value = {"metadata": {"phone_number_id": 200000000000001}, "statuses": [status(recipient_id=15555550142)]}

    [receipt] = parse(changes(("messages", value))).receipts

    assert (receipt.phone_number_id, receipt.wa_id) == (NUMBER, "15555550142")


def test_a_number_with_endless_digits_costs_nothing_else():
    body = messages(statuses=[status()]).replace(b'"1795000031"', b"9" * 5000)

    assert parse(body, received_at=NOW).receipts[0].at == NOW


def test_what_a_database_refuses_is_replaced():
    rows = [status(id="wamid.\0A", biz_opaque_callback_data="a\ud800b", errors=[{"title": "\0", "\0": [float("inf")]}])]

    [receipt] = parse(messages(statuses=rows)).receipts

    assert (receipt.wamid, receipt.callback_data) == ("wamid.\ufffdA", "a\ufffdb")
    assert receipt.error == {"title": "\ufffd", "\ufffd": [None]}


# --- inbound -----------------------------------------------------------------------------------------------------


def test_metas_example_of_a_text():
    parsed = example("text")
    [inbound] = parsed.inbound

    assert inbound == Inbound(
        phone_number_id=NUMBER,
        wamid="wamid.HBgLMTU1NTU1NTAxNDIVAgASGBQzQUFBAA==",
        wa_id="15555550142",
        user_id="US.1000000000000000042",
        name="Asha",
        kind="text",
        text="STOP",
        choice=None,
        quoted=None,
        payload=inbound.payload,
        at=at(1795000100),
    )
    assert inbound.payload["text"] == {"body": "STOP"}
    assert parsed.problems == []


QUOTE = {"from": "15555550100", "id": "wamid.OUT"}


@pytest.mark.parametrize(
    ("row", "text", "choice", "quoted"),
    [
        (message(text={"body": "hi"}, context=QUOTE), "hi", None, "wamid.OUT"),
        (message(text={"body": "hi"}, context={"forwarded": True}), "hi", None, None),
        (
            message("button", button={"payload": "stop:77", "text": "Unsubscribe"}, context=QUOTE),
            "Unsubscribe",
            "stop:77",
            "wamid.OUT",
        ),
        (message("button", button={"text": "Unsubscribe"}), "Unsubscribe", None, None),
        (
            message("interactive", interactive={"type": "button_reply", "button_reply": {"id": "b1", "title": "Yes"}}),
            "Yes",
            "b1",
            None,
        ),
        (
            message("interactive", interactive={"type": "list_reply", "list_reply": {"id": "l1", "title": "Two"}}),
            "Two",
            "l1",
            None,
        ),
        (
            message(
                "interactive", interactive={"type": "nfm_reply", "nfm_reply": {"body": "Sent", "response_json": "{}"}}
            ),
            "Sent",
            None,
            None,
        ),
        (message("interactive"), "", None, None),
        (message("image", image={"id": "1", "caption": "look"}), "look", None, None),
        (message("sticker", sticker={"id": "1"}), "", None, None),
        (message("reaction", reaction={"message_id": "wamid.OUT", "emoji": "😮"}), "", None, "wamid.OUT"),
        (message("reaction", reaction={"message_id": "wamid.OUT"}), "", None, "wamid.OUT"),
        (
            message("edit", edit={"original_message_id": "x", "message": {"type": "text", "text": {"body": "new"}}}),
            "new",
            None,
            None,
        ),
        (message("revoke", revoke={"original_message_id": "x"}), "", None, None),
        (message("unsupported", errors=[{"code": 131051}]), "", None, None),
        (message("text", text="STOP"), "", None, None),
        (message("text", text={"body": ["STOP"]}), "", None, None),
        (message("text", text={"body": "a\0b"}), "a\ufffdb", None, None),
    ],
)
def test_what_a_person_may_send(row, text, choice, quoted):
    parsed = parse(messages(messages=[row]))
    [inbound] = parsed.inbound

    assert (inbound.kind, inbound.text, inbound.choice, inbound.quoted) == (row["type"], text, choice, quoted)
    assert parsed.problems == []


@pytest.mark.parametrize(
    ("row", "contacts", "expected"),
    [
        (
            {},
            [{"wa_id": "15555550142", "user_id": "US.42", "profile": {"name": "Asha"}}],
            ("15555550142", "US.42", "Asha"),
        ),
        ({"from": None, "from_user_id": "US.42"}, [], (None, "US.42", "")),
        (
            {"from": None, "from_user_id": "US.42"},
            [{"user_id": "US.42", "profile": {"name": "Asha"}}],
            (None, "US.42", "Asha"),
        ),
        ({"from": None}, [{"user_id": "US.42", "profile": {"name": "Asha"}}], (None, "US.42", "Asha")),
        ({}, [{"wa_id": "15555550143", "profile": {"name": "Ben"}}], ("15555550142", None, "")),
        ({"from": "+15555550142"}, "contacts", ("15555550142", None, "")),
        ({}, [7, None, {"wa_id": 15555550142, "profile": {"name": 7}}], ("15555550142", None, "")),
    ],
)
def test_who_wrote(row, contacts, expected):
    body = messages(messages=[{**message(text={"body": "hi"}), **row}], contacts=contacts)

    assert [(each.wa_id, each.user_id, each.name) for each in parse(body).inbound] == [expected]


@pytest.mark.parametrize("row", [{"from": None}, {"from": "somebody"}, {"from": ""}, {"id": None}])
def test_a_message_of_nobody_or_without_an_id_is_a_problem(row):
    parsed = parse(messages(messages=[{**message(text={"body": "hi"}), **row}]))

    assert (parsed.inbound, len(parsed.problems)) == ([], 1)


def test_a_message_to_no_number_is_a_problem():
    parsed = parse(changes(("messages", {"messages": [message(text={"body": "hi"})]})))

    assert [problem.reason for problem in parsed.problems] == [
        "metadata.phone_number_id is missing or of the wrong kind"
    ]


def test_a_payload_too_deep_to_store_is_cut():
    deep: object = "end"
    for _ in range(100):
        deep = [deep]

    [inbound] = parse(messages(messages=[message(text={"body": "hi"}, order=deep)])).inbound

    assert json.dumps(inbound.payload).count("[") == 31


def test_a_system_notice_is_nothing_that_a_person_wrote():
    rows = [
        message("system", system={"type": "user_changed_number", "wa_id": "15555550199"}),
        message("system", system={"type": "customer_identity_changed"}),
        message("system", system={"type": "user_preference_changed", "marketing": "stop"}),
        message("system"),
    ]

    assert parse(messages(messages=rows)) == Parsed(
        number_changes=[NumberChanged(NUMBER, "15555550142", "15555550199", None, at(1795000100))],
        preferences=[Preference(NUMBER, "15555550142", None, "stop", at(1795000100))],
        others=[
            Other("300000000000001", "messages.system.customer_identity_changed"),
            Other("300000000000001", "messages.system."),
        ],
    )


def test_errors_of_the_number_stand_beside_its_messages():
    assert parse(messages(errors=[{"code": 130429}, 7])) == Parsed(
        number_errors=[NumberError(NUMBER, {"code": 130429})],
        problems=[Problem("entry[0].changes[0].value.errors[1]", "7 stands where an object belongs")],
    )


def test_metas_example_of_a_preference():
    assert example("user_preferences") == Parsed(
        preferences=[Preference(NUMBER, "15555550145", None, "stop", at(1795000500))]
    )


def test_a_preference_that_is_neither_stop_nor_resume_is_passed_over():
    row = {"wa_id": "15555550145", "value": "signup", "timestamp": 1795000500}

    assert parse(changes(("user_preferences", {"user_preferences": [row]}))) == Parsed(
        others=[Other("300000000000001", "user_preferences.signup")]
    )


# --- templates, numbers, accounts --------------------------------------------------------------------------------


def test_metas_example_of_a_paused_template():
    assert example("template_paused").template_statuses == [
        TemplateStatus(
            waba_id="300000000000001",
            meta_id="600000000000001",
            name="autumn_sale_v3",
            language="en_US",
            event="PAUSED",
            reason="",
            title="FIRST_PAUSE",
            detail="Paused for 3 hours until Nov 23 at 9:40 PM UTC ...",
            at=at(1795000000),
        )
    ]


def test_a_rejection_keeps_metas_advice():
    value = {
        "event": "REJECTED",
        "message_template_id": "6",
        "message_template_name": "x",
        "message_template_language": "en-US",
        "reason": "INVALID_FORMAT",
        "rejection_info": {"reason": "Bad format.", "recommendation": "Mend it."},
    }

    [event] = parse(changes(("message_template_status_update", value), time=1795000000)).template_statuses

    assert (event.reason, event.detail, event.language) == ("INVALID_FORMAT", "Bad format. Mend it.", "en_US")


TEMPLATE = {"message_template_id": 6, "message_template_name": "x", "message_template_language": "en_US"}


@pytest.mark.parametrize(
    ("value", "current", "coming", "coming_at"),
    [
        ({"new_category": "UTILITY", "correct_category": "MARKETING", "category_update_timestamp": 1795086400},
         "UTILITY", "MARKETING", at(1795086400)),
        ({"previous_category": "UTILITY", "new_category": "MARKETING"}, "MARKETING", None, None),
    ],
)  # fmt: skip
def test_a_change_of_category_and_the_warning_before_it(value, current, coming, coming_at):
    parsed = parse(changes(("template_category_update", TEMPLATE | value), time=1795000000))

    expected = TemplateCategory("300000000000001", "6", "x", "en_US", current, coming, coming_at, at(1795000000))
    assert parsed == Parsed(template_categories=[expected])


def test_the_quality_of_a_template():
    value = TEMPLATE | {"previous_quality_score": "GREEN", "new_quality_score": "YELLOW"}

    expected = TemplateQuality("300000000000001", "6", "x", "en_US", "YELLOW", "GREEN", at(1795000000))
    assert parse(changes(("message_template_quality_update", value), time=1795000000)) == Parsed(
        template_qualities=[expected]
    )


@pytest.mark.parametrize(
    "value", [{}, {"event": "PAUSED"}, TEMPLATE, [], None, {"message_template_id": [], "event": 7}]
)
def test_a_template_event_that_says_too_little_is_a_problem(value):
    parsed = parse(changes(("message_template_status_update", value), time=1795000000))

    assert (parsed.template_statuses, len(parsed.problems)) == ([], 1)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("phone_number_quality_update",
         {"display_phone_number": "+1 555-555-0100", "event": "THROUGHPUT_UPGRADE", "current_limit": "TIER_UNLIMITED"},
         ("15555550100", "THROUGHPUT_UPGRADE", UNLIMITED)),
        ("phone_number_quality_update", {"event": "ONBOARDING"}, ("", "ONBOARDING", None)),
        ("business_capability_update", {"max_daily_conversations_per_business": 2000}, ("", "", 2000)),
        ("business_capability_update", {"max_daily_conversations_per_business": "TIER_2K"}, ("", "", 2000)),
        ("business_capability_update", {"max_daily_conversations_per_business": -1}, ("", "", UNLIMITED)),
        ("business_capability_update", {"max_daily_conversations_per_business": "TIER_NOT_SET"}, ("", "", None)),
    ],
)  # fmt: skip
def test_limits_and_throughput(field, value, expected):
    [update] = parse(changes((field, value), time=1795000000)).number_updates

    assert (update.display_number, update.event, update.limit) == expected
    assert (update.waba_id, update.at) == ("300000000000001", at(1795000000))


def test_a_restricted_account():
    info = {"restriction_type": "RESTRICTED_BIZ_INITIATED_MESSAGING", "expiration": 1795259200}
    value = {"event": "ACCOUNT_RESTRICTION", "restriction_info": [info, 7]}

    assert parse(changes(("account_update", value), time=1795000000)) == Parsed(
        account_updates=[
            AccountUpdate(
                "300000000000001",
                "ACCOUNT_RESTRICTION",
                (("RESTRICTED_BIZ_INITIATED_MESSAGING", at(1795259200)),),
                value,
                at(1795000000),
            )
        ]
    )


def test_fields_that_nobody_asks_for_are_named():
    assert parse(changes(("flows", {"x": 1}), ("security", None))) == Parsed(
        others=[Other("300000000000001", "flows"), Other("300000000000001", "security")]
    )


# --- anything at all ---------------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    [
        "entry",
        "changes",
        "field",
        "value",
        "metadata",
        "phone_number_id",
        "statuses",
        "messages",
        "contacts",
        "id",
        "type",
        "status",
        "timestamp",
        "recipient_id",
        "errors",
        "pricing",
        "from",
        "text",
        "body",
        "system",
        "context",
        "wa_id",
        "user_preferences",
        "event",
        "message_template_id",
        "restriction_info",
        "other_info",
        "interactive",
        "edit",
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(
        ["messages", "account_update", "template_category_update", "text", "edit", "system", "1795000031"]
    )
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(), inner, max_size=8),
    max_leaves=30,
)


@given(JSON)
@settings(max_examples=300, deadline=None)
def test_no_json_raises(value):
    assert isinstance(parse(json.dumps(value).encode()), Parsed)


@given(st.sampled_from(sorted(READERS)), JSON)
@settings(max_examples=300, deadline=None)
def test_no_value_of_a_known_field_raises_or_costs_the_next_change(field, value):
    metadata = {"phone_number_id": NUMBER}

    parsed = parse(changes((field, value), ("messages", {"metadata": metadata, "statuses": [status(id="wamid.NEXT")]})))

    assert "wamid.NEXT" in [receipt.wamid for receipt in parsed.receipts]


@given(st.lists(JSON, max_size=4), st.sampled_from(["statuses", "messages", "user_preferences", "errors"]))
@settings(max_examples=300, deadline=None)
def test_no_member_of_a_list_raises_and_all_of_it_can_be_stored(rows, name):
    parsed = parse(messages(**{name: [*rows, status() if name == "statuses" else message(text={"body": "hi"})]}))

    for each in (*parsed.receipts, *parsed.inbound, *parsed.problems):
        assert "\0" not in repr(each)
        repr(each).encode()
    for inbound in parsed.inbound:
        stored = json.dumps(inbound.payload, allow_nan=False)
        assert "\\u0000" not in stored


@given(st.binary())
@settings(deadline=None)
def test_no_bytes_raise(body):
    assert isinstance(parse(body), Parsed)
