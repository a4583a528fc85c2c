"""What the API takes for JSON, and how it writes it."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from rest_framework import serializers
from rest_framework.exceptions import ParseError

from kaanha.lib.api_json import Body, Renderer, Text, camel, loads


class Person(Body):
    first_name = Text()
    opted_in = serializers.BooleanField(default=False)


class Moment(Body):
    created_at = serializers.DateTimeField()


def faults(body):
    person = Person(data=body)
    person.is_valid()
    return {name: [str(sentence) for sentence in sentences] for name, sentences in person.errors.items()}


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": [1, 2.5, null, true, "x"]}', {"a": [1, 2.5, None, True, "x"]}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        ('"सीता 🙂"'.encode(), "सीता 🙂"),
        (rb'"\ud83d\ude42"', "🙂"),
        (rb'"\\u0000"', r"\u0000"),
        (b'[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
        (b"1e308", 1e308),
    ],
)
def test_what_is_json_is_read(body, value):
    assert loads(body) == value


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "The body is not JSON (Expecting property name enclosed in double quotes, line 1, column 2)."),
        (b"", "The body is not JSON (Expecting value, line 1, column 1)."),
        (b'"a" "b"', "The body is not JSON (Extra data, line 1, column 5)."),
        (b'"\xff"', "The body is not UTF-8."),
        (b'"\xed\xa0\x80"', "The body is not UTF-8."),
        (b"[" * 500_000, "The JSON is nested too deeply."),
        (b'{"a":' * 150_000, "The JSON is nested too deeply."),
        (b"9" * 5_000, "The JSON holds a number with thousands of digits."),
        (b"[1e400]", "The number '1e400' is too large to be kept."),
        (b"[-1e400]", "The number '-1e400' is too large to be kept."),
        (b'{"a": NaN}', "The JSON holds NaN, which is no number."),
        (b"[-Infinity]", "The JSON holds -Infinity, which is no number."),
        (b'{"a": 1, "b": 2, "a": 3}', "The JSON says 'a' more than once in one object."),
        (rb'{"a": ["x\u0000y"]}', r"The text 'x\x00y' holds a zero character."),
        (rb'{"\u0000": 1}', r"The text '\x00' holds a zero character."),
        (rb'[["\ud800"]]', r"The text '\ud800' holds half a letter"),
        (rb'{"x\udfff": 1}', r"The text 'x\udfff' holds half a letter"),
    ],
)
def test_what_can_not_be_taken_is_refused_with_what_to_do(body, sentence):
    with pytest.raises(ParseError) as refused:
        loads(body)

    assert str(refused.value.detail).startswith(sentence)
    assert str(refused.value.detail).encode()


def test_a_name_that_is_there_twice_is_found_quickly_among_many():
    names = ",".join(f'"{number}":0' for number in range(60_000))

    with pytest.raises(ParseError, match="says '59999' more than once"):
        loads(f'{{{names},"59999":0}}'.encode())


def test_names_are_camel_case_outside():
    assert [camel(name) for name in ("phone", "opted_in", "first_read_at")] == ["phone", "optedIn", "firstReadAt"]
    assert faults({"firstName": "Asha", "optedIn": True}) == {}

    person = Person(data={"firstName": "Asha"})
    assert person.is_valid()
    assert person.validated_data == {"first_name": "Asha", "opted_in": False}
    assert Person({"first_name": "Asha", "opted_in": True}).data == {"firstName": "Asha", "optedIn": True}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, {"firstName": ["It is missing. Send it."]}),
        ({"firstName": None}, {"firstName": ["It is null. Send a text."]}),
        ({"firstName": " "}, {"firstName": ["It is empty. Fill it in."]}),
        ({"firstName": 7}, {"firstName": ["Write it as a text, in quotes."]}),
        ({"firstName": ["Asha"]}, {"firstName": ["Write it as a text, in quotes."]}),
        ([], {"non_field_errors": ["Send a JSON object, with names and values in braces."]}),
        ("Asha", {"non_field_errors": ["Send a JSON object, with names and values in braces."]}),
    ],
)
def test_a_body_that_does_not_fit_says_where(body, told):
    assert faults(body) == told


def test_a_misspelled_name_is_refused_not_ignored():
    sentence = "There is no such member. There are: firstName, optedIn."

    assert faults({"firstName": "Asha", "opted_in": True, "": 1}) == {"": [sentence], "opted_in": [sentence]}


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=30))])
def test_times_are_written_in_utc(zone):
    at = datetime(2026, 3, 1, 9, 30, tzinfo=UTC).astimezone(zone)

    assert Renderer().render({"at": at}) == b'{"at":"2026-03-01T09:30:00Z"}'
    assert Renderer().render(Moment({"created_at": at}).data) == b'{"createdAt":"2026-03-01T09:30:00Z"}'
