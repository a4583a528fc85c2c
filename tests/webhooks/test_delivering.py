"""Deliveries: signed, tried again, given up; fair to each other; safe against crashes and against themselves."""

import hashlib
import hmac
import json
import threading
from datetime import timedelta

import pytest
import time_machine
from django.db import connection, connections
from django.utils import timezone

from kaanha.lib import outward_http
from kaanha.webhooks import delivering
from kaanha.webhooks.models import Attempt, Delivery, Endpoint, Event, Status
from kaanha.webhooks.tasks import deliver
from tests.factories import EndpointFactory
from tests.receivers import OK, Receiver, answer
from tests.webhooks.conftest import NOW, happen, sweep

pytestmark = pytest.mark.django_db(transaction=True)


def claimed_of(limit, now):
    """The deliveries of a claim."""
    return [one for post in delivering.claim(limit, now=now) for one in post.deliveries]


def standing(delivery):
    delivery.refresh_from_db()
    return delivery.status, delivery.tries, delivery.response_code, delivery.reason


def test_an_event_arrives_signed_and_named(receiver, endpoint):
    (delivery,) = happen(endpoint.organization, name="Sale")

    assert sweep() == {"delivered": 1}

    (request,) = receiver.requests
    assert json.loads(request.body)["data"] == {"name": "Sale"}
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["X-Kaanha-Event-Id"] == delivery.event.public_id
    expected = hmac.new(b"whsec_sample", request.body, hashlib.sha256).hexdigest()
    assert request.headers["X-Kaanha-Signature"] == expected
    assert standing(delivery) == (Status.DELIVERED, 1, 200, "")
    assert (delivery.next_attempt_at, delivery.lease_until) == (None, None)
    attempt = Attempt.objects.get()
    assert (attempt.number, attempt.response_code, attempt.error, attempt.excerpt) == (1, 200, "", "fine")


def test_what_is_delivered_is_not_delivered_again(receiver, endpoint):
    happen(endpoint.organization)
    sweep()

    assert sweep() == {}
    assert len(receiver.requests) == 1


def test_a_failure_is_tried_again_after_5_s_25_s_and_2_minutes_and_has_then_failed(receiver, endpoint):
    receiver.says = answer(500, b"no")
    began = NOW
    with time_machine.travel(began, tick=False) as clock:
        (delivery,) = happen(endpoint.organization)
        for wait, next_wait in ((0, 5), (5, 25), (25, 120), (120, None)):
            if wait:
                clock.shift(timedelta(seconds=wait) - timedelta(milliseconds=1))
                assert sweep() == {}
                clock.shift(timedelta(milliseconds=1))
            assert sweep() == ({"put_off": 1} if next_wait else {"failed": 1})
            delivery.refresh_from_db()
            expected = timezone.now() + timedelta(seconds=next_wait) if next_wait else None
            assert delivery.next_attempt_at == expected
        clock.shift(timedelta(days=1))
        assert sweep() == {}

    assert standing(delivery) == (Status.FAILED, 4, 500, "It answered 500.")
    assert len({request.headers["X-Kaanha-Event-Id"] for request in receiver.requests}) == 1
    assert len({request.body for request in receiver.requests}) == 1
    told = delivery.tried.order_by("number").values_list("number", "response_code", "excerpt")
    assert list(told) == [(n, 500, "no") for n in (1, 2, 3, 4)]


def test_a_delivery_that_succeeds_in_the_end_is_delivered(receiver, endpoint):
    receiver.says = [answer(503), OK]
    with time_machine.travel(NOW, tick=False) as clock:
        (delivery,) = happen(endpoint.organization)
        assert sweep() == {"put_off": 1}
        assert Endpoint.objects.get().failing_since == NOW
        clock.shift(timedelta(seconds=5))
        assert sweep() == {"delivered": 1}

    assert standing(delivery) == (Status.DELIVERED, 2, 200, "")
    assert Endpoint.objects.get().failing_since is None


@pytest.mark.parametrize("status", [199, 301, 304, 400, 404, 429, 500, 599])
def test_all_but_2xx_is_a_failure(receiver, endpoint, status):
    receiver.says = answer(status)
    happen(endpoint.organization)

    assert sweep() == {"put_off": 1}


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_is_a_success(receiver, endpoint, status):
    receiver.says = b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status
    happen(endpoint.organization)

    assert sweep() == {"delivered": 1}


def test_a_receiver_that_is_away_fails_with_its_reason(endpoint, receiver):
    receiver.__exit__()
    (delivery,) = happen(endpoint.organization)

    assert sweep() == {"put_off": 1}
    assert delivery.tried.get().response_code is None
    assert standing(delivery)[3].endswith(".")


# --- endpoints that fail for long ------------------------------------------------------------------------------------


