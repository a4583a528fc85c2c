"""A hundred workers on one PostgreSQL: what they claim and settle together, and what they cost it, against two.

Every worker is a process that claims, has Meta accept at once, and settles, as fast as it can; ten numbers have
something to send. Without the network between them, so that all of them want the database at all times.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator

from django.db import connection
from django.utils import timezone

from benchmarks import meta
from benchmarks.measuring import Cost, cpu, postmaster, tree_cpu
from benchmarks.reporting import Bound, Row, bounded
from benchmarks.scale import Scale
from benchmarks.store import Store, opened, tagged
from broadcasts import launch
from broadcasts.models import Broadcast
from kaanha.messaging import claiming, settling
from kaanha.messaging.models import Message, Status

WORKERS = (2, 10, 30, 100)
NUMBERS = 10
BATCH = 75
LEAST = 20_000  # people for each number, or the messages run out
SECONDS = 8.0
WARMING = 2.0  # seconds in which each of them opens its connection
KEPT = Bound("≥", 0.5, "of the rate of two")


def measure(scale: Scale) -> Iterator[Row]:
    people = max(LEAST, scale.sends // 4)
    stores = [_store(number, people) for number in range(NUMBERS)]
    alone = 0.0
    for workers in WORKERS:
        sent, took = _together(stores, workers)
        rate = sent / took.wall
        alone = alone or rate
        yield bounded(f"{workers} workers", [rate / alone], KEPT, costs=[took], units=sent)


def _store(number: int, people: int) -> Store:
    """A store of its own for each number, with a broadcast that is being sent."""
    store = opened(people, category="UTILITY", name=f"benchmark-{number}", phones=f"+91{80 + number}")
    broadcast = Broadcast.objects.create(
        organization=store.owner, name="News", template=store.template, phone_number=store.number
    )
    broadcast.tags.add(tagged(store, "Everybody", people))
    now = timezone.now()
    launch.send(broadcast, now=now)
    launch.start_queued(now=now)
    return store


def _together(stores: list[Store], workers: int) -> tuple[int, Cost]:
    """How many so many workers settle, and what that takes."""
    before = Message.objects.filter(status=Status.SENT).count()
    connection.close()  # a child must not share it
    forked = multiprocessing.get_context("fork")
    begin = time.time() + WARMING + workers / 20
    numbers = [stores[place % NUMBERS].number.pk for place in range(workers)]
    children = [forked.Process(target=_work, args=(number, begin)) for number in numbers]
    for child in children:
        child.start()
    postgres = postmaster()
    time.sleep(max(0.0, begin - time.time()))
    database, own = tree_cpu(postgres), sum(cpu(child.pid or 0) for child in children)
    time.sleep(SECONDS)
    took = Cost(SECONDS, sum(cpu(child.pid or 0) for child in children) - own, tree_cpu(postgres) - database)
    for child in children:
        child.join()
    if any(child.exitcode for child in children):
        raise SystemExit("A worker broke off.")
    return Message.objects.filter(status=Status.SENT).count() - before, took


def _work(number: int, begin: float) -> None:
    live = claiming.live(number, now=timezone.now())
    time.sleep(max(0.0, begin - time.time()))
    while time.time() < begin + SECONDS:
        now = timezone.now()
        claimed = claiming.claim(live, limit=BATCH, now=now).envelopes
        if claimed:
            settling.settle_and_hold(meta.accepted(claimed, at=now))
