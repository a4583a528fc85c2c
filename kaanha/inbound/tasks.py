"""Celery's doors to the callbacks."""

import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from celery import shared_task
from django.utils import timezone

from kaanha.inbound import applying
from kaanha.messaging import receipts

TURN = timedelta(seconds=5)  # then the worker hears its other lanes; beat asks again every second
PAUSE = 0.1  # seconds from one look to the next, so that what comes one by one is applied in batches
LARGE = applying.BATCH_BODIES // 2  # bodies: more may wait
ABREAST = 2  # threads: one reads bodies while PostgreSQL works for the other


@dataclass
class _Applying:
    """What the threads of this process that apply callbacks know of one another."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    # When each began. One that has been at it for longer than its turn waits for something, and a STOP must not wait
    # with it; otherwise more than two would only take the callbacks from one another.
    begun: list[float] = field(default_factory=list)
    much: bool = False  # waited at the last look


_here = _Applying()


@shared_task(expires=5)
def apply_callbacks() -> int:
    """Apply what has come in, batch by batch, and what comes meanwhile, for about five seconds; how many.

    A second one at a time helps as long as there is much. Losing or doubling a call is harmless.
    """
    now = time.monotonic()
    with _here.lock:
        others = sum(now - begun <= TURN.total_seconds() for begun in _here.begun)
        if others >= ABREAST or (others and not _here.much):
            return 0
        _here.begun.append(now)
    try:
        return _apply_until(timezone.now() + TURN, helps=others > 0)
    finally:
        with _here.lock:
            _here.begun.remove(now)


def _apply_until(end: datetime, *, helps: bool) -> int:
    """Ends earlier where two looks in a row find nothing; one that helps, where there is no more than for one."""
    applied, batch = 0, 0
    while (now := timezone.now()) < end:
        began = time.monotonic()
        before, batch = batch, applying.apply_open(now=now)
        applied += batch
        pause = began + PAUSE - time.monotonic()
        _here.much = much = batch >= LARGE or (batch > 0 and pause < 0)
        if not (much if helps else batch or before):
            break
        if not much:
            time.sleep(max(0.0, pause))
    return applied


@shared_task(expires=3600)
def drop_old_callbacks() -> int:
    """Delete bodies applied a week ago, a month ago with problems, and receipts that matched nothing for a month."""
    dropped = 0
    for drop in (applying.drop_old, receipts.drop_old):
        while batch := drop(now=timezone.now()):
            dropped += batch
    return dropped