def test_410_disables_the_endpoint_at_once_with_a_notice(receiver, endpoint):
    receiver.says = answer(410)
    deliveries = happen(endpoint.organization) + happen(endpoint.organization, at=timezone.now() + timedelta(hours=1))

    assert sweep() == {"failed": 1}

    endpoint.refresh_from_db()
    assert endpoint.disabled_reason == "It answered 410 Gone: it wants no more."
    notice = Event.objects.get(kind="webhook.disabled")
    assert notice.data == {"endpointId": endpoint.public_id, "url": endpoint.url, "reason": endpoint.disabled_reason}
    assert sweep() == {"given_up": 1}
    assert standing(deliveries[1]) == (Status.FAILED, 0, None, "The endpoint is disabled.")
    assert happen(endpoint.organization) == []
    assert len(receiver.requests) == 1


def test_24_hours_of_nothing_but_failure_disable_the_endpoint(receiver, endpoint):
    receiver.says = answer(500)
    with time_machine.travel(NOW, tick=False) as clock:
        for hours in range(25):
            clock.move_to(NOW + timedelta(hours=hours))
            happen(endpoint.organization)
            for wait in (0, 5, 25, 120):
                clock.shift(timedelta(seconds=wait))
                sweep()
            endpoint.refresh_from_db()
            assert (endpoint.disabled_at is not None) == (hours == 24)

    assert endpoint.disabled_reason == "Nothing but failures for 24 hours."
    assert endpoint.failing_since == NOW


def test_one_success_within_24_hours_keeps_the_endpoint(receiver, endpoint):
    Endpoint.objects.update(failing_since=timezone.now() - timedelta(hours=23))
    happen(endpoint.organization)

    assert sweep() == {"delivered": 1}
    assert Endpoint.objects.get().failing_since is None


def test_deliveries_to_an_endpoint_that_was_turned_off_have_failed(receiver, endpoint):
    (delivery,) = happen(endpoint.organization)
    Endpoint.objects.update(active=False)

    assert sweep() == {"given_up": 1}
    assert standing(delivery)[0::3] == (Status.FAILED, "The endpoint is turned off.")
    assert receiver.requests == []


# --- crashes and doubles ---------------------------------------------------------------------------------------------


def test_a_crash_between_post_and_settle_delivers_twice_under_one_id_and_loses_nothing(receiver, endpoint, monkeypatch):
    (delivery,) = happen(endpoint.organization)
    with time_machine.travel(timezone.now(), tick=False) as clock:
        with monkeypatch.context() as broken:
            broken.setattr(delivering, "settle", lambda *_, **__: 1 / 0)
            assert sweep() == {"unsettled": 1}
        clock.shift(delivering.LEASE - timedelta(seconds=1))
        assert sweep() == {}
        clock.shift(timedelta(seconds=1))
        assert sweep() == {"delivered": 1}

    assert len(receiver.requests) == 2
    assert len({request.headers["X-Kaanha-Event-Id"] for request in receiver.requests}) == 1
    assert standing(delivery)[0] == Status.DELIVERED


def test_a_crash_after_the_claim_loses_nothing(receiver, endpoint):
    happen(endpoint.organization)
    now = timezone.now()
    delivering.claim(10, now=now)

    assert delivering.claim(10, now=now + delivering.LEASE - timedelta(seconds=1)) == []
    assert len(delivering.claim(10, now=now + delivering.LEASE)) == 1


def test_a_late_failure_of_a_lost_claim_does_not_disturb_the_next(endpoint):
    (delivery,) = happen(endpoint.organization)
    now = timezone.now()
    (lost,) = delivering.claim(1, now=now)
    (held,) = delivering.claim(1, now=now + delivering.LEASE)
    failed = outward_http.Answer(500, "", "", 1)

    delivering.settle(lost, failed, began=now, now=now + delivering.LEASE)

    delivery.refresh_from_db()
    assert (delivery.lease_until, delivery.attempts) == (held.deliveries[0].lease_until, 2)
    assert delivering.settle(held, outward_http.Answer(200, "", "", 1), began=now, now=now) == {"delivered": 1}
    assert delivery.tried.count() == 2


def test_a_late_success_of_a_lost_claim_counts(endpoint):
    (delivery,) = happen(endpoint.organization)
    now = timezone.now()
    (lost,) = delivering.claim(1, now=now)
    (held,) = delivering.claim(1, now=now + delivering.LEASE)

    delivering.settle(lost, outward_http.Answer(200, "", "", 1), began=now, now=now)
    delivering.settle(held, outward_http.Answer(500, "", "", 1), began=now, now=now)

    assert standing(delivery)[0] == Status.DELIVERED


def test_two_claims_at_once_share_what_is_due_and_keep_the_number_for_an_endpoint(endpoint):
    other = EndpointFactory()
    for _ in range(10):
        happen(endpoint.organization)
        happen(other.organization)
    barrier, claimed = threading.Barrier(2), []

    def take():
        barrier.wait()
        claimed.extend(claimed_of(100, timezone.now()))
        connections.close_all()

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({one.pk for one in claimed}) == len(claimed)
    for one in (endpoint, other):
        assert sum(delivery.endpoint_id == one.pk for delivery in claimed) <= delivering.AT_AN_ENDPOINT


