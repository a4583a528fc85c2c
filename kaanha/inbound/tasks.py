"""Celery's doors to the callbacks."""

from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from kaanha.inbound import applying
from kaanha.messaging import receipts

TURN = timedelta(seconds=5)  # then the worker hears its other lanes; beat asks again every second


@shared_task(expires=5)
def apply_callbacks() -> int:
    """Apply what has come in, batch by batch, for about five seconds. Losing or doubling a call is harmless."""
    applied, until = 0, timezone.now() + TURN
    while (now := timezone.now()) < until and (batch := applying.apply_open(now=now)):
        applied += batch
    return applied


@shared_task(expires=3600)
def drop_old_callbacks() -> int:
    """Delete bodies applied a week ago, a month ago with problems, and receipts that matched nothing for a month."""
    dropped = 0
    for drop in (applying.drop_old, receipts.drop_old):
        while batch := drop(now=timezone.now()):
            dropped += batch
    return dropped
