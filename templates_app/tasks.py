"""Celery's door to the syncs that were asked for."""

from celery import shared_task

from templates_app import asked_syncs


@shared_task(expires=5)
def sweep() -> int:
    """Do what is asked for. Losing or doubling a call is harmless."""
    return asked_syncs.sweep()
