"""Celery's door to the sequences."""

from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from sequences import sweeping

SLICE = timedelta(seconds=5)


@shared_task(expires=1)
def sweep() -> None:
    """Decide what happened, and advance who is due, for about five seconds. Losing or doubling a call is harmless."""
    now = timezone.now()
    sweeping.sweep(now=now, until=now + SLICE)
