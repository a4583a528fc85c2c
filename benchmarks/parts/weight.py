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
from broadcasts.models import Broadcast
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
    store = opened(people, body="There is news for you in the shop.")
    broadcast = Broadcast.objects.create(
        organization=store.owner, name="News", template=store.template, phone_number=store.number
    )
    broadcast.tags.add(tagged(store, "Everybody", people))
    now, sent = timezone.now(), list[Envelope]()
    launch.send(broadcast, now=now)
    empty = _disk()
    yield _stage("launch", people, lambda: launch.start_queued(now=now))
    yield _stage("claim and settle", people, lambda: sent.extend(_send(store)))
    if len(sent) != people:
        raise SystemExit(f"{len(sent):,} messages were sent instead of {people:,}.")
    for status in ("sent", "delivered", "read"):
        bodies = [_body(store, part, status, now) for part in _parts(sent, TOGETHER)]
        yield _stage(f"callbacks: {status}", people, partial(_hear, store, bodies))
    kilobytes = (_disk() - empty) / people / 1024
    yield bounded("left on the disk", [kilobytes], DISK, costs=[Cost(1, 0)], units=people)


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
