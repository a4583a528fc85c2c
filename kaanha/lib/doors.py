"""The door by which the present act came in: a request, a command, or neither, as with the workers.

An act that notes who did it asks here, so that no door can forget to say so.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

_request: ContextVar[HttpRequest | None] = ContextVar("door_request", default=None)
_command: ContextVar[str] = ContextVar("door_command", default="")


class Doors:
    """Middleware: the request is the door of everything that happens while it is answered."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        token = _request.set(request)
        try:
            return self.get_response(request)
        finally:
            _request.reset(token)


@contextmanager
def command(name: str) -> Iterator[None]:
    """What happens inside is done by the command of that name."""
    token = _command.set(name)
    try:
        yield
    finally:
        _command.reset(token)


def request() -> HttpRequest | None:
    """The request that is being answered."""
    return _request.get()


def command_name() -> str:
    """The command that runs; empty where none does."""
    return _command.get()


def address_of(request: HttpRequest) -> str | None:
    """The caller's IP address: behind a proxy, as it has seen it; None where that can't be known."""
    own = str(request.META.get("REMOTE_ADDR", ""))
    if settings.BEHIND_PROXY:
        # The last one is the proxy's own word; whatever stands before it was sent by the caller.
        own = request.headers.get("X-Forwarded-For", own).rpartition(",")[2]
    try:
        return str(ipaddress.ip_address(own.strip()))
    except ValueError:
        return None
