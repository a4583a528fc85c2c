"""Celery's doors to the callbacks."""

from celery import shared_task
from django.utils import timezone

from kaanha.inbound import applying


@shared_task(expires=5)
def apply_callbacks() -> int:
    """Apply what has come in, batch by batch, until nothing waits. Losing or doubling a call is harmless."""
    applied = 0
    while batch := applying.apply_open(now=timezone.now()):
        applied += batch
    return applied


@shared_task(expires=3600)
def drop_old_callbacks() -> int:
    """Delete bodies that were applied a week ago, and a month ago those with problems."""
    dropped = 0
    while batch := applying.drop_old(now=timezone.now()):
        dropped += batch
    return dropped
