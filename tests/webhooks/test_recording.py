"""Events: written where somebody listens or the log wants them, with the deliveries of that moment."""

import json
from datetime import timedelta

import pytest
from django.db import transaction

from kaanha.webhooks.models import LOGGED, Delivery, Event, Kind, Status
from tests.factories import EndpointFactory, OrganizationFactory
from tests.webhooks.conftest import NOW, happen

pytestmark = pytest.mark.django_db
LOUD = sorted(set(Kind.values) - {str(kind) for kind in LOGGED})


@pytest.fixture
def organization():
    return OrganizationFactory()


@pytest.mark.parametrize("kind", LOUD)
def test_nothing_is_written_where_nobody_listens(organization, kind, django_assert_num_queries):
    EndpointFactory()  # of another organization
    EndpointFactory(organization=organization, active=False)
    EndpointFactory(organization=organization, disabled_at=NOW)
    EndpointFactory(organization=organization, kinds=[other for other in Kind.values if other != kind])

    with django_assert_num_queries(1):
        Event.record_many([(organization.pk, kind, {"n": n}) for n in range(100)], at=NOW)

    assert (Event.objects.count(), Delivery.objects.count()) == (0, 0)
    assert Event.record(organization, kind, {}, at=NOW) is None


@pytest.mark.parametrize("kind", sorted(map(str, LOGGED)))
def test_the_log_keeps_what_nobody_listens_to(organization, kind):
    event = Event.record(organization, kind, {"n": 1}, at=NOW)

    kept = Event.objects.get()
    assert (kept, kept.data, kept.occurred_at) == (event, {"n": 1}, NOW)
    assert not Delivery.objects.exists()


def test_each_endpoint_that_listens_to_the_kind_gets_one_delivery(organization, django_assert_num_queries):
    first, second = (EndpointFactory(organization=organization, kinds=["contact.created"]) for _ in range(2))
    EndpointFactory(organization=organization, kinds=["contact.updated"])
    stranger = EndpointFactory(kinds=["contact.created", "contact.updated"])
    contacts = [(organization.pk, "contact.created", {"n": n}) for n in range(3)]

    with django_assert_num_queries(1):
        Event.record_many([*contacts, (stranger.organization_id, "contact.updated", {})], at=NOW)

    told = Delivery.objects.order_by("event", "endpoint").values_list("endpoint", "event__data", "organization")
    assert list(told) == [
        *[(one.pk, {"n": n}, organization.pk) for n in range(3) for one in (first, second)],
        (stranger.pk, {}, stranger.organization_id),
    ]
    assert set(Delivery.objects.values_list("status", "next_attempt_at", "tries")) == {(Status.PENDING, NOW, 0)}


def test_an_endpoint_that_comes_later_hears_nothing_of_before(organization):
    happen(organization)

    EndpointFactory(organization=organization)

    assert not Delivery.objects.exists()


def test_an_event_goes_with_the_transaction_that_made_it(organization):
    EndpointFactory(organization=organization)

    with transaction.atomic():
        happen(organization)
        transaction.set_rollback(True)

    assert (Event.objects.count(), Delivery.objects.count()) == (0, 0)


def test_who_hears_of_what_is_one_statement(organization, django_assert_num_queries):
    EndpointFactory(organization=organization, kinds=["message.sent", "message.read"])
    EndpointFactory(organization=organization, kinds=["message.sent"])
    EndpointFactory(active=False)

    with django_assert_num_queries(1):
        heard = Event.heard(Kind.MESSAGE_SENT, Kind.MESSAGE_FAILED)

    assert heard == {(organization.pk, "message.sent")}


def test_the_body_is_what_was_published(organization):
    told = {"name": "Été 🌞", "sentAt": NOW + timedelta(milliseconds=5)}
    event = Event.objects.get(pk=Event.record(organization, "broadcast.completed", told, at=NOW).pk)

    assert json.loads(event.body()) == {
        "event": "broadcast.completed",
        "organizationId": organization.public_id,
        "timestamp": "2026-03-01T12:00:00.000Z",
        "data": {"name": "Été 🌞", "sentAt": "2026-03-01T12:00:00.005Z"},
    }
    assert event.body() == Event.objects.get(pk=event.pk).body()
