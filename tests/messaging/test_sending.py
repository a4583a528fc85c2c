"""The loop as a whole, against the simulated Meta."""

from datetime import timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone

from contacts.models import Contact
from kaanha.messaging import claiming, counting, safety, sending, settling
from kaanha.messaging.models import MarketingCap, Message, SkipReason, Status
from kaanha.messaging.settling import Result
from kaanha.whatsapp.cloud_api.client import Refused
from kaanha.whatsapp.cloud_api.errors import classify
from tests.factories import ContactFactory

pytestmark = pytest.mark.django_db(transaction=True)


def send(number, seconds=20):
    return sending.send_slice(number.pk, until=timezone.now() + timedelta(seconds=seconds))


def fresh(message):
    return Message.objects.get(pk=message.pk)


def test_every_due_message_is_posted_once_and_settled(cloud_api, number, queue):
    messages = queue(25)

    assert send(number) == {"sent": 25, "skipped": 0, "deferred": 0}

    rows = Message.objects.filter(pk__in=[message.pk for message in messages])
    assert {(row.status, row.due_at, row.lease_until, row.attempt) for row in rows} == {("sent", None, None, 1)}
    assert {row.wamid for row in rows} == {taken["wamid"] for taken in cloud_api.messages()}
    summary = cloud_api.summary()
    assert (summary["accepted"], summary["recipients"], summary["twice"]) == (25, 25, 0)
    assert counting.funnel(messages[0].dispatch_id) == counting.Funnel(dispatched=25, sent=25)


def test_a_message_carries_its_public_id_and_the_contacts_values(cloud_api, number, queue):
    contact = ContactFactory(organization=number.organization, name="Zoë Sample")
    (message,) = queue(contacts=[contact])

    send(number)

    (taken,) = cloud_api.messages()
    assert taken["to"] == contact.phone.removeprefix("+")
    assert taken["payload"]["biz_opaque_callback_data"] == f"{message.public_id}.1"
    assert claiming.read_callback_data([f"{message.public_id}.1"]) == [(message.pk, 1)]
    parameters = [{"type": "text", "parameter_name": "first_name", "text": "Zoë"}]
    assert taken["payload"]["template"]["components"] == [{"type": "body", "parameters": parameters}]
    assert fresh(message).parameters == [{"type": "body", "parameters": parameters}]


def test_a_contact_who_opted_out_after_queueing_is_skipped_not_sent(cloud_api, number, queue):
    (message,) = queue(1)
    Contact.objects.filter(pk=message.contact_id).update(opted_in=False)

    assert send(number) == {"sent": 0, "skipped": 1, "deferred": 0}

    assert (fresh(message).status, fresh(message).skip_reason) == (Status.SKIPPED, SkipReason.OPTED_OUT)
    assert cloud_api.messages() == []


def test_a_second_marketing_message_within_the_cap_is_skipped_and_a_utility_one_is_not(cloud_api, number, queue):
    (first,) = queue(1)
    send(number)
    (second,), (utility,) = queue(contacts=[first.contact]), queue(contacts=[first.contact], category="UTILITY")

    assert send(number) == {"sent": 1, "skipped": 1, "deferred": 0}

    assert fresh(second).skip_reason == SkipReason.FREQUENCY_CAP
    assert fresh(utility).status == Status.SENT


def test_two_marketing_messages_to_one_contact_in_the_queue_at_once_become_one(cloud_api, number, queue):
    contacts = ContactFactory.create_batch(10, organization=number.organization)
    queue(contacts=contacts)
    queue(contacts=contacts)

    assert send(number) == {"sent": 10, "skipped": 10, "deferred": 0}

    assert cloud_api.summary()["accepted"] == 10


def test_a_refusal_for_good_fails_and_frees_the_cap(cloud_api, number, queue):
    cloud_api.settings(force={"error": {"code": 131026}, "count": 1})
    (message,) = queue(1)

    send(number)

    assert (fresh(message).status, fresh(message).error_code) == (Status.FAILED, 131026)
    assert MarketingCap.objects.get(contact=message.contact_id).until <= timezone.now()


