"""Celery's door to the broadcasts."""

from celery import shared_task
from django.utils import timezone

from broadcasts import launch


@shared_task(expires=5)
def sweep() -> None:
    """Start what is due, follow what is sending, finish what is done. Losing or doubling a call is harmless."""
    launch.sweep(now=timezone.now())
