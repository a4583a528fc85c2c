"""What a message weighs from its launch to its last callback: WAL, disk, and CPU of ours and of PostgreSQL, by stage.

docs/scaling.md multiplies these. The stages are called as workers call them, without the network between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import TypeVar

from django.db import connection
from django.utils import timezone

from benchmarks import meta
from benchmarks.measuring import Cost, cost
from benchmarks.reporting import Bound, Detail, Row, bounded
from benchmarks.scale import Scale
from benchmarks.store import Store, execute, opened, tagged
from broadcasts import launch
from broadcasts.models import Broadcast, Status
from kaanha.inbound import applying
from kaanha.inbound.models import Callback
from kaanha.messaging import claiming, settling
from kaanha.messaging.claiming import Envelope

BATCH = 75  # rows of a claim at 1,000 messages a second
TOGETHER = 10  # statuses in a body
BODIES = 50  # that wait when they are applied
T = TypeVar("T")
WAL = Bound("≤", 2, "kB of WAL")
DISK = Bound("≤", 2, "kB of disk")


def measure(scale: Scale) -> Iterator[Row]:
    """One broadcast to a tenth of the sends, stage by stage; then what is left of it on the disk."""
    people = scale.sends // 10
    run = Run(opened(people, body="There is news for you in the shop."), people)
    empty = _disk()
    for name, act in run.stages():
        yield _stage(name, people, act)
    kilobytes = (_disk() - empty) / people / 1024
    yield bounded("left on the disk", [kilobytes], DISK, costs=[Cost(1, 0)], units=people)


class Run:
    """A broadcast to so many of a store's contacts, on its way from its launch to *read*."""

    def __init__(self, store: Store, people: int) -> None:
        self.store, self.people, self.now = store, people, timezone.now()
        self.sent: list[Envelope] = []
        self.broadcast = Broadcast.objects.create(
            organization=store.owner, name="News", template=store.template, phone_number=store.number
        )
        self.broadcast.tags.add(tagged(store, f"Everybody {self.now}", people))
        launch.send(self.broadcast, now=self.now)

    def stages(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """Each stage with what does it, to be done before the next is asked for."""
        yield "launch", lambda: launch.start_queued(now=self.now)
        yield "claim and settle", lambda: self.sent.extend(_send(self.store))
        if len(self.sent) != self.people:
            raise SystemExit(f"{len(self.sent):,} messages were sent instead of {self.people:,}.")
        for status in ("sent", "delivered", "read"):
            bodies = [_body(self.store, part, status, self.now) for part in _parts(self.sent, TOGETHER)]
            yield f"callbacks: {status}", partial(_hear, self.store, bodies)

    def end(self) -> None:
        """Let the next broadcast begin, and its people have marketing again."""
        Broadcast.objects.filter(pk=self.broadcast.pk).update(status=Status.COMPLETED)
        execute("TRUNCATE messaging_marketingcap, inbound_callback")


def _stage(name: str, people: int, act: Callable[[], object]) -> Row:
    before = _written()
    took = cost(act)
    kilobytes = (_written() - before) / people / 1024
    detail: Detail = {"own cpu ms": took.own / people * 1000}
    return bounded(name, [kilobytes], WAL, costs=[took], units=people, detail=detail)


def _send(store: Store) -> Iterator[Envelope]:
    """Claim, have Meta accept, settle, until nothing is left."""
    now = timezone.now()
    live = claiming.live(store.number.pk, now=now)
    while envelopes := claiming.claim(live, limit=BATCH, now=now).envelopes:
        settling.settle_and_hold(meta.accepted(envelopes, at=now))
        yield from envelopes


def _hear(store: Store, bodies: list[bytes]) -> None:
    """Store the bodies as they come in, and apply them whenever some wait."""
    for part in _parts(bodies, BODIES):
        for body in part:
            Callback.objects.create(app=store.number.account.app, body=body, received_at=timezone.now())
        while applying.apply_open(now=timezone.now()):
            pass


def _body(store: Store, sent: list[Envelope], status: str, at: datetime) -> bytes:
    return meta.body(store.number, [meta.status(one.id, status, at=at, attempt=one.attempt) for one in sent])


def _parts(rows: list[T], size: int) -> Iterator[list[T]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _written() -> int:
    return _number("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint")


def _disk() -> int:
    """Bytes of the ledger and of the caps, without what a vacuum gives back."""
    execute("VACUUM messaging_message, messaging_marketingcap")
    return _number(
        "SELECT pg_total_relation_size('messaging_message') + pg_total_relation_size('messaging_marketingcap')"
    )


def _number(statement: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return int(cursor.fetchone()[0])
