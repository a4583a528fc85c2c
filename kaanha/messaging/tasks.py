"""Celery's doors to the ledger. Each is a poke and a name: losing or doubling a call is harmless."""

import contextlib
import random

from celery import shared_task
from django.utils import timezone
from kombu.exceptions import OperationalError

from kaanha.messaging import claiming, receipts, sending, sweeping


@shared_task(expires=30)
def send_slice(phone_number_id: int) -> dict[str, int]:
    """Send for one number for about ten seconds, and ask for another turn if there is more."""
    told = sending.send_slice(phone_number_id, until=timezone.now() + sending.SLICE)
    if told and claiming.live(phone_number_id, now=timezone.now()):
        with contextlib.suppress(OperationalError):  # Redis is away: the next sweep asks again
            send_slice.delay(phone_number_id)
    return told


@shared_task(expires=1)
def wake_senders() -> None:
    """Poke a sender for each number that has something to send."""
    numbers = claiming.numbers_with_work(now=timezone.now())
    for number in random.sample(numbers, len(numbers)):  # with more numbers than threads, none is always last
        send_slice.delay(number)


@shared_task(expires=5)
def sweep() -> None:
    """Ended leases, canceled rows, held requests, receipts that came before their message was known."""
    now = timezone.now()
    while sweeping.expire_leases(now=now) == sweeping.BATCH:
        pass
    while sweeping.skip_canceled(now=now) == sweeping.BATCH:
        pass
    while sweeping.give_up_held(now=now) == sweeping.BATCH:
        pass
    receipts.apply_kept(now=now)
