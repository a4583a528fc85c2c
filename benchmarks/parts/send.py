"""Sending: claim → judge → render → POST → settle by real worker processes, against a bare loop of aiohttp.

The loop posts the same bytes to the same sink and does nothing else. Workers start as `manage.py run` starts them;
Celery hands out slices. The template is MARKETING with variables, so every rule is on: consent, country, the cap.
"""

from __future__ import annotations

import itertools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from django.utils import timezone

import kaanha.celery  # noqa: F401 — pokes go to our broker
from benchmarks import sink
from benchmarks.measuring import Cost, cpu, in_turns, postmaster, tree_cpu
from benchmarks.reporting import Bound, Row, bounded, compared
from benchmarks.scale import Scale
from benchmarks.sink import Sink
from benchmarks.store import Store, execute, opened, tagged
from broadcasts import launch
from broadcasts.models import Broadcast, Status
from kaanha import processes
from kaanha.messaging import tasks
from kaanha.messaging.models import Message

CHECKOUT = Path(__file__).resolve().parent.parent.parent
MOST = 2.0
THROUGHPUT = 1_000  # of a number, per second
MOST_AT_ONCE = 10_000  # messages of a round, which is long enough to tell its rate and its CPU
WORKERS = (2, 3, 4)
KEPT = Bound("≥", 0.9, "of the rate of 2")
LOOK, POKE = 0.1, 1.0  # seconds between two looks of ours, and between two pokes as beat makes them
PATIENCE = 60  # seconds without a message until a round counts as broken
BODY = "Hello {{1}}, what you liked in {{2}} is back. Order with {{3}} until {{4}} and it comes for free."
VARIABLES = {
    "body.1": {"field": "first_name", "fallback": "there"},
    "body.2": {"field": "city", "fallback": "the store"},
    "body.3": {"field": "phone"},
    "body.4": {"text": "30 November"},
}


@dataclass(frozen=True)
class Road:
    """How the sink is reached, and how long its answers take."""

    milliseconds: int
    tls: bool = False

    def __str__(self) -> str:
        return f"{self.milliseconds} ms answers{' over TLS' if self.tls else ''}"

    def url(self, to: Sink) -> str:
        return to.url(self.milliseconds, tls=self.tls)

    @property
    def on_its_way(self) -> int:
        """How many requests are out at a time at the number's rate."""
        return THROUGHPUT * self.milliseconds // 1000


ROADS = (Road(50), Road(150), Road(50, tls=True))


@dataclass
class Round:
    """One broadcast to each store's recipients: what it cost the workers, and when the messages came to the sink."""

    cost: Cost
    times: list[float]
    costs: list[Cost] = field(default_factory=list)  # of every tenth of it

    @property
    def rate(self) -> float:
        """Messages per second between the first and the last."""
        return (len(self.times) - 1) / (self.times[-1] - self.times[0])

    @property
    def gap(self) -> float:
        """The longest time between two messages, in milliseconds."""
        return max(later - earlier for earlier, later in itertools.pairwise(self.times)) * 1000


