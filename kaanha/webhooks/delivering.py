"""Delivering to customers: claim, POST in threads, settle. Slow and dead endpoints keep nobody else waiting.

A POST carries one delivery, or up to a hundred where the endpoint takes batches. A batch is put together anew for each
attempt: what counts are the ids of the events in it.

What was posted but not settled, because the process died, is posted again when its lease ends: with the same event id,
by which the receiver knows it.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.db import connection, connections, transaction
from django.utils import timezone

from kaanha.lib import outward_http
from kaanha.webhooks.models import GONE, TEST, Attempt, Delivery, Endpoint, Event, Status, batch_body

AT_ONCE = 32  # POSTs of a process; each is a thread that waits
AT_AN_ENDPOINT = 4  # POSTs on their way to one endpoint, one while it fails
EVENTS, BYTES = 100, 500_000  # in a batch: events at the most, and bytes of data after which no more are added
EXCERPT = 200  # letters of an answer to a batch that are kept with each of its deliveries
LEASE = timedelta(seconds=60)  # much longer than a POST may take
SLICE = timedelta(seconds=10)
LOOK = 1.0  # seconds without an answer after which more may have fallen due
GIVEN_UP = 1000  # in one statement

logger = logging.getLogger(__name__)
_turn = threading.Lock()
_running: set[Future[Counter[str]]] = set()


@dataclass(frozen=True, slots=True)
class Post:
    """One POST to one endpoint, claimed: a delivery, or many where the endpoint takes batches."""

    endpoint: Endpoint
    deliveries: list[Delivery]

    def body(self) -> bytes:
        if self.endpoint.batched:
            return batch_body(one.event for one in self.deliveries)
        return self.deliveries[0].event.body()

    def headers(self, body: bytes) -> dict[str, str]:
        """What goes before the body."""
        of_batch = {"X-Kaanha-Events": str(len(self.deliveries))}
        return {
            "Content-Type": "application/json",
            "User-Agent": "Kaanha-Webhooks",
            "X-Kaanha-Signature": self.endpoint.signature(body),
            **(of_batch if self.endpoint.batched else {"X-Kaanha-Event-Id": self.deliveries[0].event.public_id}),
        }


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
    for future in done:
        told.update(future.result())
    return True


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook")


def claim(limit: int, *, now: datetime) -> list[Post]:
    """At most `limit` POSTs of what is due, now this process's for the time of their lease.

    Endpoints that fail or are slow get what is left of the first half of the threads, and those that fail one each:
    however many they are, the others find the second half free. A turn takes no endpoint that another turn holds, so
    that their number is kept.
    """
    with transaction.atomic(durable=True):
        apart = max(limit - AT_ONCE // 2, 0)
        endpoints = _lock(apart=False, limit=limit, now=now) + _lock(apart=True, limit=apart, now=now)
        if not endpoints:
            return []
        with connection.cursor() as cursor:
            cursor.execute(_CLAIM, _given(endpoints, limit=limit, now=now))
            keys = [key for (key,) in cursor.fetchall()]
    together: dict[int | None, list[Delivery]] = defaultdict(list)
    for one in Delivery.objects.filter(pk__in=keys).select_related("endpoint", "event").order_by("pk"):
        together[one.posted_with].append(one)
    return [Post(deliveries[0].endpoint, deliveries) for deliveries in together.values()]


def _given(endpoints: list[int], *, limit: int, now: datetime) -> dict[str, Any]:
    bounds = {"limit": limit, "most": AT_AN_ENDPOINT, "events": EVENTS, "bytes": BYTES}
    return {"endpoints": endpoints, "now": now, "lease": now + LEASE, **bounds}


def _lock(*, apart: bool, limit: int, now: datetime) -> list[int]:
    if limit <= 0:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_ENDPOINTS, {"apart": apart, "limit": limit, "now": now})
        return [key for (key,) in cursor.fetchall()]


def _deliver_apart(claimed: Post) -> Counter[str]:
    """In a thread of its own. What goes wrong here is the lease's: the deliveries fall due again."""
    try:
        return deliver(claimed)
    except Exception:
        logger.exception("A webhook delivery could not be settled")
        return Counter(unsettled=len(claimed.deliveries))
    finally:
        connections.close_all()


def deliver(claimed: Post) -> Counter[str]:
    """POST what is claimed, and settle it: how many were "delivered", "failed" and "put_off"."""
    body = claimed.body()
    began = timezone.now()
    answer = outward_http.post(claimed.endpoint.url, body, claimed.headers(body))
    return settle(claimed, answer, began=began, now=timezone.now())


def settle(claimed: Post, answer: outward_http.Answer, *, began: datetime, now: datetime) -> Counter[str]:
    """Note the attempt, and what it means for deliveries and endpoint, which are locked in the order of claims."""
    numbers = {one.pk: one.attempts for one in claimed.deliveries}
    tests = {one.pk for one in claimed.deliveries if one.event.kind == TEST}
    only_tests, gone = len(tests) == len(numbers), answer.status == GONE
    with transaction.atomic():
        endpoint = Endpoint.objects.select_for_update(no_key=True).filter(pk=claimed.endpoint.pk).first()
        if endpoint is None:
            return Counter()  # its organization has just been deleted
        held: list[Delivery] = list(Delivery.objects.select_for_update().filter(pk__in=numbers).order_by("pk"))
        _note(held, numbers, answer, began)
        Delivery.keep([
            one for one in held
            if one.settle(answer, attempt=numbers[one.pk], retried=one.pk not in tests and not gone, now=now)
        ])  # fmt: skip
        if gone or (answer.ok if only_tests else True):
            given_up = any(one.status == Status.FAILED for one in held)
            endpoint.heed(answer, given_up=given_up, now=now)
    return Counter("put_off" if one.status == Status.PENDING else str(one.status) for one in held)


