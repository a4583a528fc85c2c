"""The one shape in which the API says that something went wrong.

    {"error": {"code": "invalid", "message": "contacts.3: Write …", "fields": {"contacts.3": ["Write …"]}}}

`code` is for programs, `message` for people; `fields` is there where members of the body are at fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, JsonResponse
from rest_framework import exceptions
from rest_framework.response import Response

from kaanha.lib.errors import Refusal

# Refusals by their codes. Every other one was understood and can't be done: 422.
REFUSED = {
    "already_enrolled": HTTPStatus.CONFLICT,
    "broadcast_not_found": HTTPStatus.NOT_FOUND,
    "contact_already": HTTPStatus.CONFLICT,
    "contact_not_found": HTTPStatus.NOT_FOUND,
    "delivery_is_test": HTTPStatus.CONFLICT,
    "delivery_not_found": HTTPStatus.NOT_FOUND,
    "delivery_pending": HTTPStatus.CONFLICT,
    "edited_meanwhile": HTTPStatus.PRECONDITION_FAILED,
    "endpoint_not_found": HTTPStatus.NOT_FOUND,
    "endpoint_off": HTTPStatus.CONFLICT,
    "enrollment_not_found": HTTPStatus.NOT_FOUND,
    "idempotency_key_busy": HTTPStatus.CONFLICT,
    "idempotency_key_malformed": HTTPStatus.BAD_REQUEST,
    "idempotency_key_reused": HTTPStatus.CONFLICT,
    "message_not_found": HTTPStatus.NOT_FOUND,
    "meta_unreachable": HTTPStatus.SERVICE_UNAVAILABLE,
    "not_connected": HTTPStatus.CONFLICT,
    "not_meta": HTTPStatus.BAD_GATEWAY,
    "nothing_changed": HTTPStatus.CONFLICT,
    "opted_out_by_contact": HTTPStatus.CONFLICT,
    "opted_out_since": HTTPStatus.CONFLICT,
    "phone_number_not_found": HTTPStatus.NOT_FOUND,
    "refused_by_meta": HTTPStatus.BAD_GATEWAY,
    "revision_not_found": HTTPStatus.NOT_FOUND,
    "sequence_not_active": HTTPStatus.CONFLICT,
    "sequence_not_found": HTTPStatus.NOT_FOUND,
    "tag_already": HTTPStatus.CONFLICT,
    "tag_in_use": HTTPStatus.CONFLICT,
    "tag_not_found": HTTPStatus.NOT_FOUND,
    "template_not_approved": HTTPStatus.CONFLICT,
    "template_not_found": HTTPStatus.NOT_FOUND,
    "token_invalid": HTTPStatus.BAD_GATEWAY,
    "too_many_endpoints": HTTPStatus.CONFLICT,
    "wrong_status": HTTPStatus.CONFLICT,
}
# What is wrong with the request itself, and with us.
CODES = {
    HTTPStatus.BAD_REQUEST: "malformed",
    HTTPStatus.UNAUTHORIZED: "unauthorized",
    HTTPStatus.FORBIDDEN: "forbidden",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.LENGTH_REQUIRED: "length_required",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too_large",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "unsupported_media_type",
    HTTPStatus.UNPROCESSABLE_ENTITY: "invalid",
    HTTPStatus.TOO_MANY_REQUESTS: "too_many_requests",
    HTTPStatus.INTERNAL_SERVER_ERROR: "server_error",
}
# In place of what the framework says, which doesn't tell what to do.
MESSAGES = {
    HTTPStatus.NOT_FOUND: "There is nothing at this address. Check its spelling and the ids in it.",
    HTTPStatus.METHOD_NOT_ALLOWED: "This address doesn't take this method. The header Allow lists those it takes.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "Send the body as JSON, with the header Content-Type: application/json.",
    HTTPStatus.TOO_MANY_REQUESTS: "That is too often. Wait for as many seconds as the header Retry-After says.",
}
# Errors that come before or after any view.
OUTSIDE = {
    HTTPStatus.BAD_REQUEST: "The request can't be read. Check its address and its headers.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "This is a fault of ours, and it was logged. Try again in a while.",
}
WHOLE = "non_field_errors"  # the framework's name for what is no single field's fault


class LengthRequired(exceptions.APIException):
    status_code = HTTPStatus.LENGTH_REQUIRED
    default_detail = "Say in the header Content-Length how long the body is; a chunked body isn't read."


class TooLarge(exceptions.APIException):
    status_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


def shape(code: str, message: str, fields: Mapping[str, list[str]] | None = None) -> dict[str, Any]:
    """The body of an answer that is an error."""
    error: dict[str, Any] = {"code": code, "message": message}
    if fields:
        error["fields"] = fields
    return {"error": error}


def answer(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """The answer to an error raised in a view; None for one that nobody foresaw, which Django logs."""
    if isinstance(error, Refusal):
        status = REFUSED.get(error.code, HTTPStatus.UNPROCESSABLE_ENTITY)
        return Response(shape(error.code, str(error), error.fields), status=status)
    if isinstance(error, exceptions.ValidationError):
        return Response(_invalid(error), status=HTTPStatus.UNPROCESSABLE_ENTITY)
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    return _known(error) if isinstance(error, exceptions.APIException) else None


def outside(status: HTTPStatus) -> JsonResponse:
    """The answer to a request that came to no view, or whose view broke."""
    return JsonResponse(shape(CODES[status], OUTSIDE[status]), status=status)


def _known(error: exceptions.APIException) -> Response:
    status = HTTPStatus(error.status_code)
    response = Response(shape(CODES[status], MESSAGES.get(status) or str(error.detail)), status=status)
    if challenge := getattr(error, "auth_header", None):
        response["WWW-Authenticate"] = challenge
    if wait := getattr(error, "wait", None):
        response["Retry-After"] = str(int(wait))
    return response


def _invalid(error: exceptions.ValidationError) -> dict[str, Any]:
    """The first fault in the message, all of them in `fields`."""
    faults = list(_faults(error.detail))
    path, sentence = faults[0]
    fields: dict[str, list[str]] = {}
    for place, told in faults:
        if place:
            fields.setdefault(place, []).append(told)
    return shape(CODES[HTTPStatus.UNPROCESSABLE_ENTITY], f"{path}: {sentence}" if path else sentence, fields)


def _faults(detail: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Each fault with the path to its member, such as `contacts.3`; the path is empty for the whole body."""
    if isinstance(detail, Mapping):
        for name, inner in detail.items():
            yield from _faults(inner, path if name == WHOLE else f"{path}.{name}".lstrip("."))
    elif isinstance(detail, list):
        for place, inner in enumerate(detail):
            yield from _faults(inner, path if isinstance(inner, str) else f"{path}.{place}".lstrip("."))
    else:
        yield path, str(detail)