def measure(scale: Scale) -> Iterator[Row]:
    stores = [_store(name, scale.sends) for name in ("one", "two")]
    some = min(max(scale.sends // 10, 1_000), MOST_AT_ONCE)
    with sink.running() as to:
        for road in ROADS:
            with _workers(1, to, road) as pids:
                _send(to, stores[:1], some // 10, pids)  # warm
                yield from _against_bare(scale, to, road, stores[0], some, pids)
        with _workers(1, to) as pids:
            yield from _flat(to, stores[0], scale.sends, pids)
        yield from _together(scale, to, stores, some)


def _against_bare(scale: Scale, to: Sink, road: Road, store: Store, some: int, pids: Sequence[int]) -> Iterator[Row]:
    rounds: list[Round] = []
    bodies = to.bodies()

    def ours() -> Cost:
        rounds.append(_send(to, [store], some, pids))
        return rounds[-1].cost

    costs = in_turns(scale.rounds, ours, partial(_bare, to, road, bodies, some))
    name = f"one worker, {road}"
    detail: dict[str, float | str] = {
        "worker CPU ms": sum(cost.own for cost in costs[0]) / len(costs[0]) / some * 1000,
        "bare CPU ms": sum(cost.own for cost in costs[1]) / len(costs[1]) / some * 1000,
    }
    yield compared(f"{name}: CPU of the worker", *costs, most=MOST, units=some, by="own", detail=detail)
    yield _rate(f"{name}: rate", rounds, THROUGHPUT)


def _flat(to: Sink, store: Store, sends: int, pids: Sequence[int]) -> Iterator[Row]:
    _send(to, [store], sends // 10, pids)
    before = _memory(pids[0])
    done = _send(to, [store], sends, pids)
    after = _memory(pids[0])
    first, last = done.costs[0], done.costs[-1]
    part = sends // len(done.costs)
    yield compared(
        f"{sends:,} recipients: the last {part:,} against the first", [last], [first], most=1.1, units=part, by="own",
        detail={"longest gap ms": done.gap, "database CPU of the last / first": last.database / first.database},
    )  # fmt: skip
    yield bounded(
        f"{sends:,} recipients: memory of the worker", [after], Bound("<", 200, "MB"), costs=[done.cost], units=sends,
        detail={"grew MB": after - before},
    )  # fmt: skip


def _together(scale: Scale, to: Sink, stores: Sequence[Store], some: int) -> Iterator[Row]:
    """Two numbers: the rate of two workers, and how much of it is left where there are more of them than cores."""
    rate = 0.0
    for count in WORKERS:
        with _workers(count, to) as pids:
            _send(to, stores, some // 10, pids)
            rounds = [_send(to, stores, some, pids) for _ in range(scale.rounds)]
        name = f"{count} workers, two numbers, 50 ms answers"
        if not rate:
            rate = statistics.median(done.rate for done in rounds)
            yield _rate(name, rounds, 2 * THROUGHPUT)
        else:
            parts, costs = [done.rate / rate for done in rounds], [done.cost for done in rounds]
            yield bounded(name, parts, KEPT, costs=costs, units=some)


def _memory(pid: int) -> float:
    """What a process holds in memory, in megabytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def _rate(name: str, rounds: list[Round], asked: int) -> Row:
    rates = [done.rate for done in rounds]
    return bounded(
        name,
        rates,
        Bound("≥", asked * 0.98, "messages/s"),
        costs=[done.cost for done in rounds],
        units=len(rounds[0].times),
        detail={"longest gap ms": max(done.gap for done in rounds), "asked": asked},
    )


def _store(name: str, contacts: int) -> Store:
    """A store with a fast number."""
    store = opened(contacts, body=BODY, name=name)
    store.number.throughput = THROUGHPUT
    store.number.save()
    return store


@contextmanager
def _workers(count: int, to: Sink, road: Road = ROADS[0]) -> Iterator[list[int]]:
    """So many processes that send to the sink; their ids."""
    environment = {"WHATSAPP_API_URL": road.url(to), "SSL_CERT_FILE": str(to.trusted), "LOG_LEVEL": "WARNING"}
    with tempfile.TemporaryDirectory() as logs, processes.Processes(Path(logs), environment=environment) as parts:
        names = [f"send-{number}" for number in range(count)]
        parts.start(*(processes.worker(name, "send", concurrency=processes.SENDING_THREADS) for name in names))
        yield [child.process.pid for child in parts.children.values()]


def _send(to: Sink, stores: Sequence[Store], recipients: int, pids: Sequence[int]) -> Round:
    """Send a broadcast of each store to its share of so many recipients."""
    _emptied()
    for store in stores:
        _launch(store, recipients // len(stores))
    to.taken()
    postgres, started = postmaster(), time.perf_counter()

    def now() -> Cost:
        return Cost(time.perf_counter() - started, sum(map(cpu, pids)), tree_cpu(postgres))

    marks, poked, moved, count = [now()], 0.0, time.monotonic(), 0
    while count < recipients:
        clock = time.monotonic()
        if clock - poked >= POKE:
            tasks.wake_senders()
            poked = clock
        time.sleep(LOOK)
        known, count = count, to.count()
        moved = clock if count > known else moved
        if clock - moved > PATIENCE:
            raise SystemExit(f"Only {count:,} of {recipients:,} messages came.")
        if count >= recipients * len(marks) / 10:
            marks.append(now())
    while Message.objects.filter(lease_until__isnull=False).exists():
        time.sleep(LOOK)
    end = now()
    settled = Message.objects.filter(status="sent").count()
    if settled != recipients:
        raise SystemExit(f"{settled:,} of {recipients:,} messages are sent.")
    parts = [_between(*pair) for pair in itertools.pairwise(marks)]
    return Round(_between(marks[0], end), to.taken(), parts)


def _between(before: Cost, after: Cost) -> Cost:
    return Cost(after.wall - before.wall, after.own - before.own, after.database - before.database)


def _bare(to: Sink, road: Road, bodies: list[bytes], messages: int) -> Cost:
    """What the bare loop takes, in a process of its own, its start left out."""
    url = f"{road.url(to)}/benchmark/messages"
    command = [sys.executable, "-m", "benchmarks.bare_sender", url, str(messages), str(road.on_its_way)]
    environment = {**os.environ, "SSL_CERT_FILE": str(to.trusted)}
    done = subprocess.run(  # noqa: S603
        command, cwd=CHECKOUT, env=environment, input=b"\n".join(bodies), check=True, capture_output=True
    )
    wall, own = map(float, done.stdout.split())
    return Cost(wall, own)


def _launch(store: Store, recipients: int) -> None:
    tag = tagged(store, f"{recipients:,} {time.time()}", recipients)
    broadcast = Broadcast.objects.create(
        organization=store.owner,
        name="News",
        template=store.template,
        phone_number=store.number,
        variables=VARIABLES,
    )
    broadcast.tags.add(tag)
    now = timezone.now()
    launch.send(broadcast, now=now)
    launch.start_queued(now=now)


def _emptied() -> None:
    """Nobody has been written to, and PostgreSQL has nothing left to write."""
    Broadcast.objects.filter(status=Status.SENDING).update(status=Status.COMPLETED)
    execute("TRUNCATE messaging_message, messaging_marketingcap")
    execute("CHECKPOINT")
