"""The road to Meta for messages: one POST each, never repeated, and what its answer proves."""

from __future__ import annotations

from datetime import timedelta
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlsplit

from kaanha.whatsapp.cloud_api.answers import (
    Accepted,
    Answer,
    NotMeta,
    Refused,
    Undelivered,
    Unknown,
    broken_off,
    read,
)
from kaanha.whatsapp.cloud_api.connections import BrokenOff, Connections, NotConnected
from kaanha.whatsapp.cloud_api.errors import classify

__all__ = ["Accepted", "Answer", "NotMeta", "Refused", "Sender", "Undelivered", "Unknown"]

CONNECT_AT_MOST = 10.0  # seconds
INVALID_TOKEN = 190


class Sender:
    """Posts messages over connections that stay open, `connections` at most; the rest of them wait.

    An async context manager, bound to the event loop that enters it. Takes no proxy from the environment, follows no
    redirect, keeps no cookies. A POST leaves at most once.
    """

    def __init__(self, api_url: str, *, timeout: timedelta, connections: int) -> None:
        self._api_url = api_url.rstrip("/")
        self._limit = connections
        self._timeout = timeout.total_seconds()
        # Time to connect, waiting for a free connection included, ends first: so that it can be told from the rest.
        self._connect = min(self._timeout / 2, CONNECT_AT_MOST)
        self._heads: dict[tuple[str, str], bytes] = {}

    async def __aenter__(self) -> Self:
        self._connections = Connections(self._api_url, limit=self._limit)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._connections.close()

    async def send(self, phone_number_id: str, token: str, body: bytes) -> Answer:
        """Post one message and say what became of it. Raises nothing for whatever the network or the server does."""
        if not (token.isascii() and token.isprintable()):
            return Refused(classify({"code": INVALID_TOKEN, "message": "The token holds characters that none has."}))
        request = b"%s%d\r\n\r\n%s" % (self._head(phone_number_id, token), len(body), body)
        try:
            response = await self._connections.ask(request, connect=self._connect, timeout=self._timeout)
        except NotConnected as error:
            return Undelivered(str(error))
        except BrokenOff as error:
            return Unknown(str(error)) if error.status is None else broken_off(error.status, str(error))
        return read(response.status, response.body)

    def _head(self, phone_number_id: str, token: str) -> bytes:
        """What comes before the length of the body: one for each number and token rather than for each message."""
        head = self._heads.get((phone_number_id, token))
        if head is None:
            url = urlsplit(f"{self._api_url}/{quote(phone_number_id, safe='')}/messages")
            lines = (
                f"POST {quote(url.path, safe='/%')} HTTP/1.1",
                f"Host: {url.netloc.rpartition('@')[2].encode('idna').decode()}",
                f"Authorization: Bearer {token}",
                "Content-Type: application/json",
                "Accept: application/json",
                "Accept-Encoding: identity",
                "User-Agent: Kaanha",
                "Content-Length: ",
            )
            head = self._heads[phone_number_id, token] = "\r\n".join(lines).encode()
        return head
