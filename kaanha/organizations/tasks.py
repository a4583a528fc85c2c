"""Celery's doors to what organizations keep."""

from __future__ import annotations

from celery import shared_task
from django.contrib.sessions.models import Session
from django.utils import timezone

from kaanha.organizations import idempotency


@shared_task(expires=3600)
def drop_kept_answers() -> int:
    """Forget answers to requests with an Idempotency-Key after a day."""
    return idempotency.drop_old(now=timezone.now())


@shared_task(expires=86400)
def drop_ended_sessions() -> int:
    """Forget the sessions whose 24 hours are over; how many. Nobody could use them any more."""
    return int(Session.objects.filter(expire_date__lt=timezone.now()).delete()[0])
