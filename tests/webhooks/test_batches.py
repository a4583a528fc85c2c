"""Endpoints that take many events in one POST, and those that take a choice of them."""

import hashlib
import hmac
import json
from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from kaanha.webhooks import delivering, endpoints
from kaanha.webhooks.models import BATCH_EVERY, Attempt, Delivery, Endpoint, Event, Kind, Status
from tests.factories import EndpointFactory, OrganizationFactory
from tests.receivers import OK, answer
from tests.webhooks.conftest import NOW, happen, sweep

pytestmark = pytest.mark.django_db(transaction=True)
READ = Kind.MESSAGE_READ


@pytest.fixture
def batched(endpoint):
    Endpoint.objects.update(batched=True)
    endpoint.refresh_from_db()
    return endpoint


@pytest.fixture
def clock():
    with time_machine.travel(NOW, tick=False) as clock:
        yield clock


def tell(endpoint, count, at=NOW, **data):
    Event.record_many([(endpoint.organization_id, READ, {"n": n, **data}) for n in range(count)], at=at)


def arrived(receiver):
    """The numbers of the events of each POST."""
    return [[event["data"]["n"] for event in json.loads(request.body)["events"]] for request in receiver.requests]


def test_what_happens_in_five_seconds_leaves_together_signed_and_named(receiver, batched, clock):
    tell(batched, 3, at=NOW + timedelta(seconds=1))
    tell(batched, 2, at=NOW + timedelta(seconds=4))
    clock.move_to(NOW + BATCH_EVERY - timedelta(milliseconds=1))
    assert sweep() == {}
    clock.move_to(NOW + BATCH_EVERY)

    assert sweep() == {"delivered": 5}

    (request,) = receiver.requests
    sent = json.loads(request.body)
    assert list(sent) == ["events"]
    assert [event["id"] for event in sent["events"]] == [one.public_id for one in Event.objects.order_by("pk")]
    assert {name: sent["events"][3][name] for name in ("event", "organizationId", "timestamp", "data")} == {
        "event": "message.read",
        "organizationId": batched.organization.public_id,
        "timestamp": "2026-03-01T12:00:04.000Z",
        "data": {"n": 0},
    }
    assert request.headers["X-Kaanha-Signature"] == hmac.new(b"whsec_sample", request.body, hashlib.sha256).hexdigest()
    assert request.headers["X-Kaanha-Events"] == "5"
    assert "X-Kaanha-Event-Id" not in request.headers
    assert set(Attempt.objects.values_list("number", "response_code", "events", "excerpt")) == {(1, 200, 5, "fine")}
    assert Attempt.objects.count() == 5


def test_a_batch_has_a_hundred_events_at_the_most(receiver, batched, clock):
    tell(batched, 230)

    assert sweep() == {"delivered": 230}

    assert sorted(map(len, arrived(receiver))) == [30, 100, 100]
    assert sorted(n for part in arrived(receiver) for n in part) == list(range(230))


def test_a_batch_ends_with_the_event_that_fills_it(receiver, batched, clock, monkeypatch):
    monkeypatch.setattr(delivering, "BYTES", 10_000)
    tell(batched, 7, text="x" * 4_000)

    assert sweep() == {"delivered": 7}

    # 4,018 bytes each: the third goes beyond 10,000 and begins the next, and so on
    assert sorted(map(len, arrived(receiver))) == [2, 2, 3]


def test_an_event_alone_has_the_shape_of_a_batch_too(receiver, batched, clock):
    happen(batched.organization, name="Sale", at=NOW)
    assert sweep() == {"delivered": 1}
    (one,) = json.loads(receiver.requests[0].body)["events"]
    assert (one["event"], one["data"]) == ("broadcast.completed", {"name": "Sale"})

    delivering.test(batched, now=NOW)
    assert [event["event"] for event in json.loads(receiver.requests[1].body)["events"]] == ["test"]


def test_all_of_a_batch_fails_and_is_put_together_anew_under_the_same_ids(receiver, batched, clock):
    receiver.says = [answer(500), OK]
    tell(batched, 2)
    assert sweep() == {"put_off": 2}
    tell(batched, 2, at=NOW + timedelta(seconds=5))
    clock.shift(timedelta(seconds=5))

    assert sweep() == {"delivered": 4}

    first, second = ([event["id"] for event in json.loads(request.body)["events"]] for request in receiver.requests)
    assert (len(first), len(second)) == (2, 4)
    assert second[:2] == first
    assert sorted(Attempt.objects.values_list("number", "response_code", "events")) == [
        *[(1, 200, 4)] * 2, *[(1, 500, 2)] * 2, *[(2, 200, 4)] * 2,
    ]  # fmt: skip


