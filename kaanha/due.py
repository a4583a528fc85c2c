"""What is due, done in this process: by beat while Redis is away, and by `manage.py run_due`.

The same acts as the tasks', under the same claims. Workers that still run do no harm, nor does a second beat.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from celery import current_app
from django.db import connections
from django.utils import timezone

from broadcasts import launch
from broadcasts.models import Broadcast, Status
from kaanha.inbound import applying
from kaanha.messaging import claiming, receipts, sending, sweeping
from kaanha.messaging.tasks import wake_senders
from kaanha.webhooks import delivering
from sequences import sweeping as sequences
from templates_app import asked_syncs

SLICE = timedelta(seconds=3)  # shorter than a worker's: whoever stops beat doesn't wait long
NUMBERS_AT_ONCE = 32  # threads that only wait; one loop sends for all of them
PAUSE = 0.2  # seconds before another look while others send what is due
OPEN = (Status.SCHEDULED, Status.QUEUED, Status.SENDING, Status.PAUSED)


def perform(name: str, arguments: Collection[object] = ()) -> None:
    """Do here what the task `name` does. Where it would wake senders, send."""
    if name == wake_senders.name:
        send(seconds=SLICE.total_seconds())
    else:
        current_app.tasks[name](*arguments)


def send(*, seconds: float) -> Counter[str]:
    """A slice for each number with something to send, side by side; how many messages were sent, skipped, deferred."""
    numbers = claiming.numbers_with_work(now=timezone.now())
    random.shuffle(numbers)  # with more than fit at once, another comes first each time
    told: Counter[str] = Counter()
    if numbers:
        with ThreadPoolExecutor(min(len(numbers), NUMBERS_AT_ONCE), thread_name_prefix="slice") as threads:
            for part in threads.map(lambda number: _slice(number, seconds), numbers):
                told.update(part)
    return told


def everything(*, until: datetime | None = None) -> Counter[str]:
    """All that is due, over and over until nothing is or the time is over; what was done, counted."""
    done: Counter[str] = Counter()
    while True:
        now = timezone.now()
        left = SLICE if until is None else min(SLICE, until - now)
        part = _once(now, seconds=max(left.total_seconds(), 0))
        done.update(part)
        if left <= timedelta() or not (part or claiming.numbers_with_work(now=timezone.now())):
            return done
        if not part:
            time.sleep(PAUSE)


def _once(now: datetime, *, seconds: float) -> Counter[str]:
    done = Counter(
        callbacks=applying.apply_open(now=now),
        leases_ended=sweeping.expire_leases(now=now),
        canceled=sweeping.skip_canceled(now=now),
        given_up=sweeping.give_up_held(now=now),
        receipts_matched=receipts.apply_kept(now=now),
        syncs=asked_syncs.sweep(),
    )
    done.update(sequences.sweep(now=now, until=now + SLICE))
    before = _broadcasts()
    launch.sweep(now=now)
    done["broadcasts_moved"] = len(before - _broadcasts())
    done.update(send(seconds=seconds))
    told = delivering.sweep(until=now + timedelta(seconds=seconds), drain=True)
    done["webhooks_tried"] = told.total()
    return +done


def _broadcasts() -> set[tuple[int, str]]:
    return set(Broadcast.objects.filter(status__in=OPEN).values_list("pk", "status"))


def _slice(number: int, seconds: float) -> dict[str, int]:
    try:
        return sending.send_slice(number, until=timezone.now() + timedelta(seconds=seconds))
    finally:
        connections.close_all()
