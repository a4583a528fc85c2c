"""What tests of webhooks share."""

from datetime import UTC, datetime

import pytest
from django.utils import timezone

from kaanha.webhooks import delivering
from kaanha.webhooks.models import Delivery, Event
from tests.factories import EndpointFactory
from tests.receivers import Receiver

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _loopback(settings):
    settings.WEBHOOKS_ALLOW_LOOPBACK = True


@pytest.fixture
def receiver():
    with Receiver() as here:
        yield here


@pytest.fixture
def endpoint(receiver):
    """An endpoint with a receiver behind it."""
    return EndpointFactory(url=receiver.url)


def happen(organization, kind="broadcast.completed", at=None, **data):
    """The deliveries of something that has just happened."""
    event = Event.record(organization, kind, data or {"name": "Sample"}, at=at or timezone.now())
    return list(Delivery.objects.filter(event=event).order_by("pk"))


def sweep():
    """All that is due, to its end."""
    now = timezone.now()
    return dict(delivering.sweep(until=now + delivering.SLICE, drain=True))
