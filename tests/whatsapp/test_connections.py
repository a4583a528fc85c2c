"""HTTP/1.1 by hand: where an answer ends, which connections are used again, and which never."""

import asyncio
import contextlib
import socket
import threading
import time

import pytest
import uvloop

from kaanha.whatsapp.cloud_api import connections
from kaanha.whatsapp.cloud_api.connections import BrokenOff, Connections, NotConnected, Response
from tests.receivers import certificate

REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
CLOSE = object()


class Server:
    """For each request it writes the next act, part by part, or closes; it counts connections and requests."""

    def __init__(self, *acts, tls=None):
        self.acts, self.tls, self.connections, self.requests, self.writers = list(acts), tls, 0, 0, []

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        scheme = "https" if self.tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for writer in self.writers:
            writer.close()

    async def _serve(self, reader, writer):
        self.connections += 1
        self.writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readexactly(len(REQUEST))
                self.requests += 1
                for part in self.acts.pop(0):
                    if part is CLOSE:
                        writer.close()
                        return
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0.01)


def asked(*acts, times=1, pause=0.0, limit=2, tls=None, timeout=5.0):
    """What so many requests in a row get from a server that acts so: responses or errors, and the server."""

    async def run():
        async with Server(*acts, tls=tls) as server:
            ours, found = Connections(server.url, limit=limit), []
            for _ in range(times):
                try:
                    found.append(await ours.ask(REQUEST, connect=2, timeout=timeout))
                except (NotConnected, BrokenOff) as error:
                    found.append(error)
                await asyncio.sleep(pause)
            await ours.close()
            return (found if times > 1 else found[0]), server

    return uvloop.run(run())


@pytest.mark.parametrize(
    "parts",
    [
        (FINE,),
        tuple(bytes([byte]) for byte in FINE),
        (b"HTTP/1.1 100 Continue\r\n\r\n", FINE),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + FINE,),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nfi\r\n", b"2\r\nne\r\n0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\ncontent-length:4\r\n\r\nfine",),
        (b"HTTP/1.1 200 OK\r\n\r\nfi", b"ne", CLOSE),
        (b"HTTP/1.0 200 OK\r\n\r\nfine", CLOSE),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfine", CLOSE),
    ],
)
def test_an_answer_is_read_to_its_end_however_it_is_said(parts):
    assert asked(parts)[0] == Response(200, b"fine")


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_ends_with_its_headers(status):
    found, server = asked((b"HTTP/1.1 %d X\r\n\r\n" % status,), (FINE,), times=2)

    assert found == [Response(status, b""), Response(200, b"fine")]
    assert server.connections == 1


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ((CLOSE,), None),
        ((b"HTTP/1.1 200 OK\r\nContent-Le", CLOSE), None),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfin", CLOSE), 200),
        ((b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nfi\r\n", CLOSE), 403),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nfine!",), None),
        ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",), 200),
        ((b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",), None),
        ((b"HTTP/1.1 100 Continue\r\n\r\n", CLOSE), None),
        ((b"\x16\x03\x01\x02\x00",), None),
        ((b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2**20, b"x" * 2**16), None),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n", b"x" * (2**20 + 1)), 200),
        ((b"HTTP/1.1 200 OK\r\n\r\n", b"x" * (2**20 + 1)), 200),
    ],
)
def test_what_is_no_complete_answer_breaks_off_with_its_status_and_its_connection_is_gone(parts, status):
    (broken, fine), server = asked(parts, (FINE,), times=2)

    assert isinstance(broken, BrokenOff)
    assert broken.status == status
    assert (fine, server.connections, server.requests) == (Response(200, b"fine"), 2, 2)


