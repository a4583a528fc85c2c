"""What is due, done without Redis: by beat, and by `manage.py run_due`."""

import json
from datetime import timedelta

import pytest
from django.conf import settings as configured
from django.core.management import call_command
from django.utils import timezone

from broadcasts import launch
from broadcasts.models import Broadcast, Status
from kaanha import due
from kaanha.celery import app
from kaanha.messaging.models import Message
from kaanha.webhooks.models import Event
from tests.broadcasts.conftest import draft, number, organization, people, tag, template  # noqa: F401
from tests.factories import DispatchFactory, EndpointFactory, MessageFactory, PhoneNumberFactory, TemplateFactory
from tests.inbound.conftest import stored, text  # noqa: F401
from tests.receivers import Receiver

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def without_redis(settings, monkeypatch):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    monkeypatch.setattr(app.conf, "broker_url", settings.REDIS_URL)
    app.loader.import_default_modules()


def run_due(capsys, *arguments):
    capsys.readouterr()
    call_command("run_due", *arguments, "--json")
    return json.loads(capsys.readouterr().out)


def test_a_broadcast_goes_from_scheduled_to_completed_by_hand(cloud_api, draft, people, capsys):  # noqa: F811
    people(3)
    broadcast = draft(status=Status.SCHEDULED, scheduled_at=timezone.now() - timedelta(seconds=1))

    done = run_due(capsys)

    assert Broadcast.objects.get(pk=broadcast.pk).status == Status.COMPLETED
    assert (done["sent"], cloud_api.summary()["accepted"], cloud_api.summary()["twice"]) == (3, 3, 0)


def test_callbacks_that_wait_are_applied(cloud_api, stored, capsys):  # noqa: F811
    stored(text("Hello"), text("Hi", wamid="wamid.IN2"))

    assert run_due(capsys)["callbacks"] == 1


def test_webhooks_that_are_due_are_delivered(cloud_api, capsys, settings):
    settings.WEBHOOKS_ALLOW_LOOPBACK = True
    with Receiver() as receiver:
        endpoint = EndpointFactory(url=receiver.url)
        Event.record(endpoint.organization, "broadcast.completed", {}, at=timezone.now())

        assert run_due(capsys)["webhooks_tried"] == 1
        assert len(receiver.requests) == 1


def test_with_nothing_due_it_ends_and_says_so(cloud_api, capsys):
    call_command("run_due")

    assert capsys.readouterr().out == "Nothing was due.\n"


def test_it_ends_when_its_time_is_over(cloud_api, draft, people, capsys):  # noqa: F811
    people(3)
    broadcast = draft()
    launch.send(broadcast, now=timezone.now())

    assert run_due(capsys, "--seconds", "0")["sent"] == 0


def test_all_numbers_send_side_by_side_and_a_broken_one_stops_no_other(cloud_api):
    for ending in ("01", "99"):
        number = PhoneNumberFactory(phone_number_id=f"2000000000000{ending}")  # noqa: F811
        dispatch = DispatchFactory(organization=number.organization, phone_number=number)
        template = TemplateFactory(organization=number.organization, account=number.account, name="season_greetings")  # noqa: F811
        MessageFactory.create_batch(2, organization=number.organization, dispatch=dispatch, template=template)

    due.send(seconds=5)

    assert not Message.objects.filter(status="sending").exists()
    assert cloud_api.summary()["accepted"] == 2, "the simulator knows only the first number"


@pytest.mark.parametrize("task", sorted({str(entry["task"]) for entry in configured.CELERY_BEAT_SCHEDULE.values()}))
def test_every_task_of_the_schedule_can_be_done_here_without_redis(cloud_api, task):
    due.perform(task)


def test_waking_the_senders_here_means_sending_here(cloud_api, draft, people):  # noqa: F811
    people(2)
    launch.send(draft(), now=timezone.now())
    due.perform("broadcasts.tasks.sweep")

    due.perform("kaanha.messaging.tasks.wake_senders")

    assert cloud_api.summary()["accepted"] == 2