def test_a_batch_that_fails_four_times_has_failed_as_a_whole(receiver, batched, clock):
    receiver.says = answer(503)
    tell(batched, 3)
    for wait in (0, 5, 25):
        clock.shift(timedelta(seconds=wait))
        assert sweep() == {"put_off": 3}
    clock.shift(timedelta(seconds=120))
    assert sweep() == {"failed": 3}

    assert len(receiver.requests) == 4
    assert set(Delivery.objects.values_list("status", "tries", "reason")) == {(Status.FAILED, 4, "It answered 503.")}


def test_at_most_four_posts_are_on_their_way_whatever_they_carry(batched, clock):
    tell(batched, 1_000)

    claimed = delivering.claim(32, now=NOW)

    assert [len(post.deliveries) for post in claimed] == [100] * 4
    assert delivering.claim(32, now=NOW) == []
    first = claimed[0]
    assert {one.posted_with for one in first.deliveries} == {first.deliveries[0].pk}


def test_an_endpoint_that_fails_gets_one_batch_at_a_time(batched, clock):
    Endpoint.objects.update(failing_since=NOW)
    tell(batched, 300)

    assert [len(post.deliveries) for post in delivering.claim(32, now=NOW)] == [100]


def test_a_batch_is_settled_in_as_many_statements_as_a_single_delivery(batched, clock, django_assert_num_queries):
    tell(batched, 101)
    many, one = sorted(delivering.claim(32, now=NOW), key=lambda post: -len(post.deliveries))
    fine = delivering.outward_http.Answer(200, "", "", 5)
    assert (len(many.deliveries), len(one.deliveries)) == (100, 1)

    for post in (many, one):
        # begin, endpoint, deliveries, attempts, update, commit
        with django_assert_num_queries(6):
            delivering.settle(post, fine, began=NOW, now=NOW)


def test_an_endpoint_without_the_choice_gets_them_one_by_one_at_once(receiver, endpoint, clock):
    tell(endpoint, 3)

    assert sweep() == {"delivered": 3}
    assert [json.loads(request.body)["event"] for request in receiver.requests] == ["message.read"] * 3


# --- messages of a chosen source -----------------------------------------------------------------------------------


def test_of_messages_only_those_of_the_chosen_sources_are_told():
    organization = OrganizationFactory()
    chosen = EndpointFactory(organization=organization, sources=["api", "step"])
    told = [(READ, {"source": source}) for source in ("broadcast", "step", "api")]
    told += [(Kind.MESSAGE_RECEIVED, {"text": "hi"}), (Kind.CONTACT_UPDATED, {"source": "broadcast"})]

    Event.record_many([(organization.pk, kind, data) for kind, data in told], at=NOW)

    heard = Delivery.objects.filter(endpoint=chosen).order_by("pk").values_list("event__kind", "event__data")
    assert list(heard) == told[1:]
    assert Event.objects.count() == 4  # what nobody wants isn't written


# --- deleted, and slow ---------------------------------------------------------------------------------------------


def test_a_deleted_endpoint_gets_nothing_more(receiver, endpoint):
    (delivery,) = happen(endpoint.organization)

    endpoints.delete(endpoint, versions=None, now=NOW)

    assert sweep() == {"given_up": 1}
    delivery.refresh_from_db()
    assert (delivery.status, delivery.reason) == (Status.FAILED, "The endpoint was deleted.")
    assert happen(endpoint.organization) == []
    assert Delivery.objects.all().replay(now=NOW) == 0
    assert receiver.requests == []
    assert Endpoint.objects.get().secret == ""


def test_slow_endpoints_leave_half_of_the_threads_to_the_others():
    for _ in range(delivering.AT_ONCE):
        happen(EndpointFactory(slow=True).organization)
    now = timezone.now()

    assert len(delivering.claim(delivering.AT_ONCE, now=now)) == delivering.AT_ONCE // 2
    assert delivering.claim(delivering.AT_ONCE // 2, now=now) == []


def test_an_endpoint_is_slow_from_an_answer_that_takes_long_to_one_that_does_not(endpoint):
    for _ in range(2):
        happen(endpoint.organization)
    posts = delivering.claim(2, now=timezone.now())
    for post, took, slow in zip(posts, (3_001, 3_000), (True, False), strict=True):
        done = delivering.outward_http.Answer(200, "", "", took)
        delivering.settle(post, done, began=NOW, now=NOW)
        assert Endpoint.objects.get().slow is slow
