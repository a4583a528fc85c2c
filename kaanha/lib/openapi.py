"""The API described as OpenAPI 3.1: what each address takes and gives, said beside the code that does it.

    class ContactsAPI(OwnedAPI):
        @described("contacts_list", query=ContactsQuery, answers={200: page_of(ContactShown)})
        def get(self, request: Request) -> Response: ...

The operation id is for generated clients and doesn't change. Errors that every address can answer with are added here.
Shapes are `Body` classes: those of answers are called `…Shown` in code, and go without that ending outside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, TypeVar

from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.serializers import DictField, IntegerField, ListField, Serializer

from kaanha.lib.api_json import Body, Text

Handler = TypeVar("Handler", bound=Callable[..., Any])
Answers = Mapping[Any, Any]

BEARER = "key"
# What any request can be answered with; a body adds the others.
ALWAYS = (400, 401, 403, 411, 429)
WITH_BODY = (413, 415, 422)
WITH_QUERY = (422,)
SHOWN = "Shown"
SENTENCE_END = re.compile(r"(?<=\.) ")
COST = re.compile(r"\bquer(y|ies)\b")
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="Of your choice, up to 255 visible ASCII letters. The same key with the same request is answered as "
    "it was the first time, for 24 hours, and nothing is done twice; with another request it is 409.",
)
IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    description="The ETag of the version that you have read: nothing is changed (412) where there is a newer one.",
)


def _told(name: str, kind: Any, description: str) -> OpenApiParameter:
    return OpenApiParameter(name, kind, OpenApiParameter.HEADER, description=description, response=True)


HEADERS = (
    _told("X-Request-Id", str, "In every line of the log that the request caused."),
    _told("RateLimit-Limit", int, "Requests that the key may make in a window."),
    _told("RateLimit-Remaining", int, "How many of them are left."),
    _told("RateLimit-Reset", int, "Seconds until the window is empty again."),
)


class FaultShown(Body):
    code = Text(help_text="For programs; it doesn't change.")
    message = Text(help_text="For people; it may change.")
    fields_ = DictField(child=ListField(child=Text()), required=False, help_text="Sentences by the member at fault.")


class ErrorShown(Body):
    error = FaultShown()


def described(
    operation: str,
    *,
    answers: Answers,
    body: Any = None,
    query: type[Serializer[Any]] | None = None,
    errors: Collection[int] = (),
    versioned: bool = False,
    example: Any = None,
) -> Callable[[Handler], Handler]:
    """Say of a handler what it is called, takes and answers.

    `answers` are shapes by status, None where there is no body; a status may be a pair with a media type. `errors`
    are the statuses of its own besides those that every address has; `versioned` is one that heeds If-Match.
    `example` is a body that works as it stands once its ids (`"ct_…"`) are replaced by real ones: a test sends it.
    """

    def mark(handler: Handler) -> Handler:
        posts, changes = handler.__name__ == "post", handler.__name__ in ("post", "put", "patch")
        statuses = {*ALWAYS, *errors, *(WITH_BODY if changes else ()), *(WITH_QUERY if query else ())}
        statuses |= {409} if posts else set()
        statuses |= {412} if versioned else set()
        told = {status: _answer(status, shape) for status, shape in answers.items()}
        told |= {status: OpenApiResponse(ErrorShown, HTTPStatus(status).phrase) for status in sorted(statuses)}
        parameters: list[Any] = [*HEADERS, *([query] if query else []), *([IDEMPOTENCY_KEY] if posts else [])]
        parameters += [IF_MATCH] if versioned else []
        summary, description = _told_in(handler.__doc__ or "")
        shown = [OpenApiExample("Example", example, request_only=True)] if example is not None else None
        marked: Handler = extend_schema(
            operation_id=operation,
            summary=summary,
            description=description,
            request=body,
            responses=told,
            parameters=parameters,
            tags=[operation.partition("_")[0]],
            examples=shown,
        )(handler)
        return marked

    return mark


@cache
def page_of(shape: type[Body]) -> type[Body]:
    """The shape of a page of them, as `pagination.paged` answers it."""
    return _page(shape, page=IntegerField(required=False), total=IntegerField(required=False))


@cache
def cursor_page_of(shape: type[Body]) -> type[Body]:
    """The same of a list that has cursors alone."""
    return _page(shape)


def _page(shape: type[Body], **numbers: Any) -> type[Body]:
    members = {"data_": shape(many=True), "limit": IntegerField(), **numbers, "next_cursor": Text(allow_null=True)}
    return type(f"{shape.__name__.removesuffix(SHOWN)}Page", (Body,), members)


class Schema(AutoSchema):
    """What the framework makes of a view, and what this API is strict about: no member that isn't named."""

    def get_serializer_name(self, serializer: Any, direction: Any) -> str:
        return super().get_serializer_name(serializer, direction).removesuffix(SHOWN)

    def _map_serializer(self, serializer: Any, direction: Any, bypass_extensions: bool = False) -> Any:
        schema = super()._map_serializer(serializer, direction, bypass_extensions)
        if isinstance(serializer, Body) and "properties" in schema:
            schema["additionalProperties"] = False
        return schema

    def _get_parameters(self) -> list[Any]:
        """Without the key for repeating where the view says that it doesn't heed one."""
        told: list[Any] = super()._get_parameters()
        heeds = getattr(self.view, "idempotent", True)
        return [one for one in told if heeds or one["name"] != IDEMPOTENCY_KEY.name]

    def get_auth(self) -> list[Any]:
        return [{BEARER: []}] if self.view.authentication_classes else []


def without_last_slash(endpoints: list[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """The addresses as they are documented; with a slash at the end they are the same. A hook before the document."""
    return [(path.rstrip("/"), regex, method, view) for path, regex, method, view in endpoints]


@cache
def document(patterns: str) -> dict[str, Any]:
    """The OpenAPI document of the addresses in the module of that name. Made once in a process."""
    made: dict[str, Any] = SchemaGenerator(urlconf=patterns).get_schema(request=None, public=True)
    return made


def _told_in(docstring: str) -> tuple[str, str]:
    """The first sentence without its full stop, and all sentences but those that say what it costs us."""
    sentences = [one for one in SENTENCE_END.split(" ".join(docstring.split())) if not COST.search(one)]
    return sentences[0].rstrip("."), " ".join(sentences)


def _answer(status: Any, shape: Any) -> OpenApiResponse:
    code = status[0] if isinstance(status, tuple) else status
    return OpenApiResponse(shape, HTTPStatus(code).phrase)
