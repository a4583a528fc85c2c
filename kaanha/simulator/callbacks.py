"""Telling the callback URL: a heap of what is due, an outbox, and a few posts of signed batches at a time.

A callback that isn't answered with exactly 200 is posted again, byte by byte, after growing gaps.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

import aiohttp

from kaanha.simulator.payloads import Event, encode, envelope, old_signature, signature
from kaanha.simulator.switches import Switches

Due = tuple[float, int, Callable[..., None], tuple[Any, ...]]
FIRED_AT_ONCE = 5000  # due events between two looks at everything else


@dataclass(slots=True)
class Batch:
    """One body on its way, for as long as it takes."""

    destination: str
    body: bytes
    events: list[Event]
    since: float
    tries: int = 0


@dataclass(slots=True)
class Counts:
    """What became of the callbacks. `posted` counts every try, and each ends as `ok` or `failed`."""

    posted: int = 0
    ok: int = 0
    failed: int = 0
    given_up: int = 0
    events: int = 0
    duplicated: int = 0
    dropped: int = 0
    unsubscribed: int = 0
    last_error: str | None = None


class Callbacks:
    """The sender. `schedule` calls something later; `tell` puts an event into the outbox."""

    def __init__(self, *, waba_id: str, app_secret: str, switches: Switches, rng: Random) -> None:
        self._waba_id = waba_id
        self._app_secret = app_secret
        self._switches = switches
        self._rng = rng
        self._heap: list[Due] = []
        self._order = itertools.count()
        self._outbox: deque[Event | Batch] = deque()
        self._on_the_way = 0
        self._waiting = 0  # batches that failed and will be tried again
        self._scheduled = asyncio.Event()
        self._dispatching = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None
        self._generation = 0
        self.counts = Counts()
        self.on_taken: Callable[[list[Event]], None] = lambda events: None  # called once they are answered with 200

    async def start(self) -> None:
        """Begin to tell. Must run in the loop that is to do the work."""
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)
        self._tasks.add(asyncio.create_task(self._fire()))

    async def stop(self) -> None:
        """Stop in the middle of whatever is being told."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session:
            await self._session.close()

    def schedule(self, delay: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call `call(*arguments)` in `delay` seconds, which the speed divides."""
        due = time.monotonic() + delay / self._switches.speed
        heapq.heappush(self._heap, (due, next(self._order), call, arguments))
        self._scheduled.set()

    def tell(self, event: Event) -> None:
        """Post the event with the next batch, or lose it, or say it twice, as the switches have it."""
        if self._switches.drop and self._rng.random() < self._switches.drop:
            self.counts.dropped += 1
            return
        self._put(event)
        if self._switches.duplicate and self._rng.random() < self._switches.duplicate:
            self.counts.duplicated += 1
            self.schedule(self._rng.random(), self._put, event)

    def clear(self) -> None:
        """Forget all that is due or waiting; what is being posted right now still goes out."""
        self._heap.clear()
        self._outbox.clear()
        self._waiting = 0
        self._generation += 1
        self.counts = Counts()

    @property
    def due(self) -> int:
        """Events that are still to happen, retries not counted."""
        return len(self._heap) - self._waiting

    @property
    def pending(self) -> int:
        """Batches on their way or waiting for another try, with the events of the outbox counted one each."""
        return self._on_the_way + self._waiting + len(self._outbox)

    @property
    def idle(self) -> bool:
        """Whether everything that was going to be told has been told, or given up."""
        return not self._heap and not self.pending

    def _put(self, event: Event | Batch) -> None:
        self._outbox.append(event)
        if not self._dispatching:  # one look at the outbox for all that is put into it at once
            self._dispatching = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    async def _fire(self) -> None:
        while True:
            if not self._heap:
                self._scheduled.clear()
                await self._scheduled.wait()
            await asyncio.sleep(self._switches.gather / self._switches.speed)
            now = time.monotonic()
            for _ in range(FIRED_AT_ONCE):
                if not self._heap or self._heap[0][0] > now:
                    break
                _, _, call, arguments = heapq.heappop(self._heap)
                call(*arguments)

    def _dispatch(self) -> None:
        self._dispatching = False
        while self._outbox and self._on_the_way < self._switches.concurrency:
            self._on_the_way += 1
            task = asyncio.create_task(self._carry(self._next()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, batch: Batch) -> None:
        try:
            await self._post(batch)
        finally:
            self._on_the_way -= 1
        self._dispatch()

    def _next(self) -> Batch:
        first = self._outbox.popleft()
        if isinstance(first, Batch):
            return first
        events = [first]
        while self._outbox and len(events) < self._switches.batch:
            following = self._outbox[0]
            if isinstance(following, Batch) or following.destination != first.destination:
                break
            events.append(following)
            self._outbox.popleft()
        if self._switches.reorder:
            self._rng.shuffle(events)
        body = encode(envelope(self._waba_id, events, self._rng))
        self.counts.events += len(events)
        return Batch(first.destination, body, events, time.monotonic())

    async def _post(self, batch: Batch) -> None:
        generation = self._generation
        trouble = await self._trouble(batch)
        if generation != self._generation:
            return
        self.counts.posted += 1
        if trouble is None:
            self.counts.ok += 1
            self.on_taken(batch.events)
            return
        self.counts.failed += 1
        self.counts.last_error = trouble
        self._again(batch)

    async def _trouble(self, batch: Batch) -> str | None:
        """Post once. None if it was answered with 200, otherwise what went wrong."""
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "facebookexternalua",
            "X-Hub-Signature": old_signature(self._app_secret, batch.body),
            "X-Hub-Signature-256": signature(self._app_secret, batch.body),
        }
        timeout = aiohttp.ClientTimeout(total=self._switches.callback_timeout)
        post = self._session.post if self._session else None
        if post is None:
            return "not started"
        try:
            async with post(
                batch.destination, data=batch.body, headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                with suppress(aiohttp.ClientError):
                    await answer.read()
                return None if answer.status == 200 else f"HTTP {answer.status}"
        except TimeoutError:
            return f"no answer within {self._switches.callback_timeout:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return str(error) or type(error).__name__

    def _again(self, batch: Batch) -> None:
        if time.monotonic() - batch.since > self._switches.retry_for:
            self.counts.given_up += 1
            return
        gaps = self._switches.retry_gaps
        gap = gaps[min(batch.tries, len(gaps) - 1)]
        batch.tries += 1
        self._waiting += 1
        # Not divided by the speed: the receiver restarts no faster because the people read faster.
        due = time.monotonic() + gap
        heapq.heappush(self._heap, (due, next(self._order), self._retry, (batch,)))
        self._scheduled.set()

    def _retry(self, batch: Batch) -> None:
        self._waiting -= 1
        self._put(batch)