def _note(held: Iterable[Delivery], numbers: dict[int, int], answer: outward_http.Answer, began: datetime) -> None:
    Attempt.objects.bulk_create(
        Attempt(
            delivery=one,
            number=numbers[one.pk],
            at=began,
            response_code=answer.status,
            milliseconds=answer.milliseconds,
            error=answer.error[:300],
            excerpt=answer.excerpt if len(numbers) == 1 else answer.excerpt[:EXCERPT],
            events=len(numbers),
        )
        for one in held
    )


def give_up(*, now: datetime, limit: int = GIVEN_UP) -> int:
    """Deliveries to endpoints that no longer listen have failed, with that reason; how many. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(_GIVE_UP, {"now": now, "limit": limit})
        return cursor.rowcount


def test(endpoint: Endpoint, *, now: datetime) -> Attempt:
    """Send the endpoint a `test` event here and now, once; what came of it. Not inside a transaction."""
    lease = now + LEASE
    with transaction.atomic(durable=True):
        claimed = _test(endpoint, now, tries=1, attempts=1, next_attempt_at=lease, lease_until=lease)
    deliver(Post(endpoint, [claimed]))
    return Attempt.objects.get(delivery=claimed)


def ask_for_test(endpoint: Endpoint, *, now: datetime) -> Delivery:
    """A `test` event that the next sweep sends, once: for those who are inside a transaction."""
    return _test(endpoint, now, next_attempt_at=now)


def _test(endpoint: Endpoint, now: datetime, **columns: Any) -> Delivery:
    owner = endpoint.organization_id
    told = {"message": "This is a test event."}
    event = Event.objects.create(organization_id=owner, kind=TEST, data=told, occurred_at=now)
    made: Delivery = Delivery.objects.create(organization_id=owner, event=event, endpoint=endpoint, **columns)
    return made


_ENDPOINTS = """
SELECT p.id FROM webhooks_endpoint p
WHERE p.active AND p.disabled_at IS NULL AND (p.failing_since IS NOT NULL OR p.slow) = %(apart)s
  AND EXISTS (SELECT FROM webhooks_delivery d WHERE d.endpoint_id = p.id AND d.next_attempt_at <= %(now)s)
ORDER BY random() LIMIT %(limit)s FOR NO KEY UPDATE OF p SKIP LOCKED
"""
# A statement of its own after the endpoints are locked: it sees what the last turn has claimed for them. The first POST
# to each endpoint comes before the second to any. A batch ends with its hundredth event, or with that which fills it.
_CLAIM = """
WITH free AS MATERIALIZED (
  SELECT p.id, p.batched, greatest(CASE WHEN p.failing_since IS NULL THEN %(most)s ELSE 1 END - (
    SELECT count(DISTINCT posted_with) FROM webhooks_delivery
    WHERE endpoint_id = p.id AND lease_until > %(now)s), 0) AS posts
  FROM webhooks_endpoint p WHERE p.id = ANY(%(endpoints)s)
), due AS MATERIALIZED (
  SELECT d.id, d.event_id, d.next_attempt_at, free.id AS endpoint_id, free.batched, free.posts
  FROM free CROSS JOIN LATERAL (
    SELECT id, event_id, next_attempt_at FROM webhooks_delivery
    WHERE endpoint_id = free.id AND next_attempt_at <= %(now)s
    ORDER BY next_attempt_at LIMIT free.posts * CASE WHEN free.batched THEN %(events)s ELSE 1 END
    FOR NO KEY UPDATE SKIP LOCKED) d
), parts AS (
  SELECT due.id, endpoint_id, posts, CASE
    WHEN batched THEN (row_number() OVER line - 1) / %(events)s + sum(octet_length(e.data::text)) OVER line / %(bytes)s
    ELSE row_number() OVER line END AS part
  FROM due JOIN webhooks_event e ON e.id = due.event_id
  WINDOW line AS (PARTITION BY endpoint_id ORDER BY next_attempt_at, due.id)
), placed AS MATERIALIZED (
  SELECT id, posts, min(id) OVER (PARTITION BY endpoint_id, part) AS posted_with,
    dense_rank() OVER (PARTITION BY endpoint_id ORDER BY part) AS place
  FROM parts
), picked AS (
  SELECT posted_with FROM placed WHERE place <= posts GROUP BY posted_with ORDER BY min(place) LIMIT %(limit)s
)
UPDATE webhooks_delivery d SET tries = d.tries + 1, attempts = d.attempts + 1, next_attempt_at = %(lease)s,
  lease_until = %(lease)s, posted_with = placed.posted_with
FROM placed JOIN picked USING (posted_with) WHERE d.id = placed.id RETURNING d.id
"""
_GIVE_UP = """
WITH left_over AS (
  SELECT d.id, CASE WHEN p.deleted_at IS NOT NULL THEN 'The endpoint was deleted.'
    WHEN p.active THEN 'The endpoint is disabled.' ELSE 'The endpoint is turned off.' END AS reason
  FROM webhooks_endpoint p CROSS JOIN LATERAL (
    SELECT id FROM webhooks_delivery
    WHERE endpoint_id = p.id AND next_attempt_at IS NOT NULL AND (lease_until IS NULL OR lease_until <= %(now)s)
    LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED) d
  WHERE NOT p.active OR p.disabled_at IS NOT NULL LIMIT %(limit)s
)
UPDATE webhooks_delivery d SET status = 'failed', next_attempt_at = NULL, lease_until = NULL, reason = left_over.reason
FROM left_over WHERE d.id = left_over.id
"""
