"""Delivering to customers: claim, POST in threads, settle. Slow and dead endpoints keep nobody else waiting.

What was posted but not settled, because the process died, is posted again when its lease ends: with the same event id,
by which the receiver knows it.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.db import connection, connections, transaction
from django.utils import timezone

from kaanha.lib import outward_http
from kaanha.webhooks.models import GONE, TEST, Attempt, Delivery, Endpoint, Event, Status

AT_ONCE = 32  # POSTs of a process; each is a thread that waits
AT_AN_ENDPOINT = 4  # deliveries on their way to one endpoint, one while it fails
LEASE = timedelta(seconds=60)  # much longer than a POST may take
SLICE = timedelta(seconds=10)
LOOK = 1.0  # seconds without an answer after which more may have fallen due
BATCH = 1000  # given up in one statement

logger = logging.getLogger(__name__)
_turn = threading.Lock()
_running: set[Future[str]] = set()


def sweep(*, until: datetime, drain: bool = False) -> Counter[str]:
    """Deliver what is due; how many were delivered, failed, put off and given up.

    Returns when nothing is left to begin, or at `until`; what is on its way then goes on in its threads. With `drain`
    its end is awaited, too. One turn at a time in a process: another returns at once.
    """
    told: Counter[str] = Counter()
    if not _turn.acquire(blocking=False):
        return told
    try:
        told["given_up"] = give_up(now=timezone.now())
        while _turn_once(told, until=until, drain=drain):
            pass
    finally:
        _turn.release()
    return +told


def _turn_once(told: Counter[str], *, until: datetime, drain: bool) -> bool:
    """Begin what is due and fits; whether it is worth another look."""
    now = timezone.now()
    claimed = claim(AT_ONCE - len(_running), now=now) if now < until else []
    _running.update(_threads().submit(_deliver_apart, one) for one in claimed)
    if not _running or (now >= until and not drain):
        return False
    done, _ = wait(_running, timeout=LOOK, return_when=FIRST_COMPLETED)
    _running.difference_update(done)
    told.update(future.result() for future in done)
    return True


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook")


def claim(limit: int, *, now: datetime) -> list[Delivery]:
    """At most `limit` due deliveries, now this process's for the time of their lease, with endpoint and event.

    Endpoints that fail get what is left of the first half of the threads, one each: however many are dead, the others
    find the second half free. A turn takes no endpoint that another turn holds, so that their number is kept.
    """
    with transaction.atomic(durable=True):
        failing = max(limit - AT_ONCE // 2, 0)
        endpoints = _lock(failing=False, limit=limit, now=now) + _lock(failing=True, limit=failing, now=now)
        if not endpoints:
            return []
        with connection.cursor() as cursor:
            given: dict[str, Any] = {
                "endpoints": endpoints,
                "now": now,
                "limit": limit,
                "lease": now + LEASE,
                "most": AT_AN_ENDPOINT,
            }
            cursor.execute(_CLAIM, given)
            keys = [key for (key,) in cursor.fetchall()]
    return list(Delivery.objects.filter(pk__in=keys).select_related("endpoint", "event"))


def _lock(*, failing: bool, limit: int, now: datetime) -> list[int]:
    if limit <= 0:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_ENDPOINTS, {"failing": failing, "limit": limit, "now": now})
        return [key for (key,) in cursor.fetchall()]


def _deliver_apart(claimed: Delivery) -> str:
    """In a thread of its own. What goes wrong here is the lease's: the delivery falls due again."""
    try:
        return deliver(claimed)
    except Exception:
        logger.exception("A webhook delivery could not be settled")
        return "unsettled"
    finally:
        connections.close_all()


def deliver(claimed: Delivery) -> str:
    """POST what is claimed, and settle it: "delivered", "failed" or "put_off"."""
    body = claimed.event.body()
    began = timezone.now()
    answer = outward_http.post(claimed.endpoint.url, body, headers(claimed, body))
    return settle(claimed, answer, began=began, now=timezone.now())


def headers(claimed: Delivery, body: bytes) -> dict[str, str]:
    """What goes before the body of a delivery."""
    return {
        "Content-Type": "application/json",
        "User-Agent": "Kaanha-Webhooks",
        "X-Kaanha-Event-Id": claimed.event.public_id,
        "X-Kaanha-Signature": claimed.endpoint.signature(body),
    }


