"""The sending loop: pace → claim → post → settle, for one phone number at a time, many at once in a process.

One event loop per process, in a thread of its own, with connections to Meta that stay open; Celery's threads hand it
slices of work. Nothing touches the database on that thread: claims and settles run in others, so that settling never
stops the pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ParamSpec, TypeVar

import uvloop
from django.conf import settings
from django.db import Error as DatabaseTrouble
from django.db import close_old_connections, connections
from django.utils import timezone
from redis.asyncio import Redis

from kaanha.lib.pacing import Outage, Pace
from kaanha.messaging import claiming, holding, reach, settling, slots
from kaanha.messaging.claiming import Claim, Envelope, Live
from kaanha.messaging.safety import Watch
from kaanha.messaging.settling import Answer, NotStarted, Result
from kaanha.whatsapp.cloud_api.client import Accepted, Sender, Undelivered, Unknown
from kaanha.whatsapp.models import PhoneNumber

SLICE = timedelta(seconds=10)
BATCH = 100  # rows a claim takes at most
UNSETTLED = 300  # rows a process may have claimed and not settled
LATEST_START = timedelta(seconds=1)  # a row that couldn't start by then goes back
SETTLE_ROWS, SETTLE_SECONDS = 50, 0.2
SETTLE_MOST = 100  # rather than SETTLE_ROWS while there is room for a whole claim and other requests are out
LIVE_SECONDS = 0.5  # how long the list of live dispatches is believed
IDLE = 0.05  # seconds between two looks while there is nothing to take
GATHER, GATHER_MOST = 0.05, 0.06  # seconds of the rate that make a claim worth while: with little room, and with much
RESERVED = 30  # of UNSETTLED, kept free for a number that has just got something to send
DATABASE_PAUSE = 0.5  # seconds between tries while PostgreSQL is away
WATCHED, WATCHED_LEAST = 40, 20  # the last requests, of which most must reach Meta

P = ParamSpec("P")
R = TypeVar("R")
logger = logging.getLogger(__name__)


def send_slice(phone_number_id: int, *, until: datetime) -> dict[str, int]:
    """Send what is due for one number until `until` or until nothing is left; how many were sent, skipped, deferred.

    Ends at once if another slice of this process, or all slots of the number elsewhere, are at it. Losing or doubling a
    call is harmless.
    """
    return _engine().run(phone_number_id, until)


@dataclass
class _Slice:
    """One number's turn in this process."""

    number: PhoneNumber
    token: str
    pace: Pace
    sender: Sender
    engine: _Engine
    live: list[Live] = field(default_factory=list)
    live_until: float = 0.0
    results: list[Result] = field(default_factory=list)
    # Claimed and not settled by this slice.
    open: int = 0
    outcomes: deque[bool] = field(default_factory=lambda: deque(maxlen=WATCHED))
    posting: set[asyncio.Task[None]] = field(default_factory=set)
    ending: bool = False
    told: dict[str, int] = field(default_factory=lambda: {"sent": 0, "skipped": 0, "deferred": 0})
    more: asyncio.Event = field(default_factory=asyncio.Event)
    freed: asyncio.Event = field(default_factory=asyncio.Event)

    async def work(self, until: datetime) -> dict[str, int]:
        """Send until `until` or until nothing is left. Requests still out then are settled in the background."""
        settler = asyncio.create_task(self._settle_always())
        more = True
        try:
            while timezone.now() < until and (more := await self._step_or_wait()):
                pass
        finally:
            ending = self.engine.finish(self._end(settler))
        if not more:
            await ending
        return self.told

    async def _end(self, settler: asyncio.Task[None]) -> None:
        """Hear what is still on its way, write it down, and leave nothing counted as open."""
        await asyncio.gather(*self.posting, return_exceptions=True)
        self.ending = True
        self.more.set()
        await asyncio.gather(settler, return_exceptions=True)
        self._opened(-self.open)

    async def _step_or_wait(self) -> bool:
        """One step. With PostgreSQL away, a pause instead: what is claimed already goes on."""
        try:
            return await self._step()
        except DatabaseTrouble as error:
            logger.warning("Number %s can't claim: %s", self.number, error)
            await asyncio.sleep(DATABASE_PAUSE)
            return True

    async def _step(self) -> bool:
        """Take what the pace allows and start it; False when there is nothing left to do."""
        share = self.engine.share()
        room = min(BATCH, self._room(share))
        least = self._worth_while(share)
        if room <= 0 or (room < least and self.open):
            await self._settled_or_idle()
            return True
        await self._refresh_live()
        if not self.live:
            return await self._wait_for_posts()
        permits, pause = await self.pace.take(room, least=least)
        if not permits:
            await asyncio.sleep(pause)
            return True
        self._opened(permits)  # before the claim, so that two numbers can't take the same room
        claimed = Claim()
        try:
            claimed = await self.engine.claiming(self._claim, permits)
        finally:
            self._opened(len(claimed.envelopes) - permits)
        return await self._start(claimed, permits)

    def _worth_while(self, share: int) -> int:
        """How many rows are worth a claim, most of whose cost doesn't depend on them: more where there is room."""
        few, many = (int(self.pace.rate * seconds) for seconds in (GATHER, GATHER_MOST))
        return max(1, min(few, share // 4), min(many, self._room(share) // 2))

    def _room(self, share: int) -> int:
        """How many more rows this slice may claim."""
        return min(self.engine.room(), share - self.open)

    @property
    def limit(self) -> reach.Limit | None:
        portfolio = self.number.account.portfolio
        return None if portfolio.messaging_limit is None else reach.Limit(portfolio.pk, portfolio.messaging_limit)

    def _claim(self, permits: int) -> Claim:
        now = timezone.now()
        claimed = claiming.claim(self.live, limit=permits, now=now, within=self.limit)
        try:
            for dispatch, detail in claimed.trouble.items():
                holding.hold(dispatch, reason="template", detail=detail, now=now)
        except DatabaseTrouble:
            # What is claimed must go out; the next claim meets the same trouble and holds it then.
            logger.warning("Number %s can't hold a dispatch yet", self.number)
        return claimed

    async def _start(self, claimed: Claim, permits: int) -> bool:
        started = asyncio.get_running_loop().time()
        for envelope in claimed.envelopes:
            task = asyncio.create_task(self._post(envelope, started))
            self.posting.add(task)
            task.add_done_callback(self.posting.discard)
        self.told["skipped"] += claimed.skipped
        self.told["deferred"] += claimed.deferred
        if unused := permits - len(claimed.envelopes) - claimed.deferred:
            await self.pace.give_back(unused)
        if claimed.empty or claimed.trouble:
            self.live_until = 0.0
        if claimed.empty:
            return await self._wait_for_posts()
        return True

    async def _settled_or_idle(self) -> None:
        """Wait until rows of this number are settled, or for a moment: other numbers' make room, too."""
        self.freed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.freed.wait(), IDLE)

    async def _wait_for_posts(self) -> bool:
        """Nothing to take right now: go on only while requests are out, whose refusals may bring rows back."""
        if not self.posting and not self.results:
            return False
        await asyncio.sleep(IDLE)
        return True

    async def _refresh_live(self) -> None:
        clock = asyncio.get_running_loop().time()
        if clock >= self.live_until:
            self.live = await self.engine.claiming(claiming.live, self.number.pk, now=timezone.now())
            took = asyncio.get_running_loop().time() - clock
            self.live_until = clock + max(LIVE_SECONDS, 10 * took)

    async def _post(self, envelope: Envelope, claimed_at: float) -> None:
        if asyncio.get_running_loop().time() - claimed_at > LATEST_START.total_seconds():
            answer: Answer = NotStarted()
        else:
            answer = await self._ask(envelope)
        self.results.append(Result(envelope, answer, timezone.now()))
        if self._settles_now():
            self.more.set()

    def _settles_now(self) -> bool:
        """Whether waiting for more results would cost more than they save."""
        alone = len(self.posting) == 1  # the one that has just come back
        few = SETTLE_ROWS if alone or self._room(self.engine.share()) < BATCH else SETTLE_MOST
        return len(self.results) >= few

    async def _ask(self, envelope: Envelope) -> Answer:
        try:
            return await self.sender.send(self.number.phone_number_id, self.token, envelope.body)
        except Exception as error:
            # A fault of ours after the request may have left: as unclear as any other.
            logger.exception("Message %s: the answer could not be read", envelope.id)
            return Unknown(f"{type(error).__name__}: {error}")

    async def _settle_always(self) -> None:
        """Write down what came back, every fifty to a hundred results or 200 ms, until everything is written."""
        while not self.ending or self.results:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.more.wait(), SETTLE_SECONDS)
            self.more.clear()
            await self._settle()

    async def _settle(self) -> None:
        results, self.results = self.results, []
        if not results:
            return
        try:
            consequences = await self.engine.settling(settling.settle_and_hold, results)
        except DatabaseTrouble as error:
            logger.warning("Number %s can't settle %s results yet: %s", self.number, len(results), error)
            kept = [result for result in results if not result.stale(timezone.now())]
            self._opened(len(kept) - len(results))
            self.results = kept + self.results
            await asyncio.sleep(DATABASE_PAUSE)
            return
        except Exception:
            # Whatever it was, the next results must be settled: these are left to the lease sweep and their receipts.
            logger.exception("Number %s could not settle %s results", self.number, len(results))
            self._opened(-len(results))
            return
        self._opened(-len(results))
        self.told["sent"] += sum(isinstance(result.answer, Accepted) for result in results)
        try:
            await self._follow(results, consequences)
        except DatabaseTrouble as error:
            logger.warning("Number %s can't be held yet: %s", self.number, error)

    async def _follow(self, results: list[Result], consequences: settling.Consequences) -> None:
        """Slow the number down when Meta asks for it, or doesn't answer most of what it is asked."""
        self.outcomes.extend(isinstance(result.answer, Undelivered) for result in results)
        away = len(self.outcomes) >= WATCHED_LEAST and sum(self.outcomes) > len(self.outcomes) / 2
        if consequences.slow_down or away:
            await self.pace.slow_down()
        troubled = self.engine.watch.see(results)
        if troubled:
            await self.engine.settling(settling.hold_all, troubled, now=timezone.now())
            self.live_until = 0.0
        if consequences.holds:
            self.live_until = 0.0

    def _opened(self, rows: int) -> None:
        self.open += rows
        self.engine.unsettled += rows
        if rows < 0:
            self.freed.set()


