"""One id for each request: in the header of its answer and in every line that is logged on the way."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable
from contextvars import ContextVar

from django.http import HttpRequest, HttpResponseBase

HEADER = "X-Request-Id"
# Letters that stand in a log line as they are.
WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,128}")

NONE = "-"

_current: ContextVar[str] = ContextVar("request_id", default=NONE)


class RequestIds:
    """Middleware, the outermost: takes over the caller's id if it is well-formed, and gives a new one otherwise."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        sent = request.headers.get(HEADER, "")
        own = sent if WELL_FORMED.fullmatch(sent) else uuid.uuid4().hex
        token = _current.set(own)
        try:
            response = self.get_response(request)
        finally:
            _current.reset(token)
        response.headers[HEADER] = own
        return response


def current() -> str:
    """The id of the request that is being answered; empty outside of requests."""
    own = _current.get()
    return "" if own == NONE else own


class Filter(logging.Filter):
    """Gives each log record a `request_id`; outside of requests it is a dash."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = _current.get()
        return True
