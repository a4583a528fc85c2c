"""What a worker sends to itself."""

from celery import shared_task


@shared_task(expires=10)
def hear() -> None:
    """Nothing: that it arrives is the news."""
