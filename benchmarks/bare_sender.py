"""The least that sends messages over HTTP: a loop of aiohttp that posts bodies and reads the answers.

python -m benchmarks.bare_sender URL MESSAGES CONNECTIONS < bodies, one a line; prints seconds and seconds of CPU.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator

import aiohttp

HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer token"}


async def post(session: aiohttp.ClientSession, url: str, bodies: Iterator[bytes]) -> None:
    for body in bodies:
        async with session.post(url, data=body, headers=HEADERS) as response:
            json.loads(await response.read())


async def post_all(url: str, bodies: Iterator[bytes], connections: int) -> tuple[float, float]:
    """Seconds, and seconds of CPU; each connection has posted a message before, and stays open."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections)) as session:
        first = [next(bodies)] * connections
        await asyncio.gather(*[post(session, url, iter([body])) for body in first])
        started, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*[post(session, url, bodies) for _ in range(connections)])
        return time.perf_counter() - started, time.process_time() - cpu


def main() -> None:
    url, messages, connections = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    bodies = sys.stdin.buffer.read().split(b"\n")
    some = itertools.islice(itertools.cycle(bodies), messages + 1)
    print(*asyncio.run(post_all(url, some, connections)))  # noqa: T201


if __name__ == "__main__":
    main()
