"""The road to Meta for messages: one POST each, never repeated, and what its answer proves."""

from __future__ import annotations

from datetime import timedelta
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

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
from kaanha.whatsapp.cloud_api.errors import classify

__all__ = ["Accepted", "Answer", "NotMeta", "Refused", "Sender", "Undelivered", "Unknown"]

ANSWER_LIMIT = 2**20
# Servers commonly close what has been idle for five seconds; a request written into that moment is lost in doubt.
IDLE = timedelta(seconds=4)
CONNECT_AT_MOST = timedelta(seconds=10)
HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    # aiohttp asks for compression by itself; answers are a few hundred bytes. Said so, it is cheaper than left out.
    "Accept-Encoding": "identity",
    "User-Agent": "Kaanha",
}
INVALID_TOKEN = 190


class Sender:
    """Posts messages over connections that stay open, `connections` at most; the rest of them wait.

    An async context manager, bound to the event loop that enters it. Takes no proxy from the environment, follows no
    redirect, keeps no cookies. aiohttp repeats a request on a stale connection for idempotent methods only, so a POST
    leaves at most once.
    """

    def __init__(self, api_url: str, *, timeout: timedelta, connections: int) -> None:
        self._api_url = api_url.rstrip("/")
        self._connections = connections
        self._timeout = _timeouts(timeout)
        # One of each per number and token rather than per message.
        self._urls: dict[str, URL] = {}
        self._headers: dict[str, dict[str, str]] = {}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=IDLE.total_seconds()),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
            headers=HEADERS,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._session.close()

    async def send(self, phone_number_id: str, token: str, body: bytes) -> Answer:
        """Post one message and say what became of it. Raises nothing for whatever the network or the server does."""
        if not (token.isascii() and token.isprintable()):
            return Refused(classify({"code": INVALID_TOKEN, "message": "The token holds characters that none has."}))
        try:
            async with self._session.post(
                self._url(phone_number_id), data=body, headers=self._authorization(token), allow_redirects=False
            ) as response:
                return await _read(response)
        # The connection never came to be: not a byte has left.
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return Undelivered(_reason(error))
        except (aiohttp.ClientError, OSError) as error:
            return Unknown(_reason(error))

    def _url(self, phone_number_id: str) -> URL:
        url = self._urls.get(phone_number_id)
        if url is None:
            url = self._urls[phone_number_id] = URL(f"{self._api_url}/{phone_number_id}/messages")
        return url

    def _authorization(self, token: str) -> dict[str, str]:
        headers = self._headers.get(token)
        if headers is None:
            headers = self._headers[token] = {"Authorization": f"Bearer {token}"}
        return headers


def _timeouts(timeout: timedelta) -> aiohttp.ClientTimeout:
    """Time to connect, waiting for a free connection included, ends first: so that it can be told from the rest."""
    connect = min(timeout / 2, CONNECT_AT_MOST)
    return aiohttp.ClientTimeout(total=timeout.total_seconds(), connect=connect.total_seconds())


async def _read(response: aiohttp.ClientResponse) -> Answer:
    body = bytearray()
    try:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > ANSWER_LIMIT:
                return broken_off(response.status, "longer than a megabyte")
    except (aiohttp.ClientError, OSError) as error:
        return broken_off(response.status, _reason(error))
    return read(response.status, bytes(body))


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
