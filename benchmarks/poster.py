"""Posts callbacks as Meta does, and tells what came back: in a process of its own, cheaper than what it measures.

python -m benchmarks.poster URL SECRET CONNECTIONS RATE < bodies, one a line; RATE 0 is as fast as answers come.
Prints {"seconds", "answers": {status: how many}, "milliseconds": [each answer's time, sorted]}. A post that isn't
answered counts as "none".
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from kaanha.whatsapp.cloud_api import signature

CHECKOUT = Path(__file__).resolve().parent.parent
NONE = "none"


@dataclass(frozen=True)
class Posted:
    """What became of the posts."""

    seconds: float
    answers: dict[str, int]
    milliseconds: list[float]

    def percentile(self, share: float) -> float:
        return self.milliseconds[min(len(self.milliseconds) - 1, int(share * len(self.milliseconds)))]


def posted(url: str, secret: str, bodies: Sequence[bytes], *, connections: int, rate: float = 0) -> Posted:
    """Post the bodies to `url` from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.poster", url, secret, str(connections), str(rate)]
    done = subprocess.run(command, cwd=CHECKOUT, input=b"\n".join(bodies), check=True, stdout=subprocess.PIPE)  # noqa: S603
    return Posted(**json.loads(done.stdout))


class Poster:
    """So many connections that take one request after the other."""

    def __init__(self, host: str, port: int, requests: Sequence[bytes], rate: float) -> None:
        self.host, self.port = host, port
        self.requests: Iterator[tuple[int, bytes]] = iter(enumerate(requests))
        self.rate = rate
        self.answers: Counter[str] = Counter()
        self.milliseconds: list[float] = []

    async def post_all(self, connections: int) -> float:
        self.started = time.perf_counter()
        await asyncio.gather(*[self._connection() for _ in range(connections)])
        return time.perf_counter() - self.started

    async def _connection(self) -> None:
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        for number, request in self.requests:
            due = await self._due(number)
            try:
                streams = streams or await asyncio.open_connection(self.host, self.port)
                status, stays = await self._ask(*streams, request)
            except (OSError, asyncio.IncompleteReadError):
                status, stays = NONE, False
            self.answers[status] += 1
            self.milliseconds.append((time.perf_counter() - due) * 1000)
            if not stays:
                if streams:
                    streams[1].close()
                streams = None

    async def _due(self, number: int) -> float:
        """When the request is due by the rate: an answer's time counts from then, also when nobody was free to ask."""
        if not self.rate:
            return time.perf_counter()
        due = self.started + number / self.rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        return due

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
    ) -> tuple[str, bool]:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if length := int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0):
            await reader.readexactly(length)
        return head[9:12].decode(), b"connection: close" not in head


def request_for(url: str, secret: str, body: bytes) -> bytes:
    """The whole request, signed as Meta signs it."""
    parts = urlsplit(url)
    lines = (
        f"POST {parts.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        "User-Agent: facebookexternalua",
        "Accept: */*",
        "Content-Type: application/json",
        f"X-Hub-Signature-256: {signature.sign(secret, body)}",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def main() -> None:
    url, secret, connections, rate = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    parts = urlsplit(url)
    requests = [request_for(url, secret, body) for body in sys.stdin.buffer.read().split(b"\n")]
    poster = Poster(parts.hostname or "", parts.port or 80, requests, rate)
    seconds = asyncio.run(poster.post_all(connections))
    told = {"seconds": seconds, "answers": poster.answers, "milliseconds": sorted(poster.milliseconds)}
    print(json.dumps(told))  # noqa: T201


if __name__ == "__main__":
    main()