@pytest.mark.parametrize(
    "parts",
    [
        (FINE + FINE,),
        (FINE + b"HTTP/1.1 200 OK\r\nContent-Le",),
        (FINE, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"),
        (FINE, CLOSE),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfine",),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nfine",),
    ],
)
def test_a_connection_that_says_more_than_it_was_asked_or_ends_is_never_used_again(parts):
    found, server = asked(parts, (FINE,), times=2, pause=0.05)

    assert found == [Response(200, b"fine")] * 2
    assert (server.connections, server.requests) == (2, 2)


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize(
    "late", [b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", FINE, b"\r\n", CLOSE]
)
def test_what_came_while_the_loop_was_busy_is_not_the_next_answer(late, secure, tmp_path, monkeypatch):
    trusted, context = certificate(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    going, gone = threading.Event(), threading.Event()

    def serve(listener):
        """The first connection says something late; a second one answers."""
        with contextlib.ExitStack() as kept:
            for number, says in enumerate((FINE, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright")):
                connection = listener.accept()[0]
                connection = context.wrap_socket(connection, server_side=True) if secure else connection
                kept.enter_context(connection)
                connection.recv(1000)
                connection.sendall(says)
                if not number:
                    going.wait()
                    connection.close() if late is CLOSE else connection.sendall(late)
                    gone.set()

    async def run(port):
        ours = Connections(f"http{'s' * secure}://127.0.0.1:{port}", limit=1)
        await ours.ask(REQUEST, connect=2, timeout=5)
        going.set()
        gone.wait()  # the loop stands still
        time.sleep(0.05)
        found = await ours.ask(REQUEST, connect=2, timeout=5)
        await ours.close()
        return found

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        thread = threading.Thread(target=serve, args=[listener])
        thread.start()
        assert uvloop.run(run(listener.getsockname()[1])) == Response(200, b"right")
        thread.join()


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"])
def test_a_server_that_ends_a_connection_before_it_is_asked_has_got_nothing(says):
    async def serve(_, writer):
        writer.write(says)
        writer.close()

    async def run():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        ours = Connections(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", limit=1)
        opened = ours._opened

        async def slowly():
            connection = await opened()
            await asyncio.sleep(0.05)
            return connection

        ours._opened = slowly
        with pytest.raises((NotConnected, BrokenOff)) as error:
            await ours.ask(REQUEST, connect=2, timeout=5)
        server.close()
        return error.type

    assert uvloop.run(run()) is NotConnected


def test_a_connection_that_was_idle_for_too_long_is_not_used_again(monkeypatch):
    monkeypatch.setattr(connections, "IDLE", 0.01)

    found, server = asked((FINE,), (FINE,), times=2, pause=0.05)

    assert (found, server.connections) == ([Response(200, b"fine")] * 2, 2)


def test_as_many_connections_as_allowed_and_each_answer_goes_to_its_own_request():
    async def run():
        acts = [(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n%03d" % number,) for number in range(60)]
        async with Server(*acts) as server:
            ours = Connections(server.url, limit=5)
            found = await asyncio.gather(*[ours.ask(REQUEST, connect=5, timeout=5) for _ in range(60)])
            await ours.close()
            return sorted(int(each.body) for each in found), server.connections

    assert uvloop.run(run()) == (list(range(60)), 5)


def test_whoever_is_canceled_takes_the_connection_along_and_frees_its_place():
    async def run():
        async with Server((), (FINE,)) as server:
            ours = Connections(server.url, limit=1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ours.ask(REQUEST, connect=2, timeout=5), 0.1)
            found = await ours.ask(REQUEST, connect=2, timeout=5)
            await ours.close()
            return found, server.connections

    assert uvloop.run(run()) == (Response(200, b"fine"), 2)


def test_a_certificate_of_another_host_or_of_nobody_known_is_no_connection(tmp_path, monkeypatch):
    trusted, context = certificate(tmp_path, "127.0.0.1")
    _, elsewhere = certificate(tmp_path, "elsewhere.example")

    assert isinstance(asked((FINE,), tls=context)[0], NotConnected)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    found, server = asked((FINE,), (FINE,), tls=context, times=2)
    assert (found, server.connections) == ([Response(200, b"fine")] * 2, 1)
    assert isinstance(asked((FINE,), tls=elsewhere)[0], NotConnected)
