"""Webhooks stand in nobody's way: not of sending, and not of other customers."""

import threading

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from kaanha.webhooks import delivering
from kaanha.webhooks.models import Delivery, Endpoint, Event
from tests.factories import EndpointFactory
from tests.webhooks.conftest import happen

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def impatient():
    """A wait for a lock of more than two seconds is an error."""
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '2s'")
        yield
        cursor.execute("RESET lock_timeout")


def test_a_claim_of_webhooks_keeps_no_message_waiting(impatient):
    endpoint = EndpointFactory()
    happen(endpoint.organization)
    held, go_on = threading.Event(), threading.Event()

    def claim_and_stop():
        """All the locks of a turn that goes wrong in the middle."""
        with transaction.atomic():
            list(Endpoint.objects.select_for_update(no_key=True))
            list(Delivery.objects.select_for_update())
            held.set()
            go_on.wait(10)
        connections.close_all()

    thread = threading.Thread(target=claim_and_stop)
    thread.start()
    held.wait(10)
    try:
        with transaction.atomic():
            told = {"source": "broadcast"}
            Event.record_many([(endpoint.organization_id, "message.sent", told)] * 500, at=timezone.now())
    finally:
        go_on.set()
        thread.join()
    assert Delivery.objects.filter(event__kind="message.sent").count() == 500


def test_a_backlog_of_one_customer_keeps_no_other_waiting():
    busy, other = EndpointFactory(), EndpointFactory()
    now = timezone.now()
    Event.record_many([(busy.organization_id, "message.read", {})] * 20_000, at=now)
    (last,) = happen(other.organization, at=now)

    (mine,) = [post for post in delivering.claim(delivering.AT_ONCE, now=now) if post.endpoint == other]

    assert mine.deliveries == [last]
