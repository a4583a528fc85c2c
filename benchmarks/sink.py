"""Stands where Meta stands in a benchmark: takes messages, answers each with a wamid after a while, and keeps count.

python -m benchmarks.sink CERTIFICATE; prints the ports that it listens on, without TLS and with it.

The first part of the path is how many milliseconds an answer takes: POST /50/PHONE_NUMBER_ID/messages. `GET /taken`
tells when each message came since it was asked last, `GET /count` how many have come since then, `GET /bodies` the last
thousand of them.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from kaanha.tied import die_with_parent
from tests.receivers import certificate

CHECKOUT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
KEPT = 1_000  # bodies
HEAD_END = b"\r\n\r\n"


class Taken:
    """What has come in."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.bodies: deque[bytes] = deque(maxlen=KEPT)
        self.ids = itertools.count(1)

    def take(self, body: bytes) -> bytes:
        """Keep a message; the answer to it, in Meta's own shape."""
        self.times.append(time.time())
        self.bodies.append(body)
        begin = body.find(b'"to":"') + 6
        phone = body[begin : body.find(b'"', begin)]
        answer = _ANSWER % (phone, phone.lstrip(b"+"), next(self.ids))
        return _OK % (len(answer), answer)

    def tell(self, question: bytes) -> bytes:
        """What is asked for about them, as a whole HTTP answer."""
        told: Any = len(self.times)
        if question == b"/bodies":
            told = [body.decode() for body in self.bodies]
        elif question == b"/taken":
            told, self.times = self.times, []
        answer = json.dumps(told).encode()
        return _OK % (len(answer), answer)


class Connection(asyncio.Protocol):
    """HTTP as far as a client that keeps to it needs it: a length, one request after the other."""

    def __init__(self, taken: Taken, loop: asyncio.AbstractEventLoop) -> None:
        self.taken = taken
        self.loop = loop
        self.waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        data = self.waiting + data
        end = data.find(HEAD_END)
        length = _length(data[:end]) if end >= 0 else 0
        if end < 0 or len(data) < end + len(HEAD_END) + length:
            self.waiting = data
            return
        self.waiting = b""
        path = data[: data.find(b" HTTP/")].partition(b" ")[2]
        if data.startswith(b"GET "):
            self.transport.write(self.taken.tell(path))
            return
        answer = self.taken.take(data[end + len(HEAD_END) :])
        self.loop.call_later(int(path.split(b"/")[1]) / 1000, self._answer, answer)

    def _answer(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)


def _length(head: bytes) -> int:
    found = head.lower().partition(b"content-length:")[2]
    return int(found.partition(b"\r\n")[0] or 0)


class Sink:
    """A sink in a process of its own, as the benchmark sees it. Whoever comes by TLS trusts its certificate."""

    def __init__(self, port: int, secure_port: int, trusted: Path) -> None:
        self.port = port
        self.secure_port = secure_port
        self.trusted = trusted

    def url(self, milliseconds: int, *, tls: bool = False) -> str:
        origin = f"https://{HOST}:{self.secure_port}" if tls else f"http://{HOST}:{self.port}"
        return f"{origin}/{milliseconds}"

    def count(self) -> int:
        return int(self._ask("count"))

    def taken(self) -> list[float]:
        """When each message came since this was asked last, by time.time()."""
        return list(self._ask("taken"))

    def bodies(self) -> list[bytes]:
        return [body.encode() for body in self._ask("bodies")]

    def _ask(self, question: str) -> Any:
        with urlopen(f"http://{HOST}:{self.port}/{question}", timeout=10) as answer:
            return json.load(answer)


@contextmanager
def running() -> Iterator[Sink]:
    with tempfile.TemporaryDirectory() as folder:
        path, _ = certificate(Path(folder), HOST)
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "benchmarks.sink", path],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )
        try:
            assert process.stdout is not None
            port, secure_port = map(int, process.stdout.readline().split())
            yield Sink(port, secure_port, path)
        finally:
            process.kill()
            process.communicate()


async def serve(path: str) -> None:
    taken, loop = Taken(), asyncio.get_running_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    servers = [
        await loop.create_server(lambda: Connection(taken, loop), HOST, 0, backlog=1024, ssl=tls)
        for tls in (None, context)
    ]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)  # noqa: T201
    gc.freeze()
    await asyncio.gather(*(server.serve_forever() for server in servers))


_ANSWER = (
    b'{"messaging_product":"whatsapp","contacts":[{"input":"%s","wa_id":"%s"}],'
    b'"messages":[{"id":"wamid.HBgMOTE5ODAwMDAwMDAxFQIAERgS%032d==","message_status":"accepted"}]}'
)
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=UTF-8\r\nContent-Length: %d\r\n\r\n%s"

if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
