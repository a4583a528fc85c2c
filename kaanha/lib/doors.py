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
    """The caller's IP address; None where that can't be known, as on a socket.

    Behind proxies it is what the outermost of ours wrote into X-Forwarded-For: each appends the address that it saw, so
    what a caller itself puts there stands further left and is never read. Without a proxy the header isn't read.
    """
    own = _address(str(request.META.get("REMOTE_ADDR", "")))
    if not settings.BEHIND_PROXY:
        return own
    seen = [one for one in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",") if one.strip()]
    # Fewer than our proxies: it came by a shorter way, and the first entry is still one that ours has written.
    return _address(seen[-min(settings.PROXY_COUNT, len(seen))]) if seen else own


def _address(text: str) -> str | None:
    """The address, without the port that some proxies write beside it."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return str(getattr(found, "ipv4_mapped", None) or found)
