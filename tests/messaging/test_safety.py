"""When most goes wrong, it stops by itself."""

from datetime import timedelta

import pytest
from django.utils import timezone

from kaanha.messaging import sending
from kaanha.messaging.models import Message

pytestmark = pytest.mark.django_db(transaction=True)


def send(number, seconds=10):
    return sending.send_slice(number.pk, until=timezone.now() + timedelta(seconds=seconds))


def held(messages):
    dispatch = messages[0].dispatch
    dispatch.refresh_from_db()
    return dispatch.hold_reason


def test_refusals_for_good_of_most_recipients_hold_the_dispatch(cloud_api, number, queue):
    number.throughput = 200
    number.save()
    cloud_api.settings(force={"error": {"code": 131026}})
    messages = queue(300)

    send(number)

    assert held(messages) == "safety"
    assert Message.objects.filter(status="failed").count() < 200
    assert Message.objects.filter(status="queued").count() > 100


def test_a_few_failures_are_life(cloud_api, number, queue):
    cloud_api.settings(force={"error": {"code": 131026}, "share": 0.2})
    messages = queue(100)

    send(number)

    assert held(messages) == ""
    assert not Message.objects.filter(status="queued").exists()


def test_unclear_answers_to_most_requests_hold_the_dispatch(cloud_api, number, queue):
    number.throughput = 200
    number.save()
    cloud_api.settings(force={"status": 500})
    messages = queue(300)

    send(number)

    assert held(messages) == "safety"
    assert Message.objects.filter(status="unconfirmed").count() == len(cloud_api.requests(limit=1000)) < 200