def test_a_transient_refusal_is_queued_again_with_a_pause_and_keeps_its_cap(cloud_api, number, queue):
    cloud_api.settings(force={"error": {"code": 131016}, "count": 1})
    (message,) = queue(1)

    send(number, seconds=0.5)

    row = fresh(message)
    assert (row.status, row.tries, row.error_code) == (Status.QUEUED, 1, 131016)
    assert timedelta(seconds=0) < row.due_at - row.first_tried_at <= timedelta(seconds=2)
    assert MarketingCap.objects.get(contact=message.contact_id).message == message.pk


def test_trouble_with_the_template_holds_the_dispatch_and_keeps_the_recipients(cloud_api, number, queue):
    cloud_api.settings(force={"error": {"code": 132015}})
    messages = queue(5)

    send(number, seconds=1)

    dispatch = messages[0].dispatch
    dispatch.refresh_from_db()
    assert dispatch.hold_reason == "template"
    assert {fresh(message).status for message in messages} == {Status.QUEUED}


def test_a_template_that_is_paused_here_is_not_even_tried(cloud_api, number, marketing, queue):
    (message,) = queue(1)
    marketing.status = "PAUSED"
    marketing.save()

    send(number, seconds=1)

    message.dispatch.refresh_from_db()
    assert message.dispatch.hold_detail == "Template new_arrivals (en_US) is paused at Meta."
    assert fresh(message).status == Status.QUEUED
    assert cloud_api.requests() == []


def test_an_answer_that_cannot_be_read_leaves_the_message_unconfirmed_and_is_not_repeated(cloud_api, number, queue):
    cloud_api.settings(force={"status": 500, "count": 1})
    (message,) = queue(1)

    send(number)
    send(number, seconds=1)

    assert fresh(message).status == Status.UNCONFIRMED
    assert len(cloud_api.requests()) == 1


def test_a_held_dispatch_is_left_alone(cloud_api, number, queue):
    (message,) = queue(1)
    message.dispatch.held_at = timezone.now()
    message.dispatch.save()

    assert send(number, seconds=1) == {"sent": 0, "skipped": 0, "deferred": 0}
    assert cloud_api.requests() == []


def test_the_pace_of_the_number_is_kept(cloud_api, number, queue):
    number.throughput = 20
    number.save()
    queue(60)

    send(number, seconds=2)

    # 2 s at 20/s, and the bucket's burst of two
    assert 30 <= cloud_api.summary()["accepted"] <= 42


def test_a_hold_that_cannot_be_written_stops_nothing(cloud_api, number, queue, monkeypatch):
    """Without the `except` around `_follow` the settler ended, and the slice broke off with results unwritten."""
    messages = queue(150)
    seen = []

    def see(_self, results):
        seen.append(len(results))
        return {messages[0].dispatch_id: ("safety", "words")} if len(seen) == 1 else {}

    def away(*_args, **_options):
        raise OperationalError("away")

    monkeypatch.setattr(safety.Watch, "see", see)
    monkeypatch.setattr(settling, "hold_all", lambda holds, now: away() if holds else None)

    assert send(number)["sent"] == 150

    assert sending._engine().unsettled == 0
    assert set(Message.objects.values_list("status", flat=True)) == {"sent"}


def test_answers_that_are_written_twice_change_nothing_the_second_time(cloud_api, number, queue):
    """A commit whose answer is lost comes again. Without the look at who holds the row a retry became a failure."""
    (message,) = queue(1)
    now = timezone.now()
    (envelope,) = claiming.claim(claiming.live(number.pk, now=now), limit=1, now=now).envelopes
    refused = [Result(envelope, Refused(classify({"code": 131016})), now)]

    settling.settle(refused, now=now)
    settling.settle(refused, now=now)

    assert (fresh(message).status, fresh(message).tries) == (Status.QUEUED, 1)
    assert counting.funnel(message.dispatch_id).failed == 0
