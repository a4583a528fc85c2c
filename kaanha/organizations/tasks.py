"""Celery's doors to what organizations keep."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from kaanha.organizations import idempotency


@shared_task(expires=3600)
def drop_kept_answers() -> int:
    """Forget answers to requests with an Idempotency-Key after a day."""
    return idempotency.drop_old(now=timezone.now())