def test_an_endpoint_that_another_turn_holds_is_left_to_it(endpoint):
    happen(endpoint.organization)
    held, go_on = threading.Event(), threading.Event()

    def hold():
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT 1 FROM webhooks_endpoint FOR NO KEY UPDATE")
            held.set()
            go_on.wait(10)
            cursor.execute("ROLLBACK")
        connections.close_all()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    try:
        assert delivering.claim(10, now=timezone.now()) == []
        happen(endpoint.organization)  # who records an event doesn't wait
    finally:
        go_on.set()
        thread.join()


def test_a_second_turn_in_the_same_process_returns_at_once(receiver, endpoint):
    happen(endpoint.organization)
    with delivering._turn:
        assert sweep() == {}
    assert receiver.requests == []


# --- fairness --------------------------------------------------------------------------------------------------------


def test_one_endpoint_gets_no_more_than_its_share_at_once():
    busy, other = EndpointFactory(), EndpointFactory()
    for _ in range(20):
        happen(busy.organization)
    happen(other.organization)
    now = timezone.now()

    claimed = [one.endpoint_id for one in claimed_of(32, now)]
    assert (claimed.count(busy.pk), claimed.count(other.pk)) == (delivering.AT_AN_ENDPOINT, 1)
    assert delivering.claim(32, now=now) == []


def test_an_endpoint_that_fails_gets_one_at_a_time():
    failing = EndpointFactory(failing_since=NOW)
    for _ in range(5):
        happen(failing.organization)

    assert len(delivering.claim(32, now=timezone.now())) == 1


def test_dead_endpoints_leave_half_of_the_threads_to_the_others():
    for _ in range(delivering.AT_ONCE):
        happen(EndpointFactory(failing_since=NOW).organization)
    now = timezone.now()

    assert len(delivering.claim(delivering.AT_ONCE, now=now)) == delivering.AT_ONCE // 2
    assert delivering.claim(delivering.AT_ONCE // 2, now=now) == []
    alive = happen(EndpointFactory().organization)
    assert claimed_of(delivering.AT_ONCE // 2, timezone.now()) == alive


def test_the_first_of_each_endpoint_goes_before_the_second_of_any():
    endpoints = [EndpointFactory() for _ in range(4)]
    for endpoint in endpoints:
        for _ in range(4):
            happen(endpoint.organization)

    claimed = claimed_of(4, timezone.now())

    assert {one.endpoint_id for one in claimed} == {endpoint.pk for endpoint in endpoints}


def test_a_receiver_that_never_answers_keeps_no_other_waiting(receiver, endpoint):
    arrived = threading.Event()

    def wait_for_the_others(connection):
        arrived.wait(10)
        connection.sendall(OK)

    with Receiver(wait_for_the_others) as silent:
        slow = EndpointFactory(url=silent.url)
        for _ in range(8):
            happen(slow.organization)
            happen(endpoint.organization)
        thread = threading.Thread(target=lambda: [sweep(), connections.close_all()])
        thread.start()
        deadline = threading.Event()
        for _ in range(100):
            if len(receiver.requests) == 8:
                break
            deadline.wait(0.1)
        assert (len(receiver.requests), len(silent.requests)) == (8, delivering.AT_AN_ENDPOINT)
        arrived.set()
        thread.join()

    assert set(Delivery.objects.values_list("status", flat=True)) == {Status.DELIVERED}


# --- replay and test -------------------------------------------------------------------------------------------------


def test_a_replay_delivers_once_more_under_the_same_id(receiver, endpoint):
    (delivery,) = happen(endpoint.organization)
    sweep()

    assert Delivery.objects.of(endpoint.organization).replay(now=timezone.now()) == 1
    assert sweep() == {"delivered": 1}

    first, second = receiver.requests
    assert (first.body, first.headers) == (second.body, second.headers)
    assert standing(delivery)[:2] == (Status.DELIVERED, 1)
    assert list(delivery.tried.order_by("number").values_list("number", flat=True)) == [1, 2]


def test_what_is_pending_or_goes_to_nobody_is_not_replayed(receiver, endpoint):
    happen(endpoint.organization)
    assert Delivery.objects.all().replay(now=timezone.now()) == 0
    sweep()
    Endpoint.objects.update(active=False)
    assert Delivery.objects.all().replay(now=timezone.now()) == 0


def test_a_test_event_is_sent_here_and_now_and_once(receiver, endpoint):
    receiver.says = answer(500, b"not yet")

    attempt = delivering.test(endpoint, now=NOW)

    assert (attempt.response_code, attempt.excerpt) == (500, "not yet")
    assert json.loads(receiver.requests[0].body)["event"] == "test"
    assert Delivery.objects.get().status == Status.FAILED
    assert sweep() == {}
    assert Endpoint.objects.get().failing_since is None
    assert Delivery.objects.all().replay(now=timezone.now()) == 0


def test_the_task_delivers(receiver, endpoint):
    happen(endpoint.organization)

    assert deliver() == {"delivered": 1}