def settle(claimed: Delivery, answer: outward_http.Answer, *, began: datetime, now: datetime) -> str:
    """Note the attempt, and what it means for delivery and endpoint, which are locked in the order of claims."""
    with transaction.atomic():
        endpoint = Endpoint.objects.select_for_update(no_key=True).filter(pk=claimed.endpoint_id).first()
        delivery = Delivery.objects.select_for_update().filter(pk=claimed.pk).first()
        if endpoint is None or delivery is None:
            return "failed"  # somebody deleted the endpoint
        is_test = claimed.event.kind == TEST
        gone = answer.status == GONE
        _note(claimed, answer, began)
        delivery.settle(answer, attempt=claimed.attempts, retried=not is_test and not gone, now=now)
        if gone or (endpoint.failing_since if answer.ok else not is_test):
            endpoint.heed(ok=answer.ok, gone=gone, given_up=delivery.status == Status.FAILED, now=now)
    return "put_off" if delivery.status == Status.PENDING else str(delivery.status)


def _note(claimed: Delivery, answer: outward_http.Answer, began: datetime) -> None:
    Attempt.objects.create(
        delivery_id=claimed.pk,
        number=claimed.attempts,
        at=began,
        response_code=answer.status,
        milliseconds=answer.milliseconds,
        error=answer.error[:300],
        excerpt=answer.excerpt,
    )


def give_up(*, now: datetime, limit: int = BATCH) -> int:
    """Deliveries to endpoints that no longer listen have failed, with that reason; how many. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(_GIVE_UP, {"now": now, "limit": limit})
        return cursor.rowcount


def test(endpoint: Endpoint, *, now: datetime) -> Attempt:
    """Send the endpoint a `test` event here and now, once; what came of it. Not inside a transaction."""
    with transaction.atomic(durable=True):
        told = {"message": "This is a test event."}
        event = Event.objects.create(organization_id=endpoint.organization_id, kind=TEST, data=told, occurred_at=now)
        lease = now + LEASE
        claimed = Delivery.objects.create(
            organization_id=endpoint.organization_id,
            event=event,
            endpoint=endpoint,
            tries=1,
            attempts=1,
            next_attempt_at=lease,
            lease_until=lease,
        )
    deliver(claimed)
    return Attempt.objects.get(delivery=claimed)


_ENDPOINTS = """
SELECT p.id FROM webhooks_endpoint p
WHERE p.active AND p.disabled_at IS NULL AND (p.failing_since IS NOT NULL) = %(failing)s
  AND EXISTS (SELECT FROM webhooks_delivery d WHERE d.endpoint_id = p.id AND d.next_attempt_at <= %(now)s)
ORDER BY random() LIMIT %(limit)s FOR NO KEY UPDATE OF p SKIP LOCKED
"""
# A statement of its own after the endpoints are locked: it sees what the last turn has claimed for them. The first of
# each endpoint comes before the second of any.
_CLAIM = """
WITH due AS MATERIALIZED (
  SELECT d.id, row_number() OVER (PARTITION BY p.id) AS place
  FROM webhooks_endpoint p CROSS JOIN LATERAL (
    SELECT id FROM webhooks_delivery WHERE endpoint_id = p.id AND next_attempt_at <= %(now)s
    ORDER BY next_attempt_at
    LIMIT greatest(CASE WHEN p.failing_since IS NULL THEN %(most)s ELSE 1 END - (
      SELECT count(*) FROM webhooks_delivery WHERE endpoint_id = p.id AND lease_until > %(now)s), 0)
    FOR NO KEY UPDATE SKIP LOCKED) d
  WHERE p.id = ANY(%(endpoints)s)
)
UPDATE webhooks_delivery d
SET tries = d.tries + 1, attempts = d.attempts + 1, next_attempt_at = %(lease)s, lease_until = %(lease)s
FROM (SELECT id FROM due ORDER BY place LIMIT %(limit)s) AS picked WHERE d.id = picked.id RETURNING d.id
"""
_GIVE_UP = """
WITH left_over AS (
  SELECT d.id, p.active FROM webhooks_endpoint p CROSS JOIN LATERAL (
    SELECT id FROM webhooks_delivery
    WHERE endpoint_id = p.id AND next_attempt_at IS NOT NULL AND (lease_until IS NULL OR lease_until <= %(now)s)
    LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED) d
  WHERE NOT p.active OR p.disabled_at IS NOT NULL LIMIT %(limit)s
)
UPDATE webhooks_delivery d SET status = 'failed', next_attempt_at = NULL, lease_until = NULL,
  reason = CASE WHEN left_over.active THEN 'The endpoint is disabled.' ELSE 'The endpoint is turned off.' END
FROM left_over WHERE d.id = left_over.id
"""
