"""Celery's doors to the callbacks."""

import threading
import time
from datetime import datetime, timedelta

from celery import shared_task
from django.utils import timezone

from kaanha.inbound import applying
from kaanha.messaging import receipts

TURN = timedelta(seconds=5)  # then the worker hears its other lanes; beat asks again every second
PAUSE = 0.1  # seconds before another look, while callbacks keep coming
LARGE = applying.BATCH_BODIES // 2  # bodies: more may wait

_one = threading.Lock()  # in a process: of what comes meanwhile several would only make smaller batches


@shared_task(expires=5)
def apply_callbacks() -> int:
    """Apply what has come in, batch by batch, and what comes meanwhile, for about five seconds; how many.

    Losing or doubling a call is harmless.
    """
    if not _one.acquire(blocking=False):
        return 0
    try:
        return _apply_until(timezone.now() + TURN)
    finally:
        _one.release()


def _apply_until(end: datetime) -> int:
    """Ends earlier where two looks in a row find nothing. A moment between them makes batches of single bodies."""
    applied, batch = 0, 0
    while (now := timezone.now()) < end:
        before, batch = batch, applying.apply_open(now=now)
        applied += batch
        if not batch and not before:
            break
        if batch < LARGE:
            time.sleep(PAUSE)
    return applied


@shared_task(expires=3600)
def drop_old_callbacks() -> int:
    """Delete bodies applied a week ago, a month ago with problems, and receipts that matched nothing for a month."""
    dropped = 0
    for drop in (applying.drop_old, receipts.drop_old):
        while batch := drop(now=timezone.now()):
            dropped += batch
    return dropped
