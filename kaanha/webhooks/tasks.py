"""Celery's door to the deliveries: a poke, harmless when lost or doubled."""

from celery import shared_task
from django.utils import timezone

from kaanha.webhooks import cleaning, delivering


@shared_task(expires=5)
def deliver() -> dict[str, int]:
    """Deliver what is due for about ten seconds. Occupies one thread of a worker at the most."""
    return dict(delivering.sweep(until=timezone.now() + delivering.SLICE))


@shared_task(expires=3600)
def drop_old() -> int:
    """Drop events that are old enough, with their deliveries."""
    return cleaning.drop_old(now=timezone.now())
