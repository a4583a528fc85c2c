"""Connections of HTTP/1.1 that stay open, for one POST at a time each, and the certainty whether it may have left.

Written by hand, on asyncio's transports and httptools' parser, for that certainty and for its cost: a general client
takes more of a message's CPU than all the rest of sending it does (docs/decisions/sending-speaks-http-itself.md).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httptools
from aiohappyeyeballs import start_connection

ANSWER_LIMIT = 2**20  # bytes
# Servers commonly close what has been idle for five seconds; a request written into that moment is lost in doubt.
IDLE = 4.0
RESOLVED = 10.0  # seconds for which the server's addresses are believed
SECOND_ADDRESS = 0.25  # seconds until the next address is tried beside the first. Source: RFC 8305, "Summary"


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer."""

    status: int
    body: bytes


class NotConnected(Exception):
    """There was no connection: not a byte has left. The text says why."""


class BrokenOff(Exception):
    """The request may have left, and no complete answer came; `status` is the answer's, where that much came."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class Connections:
    """Up to `limit` connections to the server of `url`; further requests wait until one is free.

    Bound to the event loop that uses it. Takes no proxy from the environment. Never sends a request twice.
    """

    def __init__(self, url: str, *, limit: int) -> None:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        self.host = (parts.hostname or "").encode("idna").decode()
        self.port = parts.port or (443 if secure else 80)
        self._tls = _tls() if secure else None
        self._free = asyncio.Semaphore(limit)
        self._idle: list[_Connection] = []
        self._resolving = asyncio.Lock()
        self._addresses: list[Any] = []
        self._resolved_until = 0.0

    async def ask(self, request: bytes, *, connect: float, timeout: float) -> Response:
        """Send these bytes over a free connection and read the answer, within `timeout` seconds.

        Raises NotConnected where there is no connection within `connect` seconds, and BrokenOff for all that may happen
        afterward.
        """
        until = asyncio.get_running_loop().time() + timeout
        try:
            # Without the wait, where there need be none: this is every message's way.
            connection = self._kept() if not self._free.locked() else None
            if connection:
                await self._free.acquire()
            else:
                async with asyncio.timeout(connect):
                    connection = await self._taken()
        except TimeoutError as error:
            raise NotConnected(str(error) or f"no free connection within {connect:g} s") from error
        # No address, refused, TLS that fails; uvloop has RuntimeErrors for some of it.
        except (OSError, UnicodeError, RuntimeError) as error:
            raise NotConnected(_reason(error)) from error
        try:
            response = await connection.ask(request, until)
        finally:
            self._free.release()
            if connection.usable:
                self._idle.append(connection)
            else:
                connection.drop()
        return response

    async def close(self) -> None:
        """Close what is idle. Nothing may be asked any more."""
        while self._idle:
            self._idle.pop().drop()
        await asyncio.sleep(0)  # transports close in the next round of the loop

    def _kept(self) -> _Connection | None:
        """The connection that was used last, if it is still good."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if now - connection.since < IDLE and connection.is_quiet():
                return connection
            connection.drop()
        return None

    async def _taken(self) -> _Connection:
        await self._free.acquire()
        try:
            if kept := self._kept():
                return kept
            connection = await self._opened()
            if not connection.is_quiet():
                connection.drop()
                raise ConnectionError("the server ended it before it was asked")
            return connection
        except BaseException:
            self._free.release()
            raise

    async def _opened(self) -> _Connection:
        loop = asyncio.get_running_loop()
        async with self._resolving:
            if loop.time() >= self._resolved_until:
                self._addresses = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
                self._resolved_until = loop.time() + RESOLVED
        sock = await start_connection(self._addresses, happy_eyeballs_delay=SECOND_ADDRESS)
        server = self.host if self._tls else None
        _, connection = await loop.create_connection(
            lambda: _Connection(sock), sock=sock, ssl=self._tls, server_hostname=server
        )
        return connection


class _Connection(asyncio.Protocol):
    """One connection, and the answer that it waits for."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.usable = False
        self.since = 0.0  # when it was last used
        self._answer: asyncio.Future[Response] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._received = 0  # bytes
        self._status: int | None = None
        self._ends_with_connection = True

    async def ask(self, request: bytes, until: float) -> Response:
        """Send the request and wait for its answer. From here on it may have left."""
        loop = asyncio.get_running_loop()
        self.usable = False
        self._answer = loop.create_future()
        self._received = 0
        self._begin()
        self._transport.write(request)
        late = loop.call_at(until, self._fail, "no answer in time")
        try:
            return await self._answer
        finally:
            late.cancel()
            self._answer = None
            self.since = loop.time()

    def is_quiet(self) -> bool:
        """Whether nobody has ended it, and nothing was said that nobody asked for.

        The kernel is asked, too: what it has got while this loop was busy would be read as the next request's answer.
        """
        if not self.usable or self._transport.is_closing():
            return False
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def drop(self) -> None:
        self.usable = False
        self._transport.abort()

    # --- asyncio's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self.usable = True

    def data_received(self, data: bytes) -> None:
        if self._waiting is None:
            self.drop()  # it says what nobody asked for, and can't be believed any more
            return
        self._received += len(data)
        if self._received > ANSWER_LIMIT:
            self._fail("longer than a megabyte")
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(_reason(error))

    def eof_received(self) -> None:
        self.usable = False
        if self._status is not None and self._ends_with_connection:
            self._succeed()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(_reason(error) if error else "the connection was closed")

    # --- httptools' calls

    def on_message_begin(self) -> None:
        if self._waiting is None:
            self.drop()  # two answers to one request: the second would be taken for the next one's

    def on_header(self, name: bytes, _: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._ends_with_connection = False

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._status is not None and self._status < 200:  # "go on", of which there may be several
            self._begin()
            return
        if self._waiting:
            self._succeed()
            self.usable = self._parser.should_keep_alive() and not self._transport.is_closing()

    @property
    def _waiting(self) -> asyncio.Future[Response] | None:
        """The answer that is still to come; None where nothing was asked, or it has come."""
        return None if self._answer is None or self._answer.done() else self._answer

    def _begin(self) -> None:
        self._body, self._status, self._ends_with_connection = [], None, True

    def _succeed(self) -> None:
        if waiting := self._waiting:
            waiting.set_result(Response(self._status or 0, b"".join(self._body)))

    def _fail(self, why: str) -> None:
        self.usable = False
        if waiting := self._waiting:
            waiting.set_exception(BrokenOff(why, self._status))


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