class _Engine:
    """This process's event loop, connections to Meta and database threads."""

    def __init__(self) -> None:
        self.unsettled = 0
        self.watch = Watch()
        self.outage = Outage()
        self.busy: set[int] = set()
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._claims = ThreadPoolExecutor(2, thread_name_prefix="claims")
        self._settles = ThreadPoolExecutor(1, thread_name_prefix="settles")
        self._loop = uvloop.new_event_loop()
        self._sender: Sender | None = None
        self._redis = Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1)
        self._endings: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sending", daemon=True)
        self._thread.start()

    def finish(self, ending: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Let the end of a slice go on by itself."""
        task = asyncio.create_task(ending)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        return task

    def room(self) -> int:
        """How many more rows this process may claim."""
        return UNSETTLED - self.unsettled

    def share(self) -> int:
        """How many of them one number may have: it must not fill the process while its Meta hangs."""
        return (UNSETTLED - RESERVED) // max(1, len(self.busy))

    def run(self, phone_number_id: int, until: datetime) -> dict[str, int]:
        return asyncio.run_coroutine_threadsafe(self._slice(phone_number_id, until), self._loop).result()

    async def claiming(self, act: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._in(self._claims, lambda: act(*args, **kwargs))

    async def settling(self, act: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._in(self._settles, lambda: act(*args, **kwargs))

    async def _in(self, threads: ThreadPoolExecutor, act: Callable[[], R]) -> R:
        return await self._loop.run_in_executor(threads, _with_fresh_connection, act)

    async def _slice(self, phone_number_id: int, until: datetime) -> dict[str, int]:
        if phone_number_id in self.busy:
            return {}
        self.busy.add(phone_number_id)
        try:
            slot = await self.claiming(slots.acquire, phone_number_id, self.holder, now=timezone.now())
            if slot is None:
                return {}
            number = await self.claiming(
                PhoneNumber.objects.select_related("account__portfolio").get, pk=phone_number_id
            )
            renewing = asyncio.create_task(self._renew(phone_number_id, slot))
            try:
                return await self._work(number, until)
            finally:
                renewing.cancel()
                await self.claiming(slots.release, phone_number_id, slot, self.holder, now=timezone.now())
        finally:
            self.busy.discard(phone_number_id)

    async def _work(self, number: PhoneNumber, until: datetime) -> dict[str, int]:
        fallback = max(1.0, number.throughput / (2 * settings.SEND_SLOTS))
        pace = Pace(self._redis, f"number:{number.pk}", float(number.throughput), fallback, self.outage)
        return await _Slice(number, number.account.access_token, pace, await self._session(), self).work(until)

    async def _session(self) -> Sender:
        if self._sender is None:
            sender = Sender(settings.WHATSAPP_API_URL, timeout=settings.WHATSAPP_TIMEOUT, connections=UNSETTLED)
            self._sender = await sender.__aenter__()
        return self._sender

    async def _renew(self, phone_number_id: int, slot: int) -> None:
        while True:
            await asyncio.sleep(slots.RENEWAL.total_seconds())
            with contextlib.suppress(DatabaseTrouble):  # tried again in three seconds; the pace holds meanwhile
                await self.claiming(slots.renew, phone_number_id, slot, self.holder, now=timezone.now())

    def close(self) -> None:
        """Stop the loop and close the session; for tests, which make a new engine each."""

        async def leave() -> None:
            await asyncio.gather(*self._endings, return_exceptions=True)
            await self._redis.aclose()
            if self._sender is not None:
                await self._sender.__aexit__(None, None, None)

        asyncio.run_coroutine_threadsafe(leave(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._claims.shutdown()
        self._settles.shutdown()


def _with_fresh_connection(act: Callable[[], R]) -> R:
    """Run `act` on a database thread: with a connection that is alive, and back in the pool after it."""
    close_old_connections()
    try:
        return act()
    finally:
        connections.close_all()


_lock = threading.Lock()
_engines: list[_Engine] = []


def _engine() -> _Engine:
    with _lock:
        if not _engines:
            _engines.append(_Engine())
        return _engines[0]


def stop() -> None:
    """End this process's engine; the next slice starts another."""
    with _lock:
        while _engines:
            _engines.pop().close()
