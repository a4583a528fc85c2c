"""Celery's doors to the callbacks."""

import threading
import time
from datetime import datetime, timedelta

from celery import shared_task
from django.utils import timezone

from kaanha.inbound import applying
from kaanha.messaging import receipts

TURN = timedelta(seconds=5)  # then the worker hears its other lanes; beat asks again every second
PAUSE = 0.1  # seconds from one look to the next, so that what comes one by one is applied in batches
LARGE = applying.BATCH_BODIES // 2  # bodies: more may wait

# When each thread of this process that applies callbacks began. Several would only take them from one another, but one
# that has been at it for longer than its turn waits for something, and a STOP must not wait with it.
_begun: list[float] = []
_lock = threading.Lock()


@shared_task(expires=5)
def apply_callbacks() -> int:
    """Apply what has come in, batch by batch, and what comes meanwhile, for about five seconds; how many.

    Losing or doubling a call is harmless.
    """
    now = time.monotonic()
    with _lock:
        if any(now - begun <= TURN.total_seconds() for begun in _begun):
            return 0
        _begun.append(now)
    try:
        return _apply_until(timezone.now() + TURN)
    finally:
        with _lock:
            _begun.remove(now)


def _apply_until(end: datetime) -> int:
    """Ends earlier where two looks in a row find nothing."""
    applied, batch = 0, 0
    while (now := timezone.now()) < end:
        began = time.monotonic()
        before, batch = batch, applying.apply_open(now=now)
        applied += batch
        if not batch and not before:
            break
        if batch < LARGE:
            time.sleep(max(0.0, began + PAUSE - time.monotonic()))
    return applied


@shared_task(expires=3600)
def drop_old_callbacks() -> int:
    """Delete bodies applied a week ago, a month ago with problems, and receipts that matched nothing for a month."""
    dropped = 0
    for drop in (applying.drop_old, receipts.drop_old):
        while batch := drop(now=timezone.now()):
            dropped += batch
    return dropped
