"""JSON as the API takes and gives it: UTF-8, names in camelCase, times in UTC, nothing that breaks what comes after."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NoReturn

from drf_spectacular.utils import extend_schema_field
from rest_framework.exceptions import ParseError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.serializers import CharField, Field, Serializer, ValidationError
from rest_framework.utils.encoders import JSONEncoder

from kaanha.lib.api_errors import LengthRequired, TooLarge

MEDIA_TYPE = "application/json"
MAX_BYTES = 1024 * 1024
FIRST_SURROGATE, LAST_SURROGATE = "\ud800", "\udfff"


class JSON(BaseParser):
    """Reads a body of at most 1 MB. Raises ParseError for what is no JSON, says something twice or holds no text."""

    media_type = MEDIA_TYPE

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        # From the stream, whose length the framework has not limited yet.
        body = stream.read(MAX_BYTES + 1)
        if len(body) > MAX_BYTES:
            raise TooLarge("The body is larger than 1 MB. Send less at a time.")
        return loads(body)


class Encoder(JSONEncoder):
    def default(self, obj: Any) -> Any:
        return super().default(obj.astimezone(UTC) if isinstance(obj, datetime) else obj)


class Renderer(JSONRenderer):
    encoder_class = Encoder


class Negotiation(BaseContentNegotiation):
    """JSON in, JSON out, whatever the request says that it accepts."""

    def select_parser(self, request: Request, parsers: Any) -> BaseParser | None:
        said = (request.content_type or "").partition(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == said), None)

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> tuple[BaseRenderer, str]:
        return renderers[0], MEDIA_TYPE


class Text(CharField):
    """A text; numbers aren't taken for one."""

    default_error_messages = {
        "required": "It is missing. Send it.",
        "null": "It is null. Send a text.",
        "blank": "It is empty. Fill it in.",
        "invalid": "Write it as a text, in quotes.",
    }

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


@extend_schema_field({"type": "boolean"})
class YesNo(Field[bool, Any, Any, Any]):
    """true or false; words and numbers aren't taken for them."""

    default_error_messages = {"required": "It is missing. Send it.", "invalid": "Write true or false, without quotes."}
    default_error_messages["null"] = default_error_messages["invalid"]

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid")
        return data


class Body(Serializer[Any]):
    """What an endpoint takes or gives: fields are named `like_this` in code and `likeThis` outside.

    A name that the framework needs for itself gets an underscore at its end: `source_` is `source` outside. A member
    that isn't a field is refused: a misspelled name would be ignored without a word.
    """

    default_error_messages = {"invalid": "Send a JSON object, with names and values in braces."}

    def get_fields(self) -> dict[str, Field[Any, Any, Any, Any]]:
        fields = {}
        for name, field in super().get_fields().items():
            outside = camel(name)
            if outside != name and field.source is None:
                field.source = name
            fields[outside] = field
        return fields

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := sorted(data.keys() - self.fields.keys())):
            known = ", ".join(self.fields)
            raise ValidationError({name: [f"There is no such member. There are: {known}."] for name in unknown})
        return super().to_internal_value(data)


class Nothing(Body):
    """For an act that needs no more said: an empty body, or none."""


def camel(name: str) -> str:
    """`opted_in` as `optedIn`, `source_` as `source`."""
    first, *others = name.removesuffix("_").split("_")
    return first + "".join(map(str.capitalize, others))


def loads(body: bytes) -> Any:
    """What the bytes say. ParseError, with what to do, for everything that can't be taken as it stands."""
    try:
        value = json.loads(
            body.decode("utf-8-sig"),
            object_pairs_hook=_members,
            parse_float=_fraction,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError:
        raise ParseError("The body is not UTF-8. Send JSON in UTF-8.") from None
    except RecursionError:
        raise ParseError("The JSON is nested too deeply. No endpoint takes more than a few levels.") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ParseError(f"The body is not JSON ({error.msg}, {place}). Correct it there.") from None
    except ValueError:
        raise ParseError("The JSON holds a number with thousands of digits. Send a smaller one.") from None
    _check_texts(value)
    return value


def refuse_chunked(request: Request) -> None:
    """A body whose length isn't told would look empty: LengthRequired says so."""
    if "chunked" in request.headers.get("Transfer-Encoding", "").lower():
        raise LengthRequired


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ParseError(f"The JSON says {_short(twice)} more than once in one object. Keep one of them.")
    return members


def _fraction(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ParseError(f"The number {_short(digits)} is too large to be kept. Send a smaller one.")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ParseError(f"The JSON holds {name}, which is no number. Leave it out.")


def _check_texts(value: Any) -> None:
    # PostgreSQL keeps no zero bytes, and half a letter can't be written in any answer.
    for text in _texts(value):
        if "\0" in text:
            raise ParseError(f"The text {_short(text)} holds a zero character. Remove it.")
        if not text.isascii() and any(FIRST_SURROGATE <= letter <= LAST_SURROGATE for letter in text):
            raise ParseError(f"The text {_short(text)} holds half a letter (a lone surrogate). Remove it.")


def _texts(value: Any) -> Iterator[str]:
    """Every text inside, names of members included."""
    open_values = [value]
    while open_values:
        one = open_values.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            open_values += one.keys()
            open_values += one.values()
        elif isinstance(one, list):
            open_values += one


def _short(text: str) -> str:
    return ascii(text if len(text) <= 30 else f"{text[:29]}…")
