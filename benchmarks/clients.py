"""What a POST costs by several HTTP clients: the same body to the same sink, which answers after 50 ms.

python -m benchmarks.clients [ours aiohttp pyreqwest rnet] [--messages 15000] [--connections 50]

The last two are no dependencies of ours: pip install pyreqwest rnet. Each client runs in a process of its own.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import aiohttp
import uvloop

from benchmarks import sink
from kaanha.whatsapp.cloud_api.client import Accepted, Sender

DELAY = 50  # ms
PATH, TOKEN = "benchmark", "token"
HEADERS = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
TEXT = {"to": "+15555550142", "type": "template", "template": {"name": "news", "language": {"code": "en"}}}
BODY = json.dumps(TEXT | {"biz_opaque_callback_data": "x" * 200}).encode()
Post = Callable[[], Awaitable[object]]


@asynccontextmanager
async def ours(url: str, connections: int) -> AsyncIterator[Post]:
    async with Sender(url, timeout=timedelta(seconds=20), connections=connections) as sender:

        async def post() -> None:
            answer = await sender.send(PATH, TOKEN, BODY)
            assert isinstance(answer, Accepted), answer

        yield post


@asynccontextmanager
async def by_aiohttp(url: str, connections: int) -> AsyncIterator[Post]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections)) as session:

        async def post() -> None:
            async with session.post(f"{url}/{PATH}/messages", data=BODY, headers=HEADERS) as response:
                json.loads(await response.read())

        yield post


@asynccontextmanager
async def by_pyreqwest(url: str, _: int) -> AsyncIterator[Post]:
    library: Any = importlib.import_module("pyreqwest.client")
    async with library.ClientBuilder().build() as client:

        async def post() -> None:
            request = client.post(f"{url}/{PATH}/messages").headers(HEADERS).body_bytes(BODY)
            json.loads((await (await request.build().send()).bytes()).to_bytes())

        yield post


@asynccontextmanager
async def by_rnet(url: str, _: int) -> AsyncIterator[Post]:
    library: Any = importlib.import_module("rnet")
    client = library.Client()

    async def post() -> None:
        json.loads(await (await client.post(f"{url}/{PATH}/messages", headers=HEADERS, body=BODY)).bytes())

    yield post


CLIENTS = {"ours": ours, "aiohttp": by_aiohttp, "pyreqwest": by_pyreqwest, "rnet": by_rnet}


async def measured(name: str, url: str, messages: int, connections: int) -> str:
    async with CLIENTS[name](url, connections) as post:
        numbers = iter(range(messages))

        async def connection() -> None:
            for _ in numbers:
                await post()

        await asyncio.gather(*[post() for _ in range(connections)])
        started, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*[connection() for _ in range(connections)])
        took, cpu = time.perf_counter() - started, time.process_time() - cpu
        return f"{name:>10}: {cpu / messages * 1000:.3f} ms of CPU a POST, {messages / took:,.0f} POSTs a second"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=["ours", "aiohttp"], choices=CLIENTS)
    parser.add_argument("--messages", type=int, default=15_000)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--url", help="ask this server, in this process")
    asked = parser.parse_args()
    if asked.url:
        for name in asked.names:
            print(uvloop.run(measured(name, asked.url, asked.messages, asked.connections)), flush=True)
        return
    sizes = ["--messages", str(asked.messages), "--connections", str(asked.connections)]
    with sink.running() as to:
        for name in asked.names:
            command = [sys.executable, "-m", "benchmarks.clients", name, *sizes, "--url", to.url(DELAY)]
            subprocess.run(command, check=True)  # noqa: S603


if __name__ == "__main__":
    main()
