"""Celery's door to imports and bulk changes. Losing or doubling a call is harmless."""

import contextlib
from datetime import timedelta

from celery import shared_task
from django.utils import timezone
from kombu.exceptions import OperationalError

from contacts import bulk, counting, uploads

SLICE = timedelta(seconds=5)


@shared_task(expires=60)
def take_import(key: int) -> bool:
    """Take the rows of one import, to its end."""
    return uploads.take(key, now=timezone.now())


def poke(key: int) -> None:
    """Ask a worker to take an import soon; the sweep asks again where that is lost."""
    with contextlib.suppress(OperationalError):
        take_import.delay(key)


@shared_task(expires=5)
def sweep() -> None:
    """Ask for a worker for each import that waits or whose worker has died, and forget files that nobody needs."""
    now = timezone.now()
    uploads.drop_files(now=now)
    with contextlib.suppress(OperationalError):  # Redis is away: the next sweep asks again
        for key in uploads.waiting(now=now):
            take_import.delay(key)


@shared_task(expires=5)
def change_in_bulk() -> None:
    """Do what was asked for with large selections, for about five seconds."""
    bulk.work(until=timezone.now() + SLICE)


def poke_bulk() -> None:
    """Ask a worker to begin soon; beat asks again where that is lost."""
    with contextlib.suppress(OperationalError):
        change_in_bulk.delay()


@shared_task(expires=60)
def fold_counts() -> None:
    """Keep short what has to be summed for the number of contacts."""
    counting.fold()
