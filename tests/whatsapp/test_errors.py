"""One table decides what an error means, wherever it comes from and however it is written."""

from datetime import timedelta

import pytest

from kaanha.whatsapp.cloud_api.errors import MEANINGS, ErrorClass, classify

C = ErrorClass

# Each class with every code that the reference puts into it.
CODES = {
    C.TRANSIENT: [1, 2, 131000, 131016, 133004, 133015],
    C.THROUGHPUT: [4, 613, 80007, 130429, 131057],
    C.PAIR_RATE: [131056],
    C.MARKETING_LIMIT: [130472, 131049],
    C.OPT_OUT: [131050],
    C.COUNTRY: [130497],
    C.RECIPIENT: [130403, 131021, 131026, 131030, 131062, 137000],
    C.TEMPLATE: [131063, 132000, 132001, 132007, 132012, 132015, 132016, 132068, 132069, 134100, 134101, 134102],
    C.ACCOUNT: [0, 3, 10, 33, 104, 190, 200, 203, 299, 368, 131005, 131031, 131037, 131042, 131045, 131048, 131064,
                133000, 133005, 133006, 133008, 133009, 133010, 133016, 134011],
    C.OURS: [100, 130501, 131008, 131009, 131047, 131051, 131052, 131053, 131055, 132005, 132008, 132018, 135000,
             139000, 139004, 139100, 139103],
}  # fmt: skip


@pytest.mark.parametrize(("expected", "code"), [(kind, code) for kind, codes in CODES.items() for code in codes])
def test_every_known_code_has_its_class_on_both_roads(expected, code):
    error = {"code": code, "message": "…"}

    # The HTTP status adds nothing to a known code: 400 covers throttles, 500 what never heals.
    assert {classify(error, http_status=status).error_class for status in (None, 400, 401, 429, 500)} == {expected}


def test_the_list_above_is_complete():
    listed = {code for codes in CODES.values() for code in codes}

    assert set(MEANINGS) - listed == {139001, 139002, 139003, 139101, 139102}


@pytest.mark.parametrize("code", sorted(MEANINGS))
def test_every_meaning_is_a_sentence_for_people(code):
    words = MEANINGS[code].words

    assert words.endswith(".")
    assert words[0].isupper()
    assert "  " not in words


@pytest.mark.parametrize(
    ("error", "http_status", "expected"),
    [
        ({"code": 999999}, None, C.UNKNOWN),
        ({"code": 999999}, 400, C.UNKNOWN),
        ({"code": 999999}, 500, C.TRANSIENT),
        ({"code": 999999}, 503, C.TRANSIENT),
        ({"code": 999999, "is_transient": True}, 400, C.TRANSIENT),
        ({"code": 999999, "is_transient": "true"}, 400, C.UNKNOWN),
        ({"code": 999999}, 401, C.ACCOUNT),
        ({"code": 999999}, 429, C.THROUGHPUT),
        ({"code": 131045, "is_transient": True}, 500, C.ACCOUNT),
        ({}, 500, C.TRANSIENT),
        ({}, None, C.UNKNOWN),
        ({"code": 100, "error_subcode": 33}, 400, C.ACCOUNT),
        ({"code": 100, "error_subcode": "33"}, 400, C.ACCOUNT),
        ({"code": 100, "error_subcode": 2388024}, 400, C.OURS),
        ({"code": 190, "error_subcode": 463}, 401, C.ACCOUNT),
        ({"code": 300}, 400, C.UNKNOWN),
        ({"code": 199}, 400, C.UNKNOWN),
    ],
)
def test_what_the_code_alone_does_not_say(error, http_status, expected):
    assert classify(error, http_status=http_status).error_class == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("131026", 131026),
        (131026, 131026),
        (True, None),
        (131026.0, None),
        ("", None),
        ("abc", None),
        (None, None),
        ([131026], None),
        (10**30, None),
        ("9" * 5000, None),
    ],
)
def test_a_code_may_be_written_in_any_way(code, expected):
    assert classify({"code": code}).code == expected


@pytest.mark.parametrize("error", [None, [], "boom", 7])
def test_what_is_no_error_object_is_unknown(error):
    assert classify(error).error_class == C.UNKNOWN


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ({"message": "(#1) Boom"}, "(#1) Boom"),
        ({"title": "Boom.", "message": "Boom."}, "Boom."),
        ({"title": "Boom.", "error_data": {"details": "It broke."}}, "Boom: It broke."),
        ({"message": "Boom", "error_data": "It broke."}, "Boom: It broke."),
        ({"message": "Boom", "error_data": ["?"]}, "Boom"),
        ({"error_data": {"details": "It broke."}}, "It broke."),
        (
            {"message": "Bad", "error_user_title": "Name taken", "error_user_msg": "Take another."},
            "Name taken: Take another.",
        ),
        ({"message": {"a": 1}}, ""),
        ({"message": "a\0b\ud800"}, "a\ufffdb\ufffd"),
        ({"message": "x" * 900}, "x" * 500),
    ],
)
def test_the_text_is_metas_own_and_fits_the_database(error, text):
    assert classify(error).text == text


@pytest.mark.parametrize(
    ("code", "after"),
    [
        (131049, timedelta(hours=24)),
        (131026, timedelta(hours=24)),
        (131000, timedelta(minutes=10)),
        (131042, timedelta(0)),
        (132015, timedelta(0)),
        (131050, None),
        (130472, None),
        (131021, None),
        (100, None),
    ],
)
def test_when_a_follow_up_is_worth_it(code, after):
    assert classify({"code": code}).follow_up_after == after


def test_a_failure_without_a_reason_deserves_one_later_try():
    assert classify({}).follow_up_after == timedelta(hours=24)
    assert classify({"code": 999999}).follow_up_after is None
