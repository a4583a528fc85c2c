"""Leaving before the end: by an operator's word, by a reply, and what becomes of messages that are on their way."""

import pytest

from kaanha.lib.errors import Refusal
from kaanha.messaging import counting as funnels
from kaanha.messaging import fates, ledger
from kaanha.messaging.models import Message, Status
from sequences import counting, enrollments, exiting, running
from sequences.models import Enrollment, StepRun
from tests.sequences.conftest import TRANSIENT

pytestmark = pytest.mark.django_db(transaction=True)


def in_flight(message):
    """As a claim leaves it."""
    Message.objects.filter(pk=message.pk).update(status="sending", due_at=None, lease_until="2027-01-01T00:00Z")


def refused_for_now(stage, message):
    with ledger.changing([message.pk], now=stage.now) as rows:
        fates.refuse(rows[message.pk], TRANSIENT, now=stage.now)


def test_canceling_one_person_withdraws_the_queued_message_and_nobody_elses(stage):
    sequence = stage.active(stage.message())
    contact, other = stage.contact(), stage.contact()
    enrollment, _ = stage.enroll(sequence, contact, other)

    enrollments.cancel(enrollment, now=stage.now)
    stage.run()

    assert (enrollment.status, enrollment.exit_reason) == ("exited", "canceled")
    assert contact.messages.get().status == "skipped"
    assert other.messages.get().status == "queued"
    run = StepRun.objects.get(enrollment=enrollment)
    assert (run.outcome, run.reason, run.ended_at) == ("left", "Canceled", stage.now)
    with pytest.raises(Refusal, match="exited for good: it can't be canceled"):
        enrollments.cancel(enrollment, now=stage.now)


def test_canceling_everybody_leaves_the_sequence_open_for_new_people(stage):
    sequence = stage.active(stage.message("a"), stage.delay("d", days=1), stage.message("b", stage.offer))
    people = [stage.contact() for _ in range(5)]
    stage.enroll(sequence, *people[:3])
    stage.settle()
    stage.enroll(sequence, *people[3:])  # these have a queued message

    assert running.cancel_everybody(sequence, now=stage.now) == 5

    assert set(Enrollment.objects.values_list("status", "exit_reason")) == {("exited", "canceled")}
    assert Message.objects.waiting().count() == 0
    assert counting.people([sequence.pk])[sequence.pk] == counting.People(5, 0, 5)
    newcomer = stage.contact()
    stage.enroll(sequence, newcomer)
    stage.settle()
    assert [message.status for message in newcomer.messages.all()] == ["sent"]
    stage.wait(days=2)
    assert Message.objects.filter(template=stage.offer).count() == 1  # the newcomer's


def test_archiving_ends_everybody_and_for_good(stage):
    sequence = stage.active(stage.message("a"), stage.delay("d", days=1), stage.message("b"))
    waiting, queued = stage.contact(), stage.contact()
    stage.enroll(sequence, waiting)
    stage.settle()
    stage.enroll(sequence, queued)

    assert running.archive(sequence, now=stage.now) == 2

    assert set(Enrollment.objects.values_list("status", "exit_reason")) == {("exited", "archived")}
    stage.wait(days=3)
    assert Message.objects.filter(status="sent").count() == 1
    assert Message.objects.waiting().count() == 0
    with pytest.raises(Refusal, match="can't become active"):
        sequence.move("active")


def test_a_crash_between_asking_and_ending_is_carried_on_by_the_sweep(stage):
    sequence = stage.active(stage.message("a"))
    stage.enroll(sequence, stage.contact(), stage.contact())
    newest = Enrollment.objects.order_by("-pk").first().pk
    type(sequence).objects.filter(pk=sequence.pk).update(exit_up_to=newest)

    assert running.finish_exits(now=stage.now) == 2

    sequence.refresh_from_db()
    assert sequence.exit_up_to is None
    assert set(Enrollment.objects.values_list("exit_reason", flat=True)) == {"canceled"}


def test_a_reply_ends_the_sequence_where_it_is_asked_for(stage):
    leaving = stage.active(stage.message("a"), stage.delay("d", days=1), stage.message("b"), exit_on_reply=True)
    staying = stage.active(stage.message("a"), stage.delay("d", days=1), stage.message("b"))
    contact, silent = stage.contact(), stage.contact()
    (kept,) = stage.enroll(staying, contact)
    enrollment, other = stage.enroll(leaving, contact, silent)
    stage.settle()

    stage.reply(contact)

    for one, state in ((enrollment, ("exited", "replied")), (other, ("active", "")), (kept, ("active", ""))):
        one.refresh_from_db()
        assert (one.status, one.exit_reason) == state


def test_a_message_in_flight_goes_and_its_fate_is_told(stage):
    sequence = stage.active(stage.message())
    contact = stage.contact()
    (enrollment,) = stage.enroll(sequence, contact)
    message = contact.messages.get()
    in_flight(message)

    enrollments.cancel(enrollment, now=stage.now)
    assert enrollment.message == message.pk
    stage.settle([message])
    exiting.tie_loose_ends(now=stage.now)

    message.refresh_from_db()
    enrollment.refresh_from_db()
    assert (message.status, enrollment.exit_reason, enrollment.message) == ("sent", "canceled", None)


def test_a_message_in_flight_that_comes_back_to_the_queue_is_withdrawn_then(stage):
    sequence = stage.active(stage.message())
    contact = stage.contact()
    (enrollment,) = stage.enroll(sequence, contact)
    message = contact.messages.get()
    in_flight(message)
    enrollments.cancel(enrollment, now=stage.now)
    refused_for_now(stage, message)

    assert exiting.tie_loose_ends(now=stage.now) == 1

    message.refresh_from_db()
    assert (message.status, message.skip_reason) == ("skipped", "canceled")
    assert exiting.tie_loose_ends(now=stage.now) == 0
    enrollment.refresh_from_db()
    assert enrollment.message is None
    assert funnels.counted_from_ledger(message.dispatch_id) == funnels.funnel(message.dispatch_id)


def test_a_paused_person_is_held_with_its_message_and_goes_on_after_the_resume(stage):
    sequence = stage.active(stage.message("a"), stage.delay("d", days=1), stage.message("b", stage.offer))
    contact = stage.contact()
    (enrollment,) = stage.enroll(sequence, contact)
    enrollments.pause(enrollment, now=stage.now)
    assert not Message.objects.filter(due_at__lte=stage.now).exists()

    stage.wait(days=2)
    assert Message.objects.get().status == "queued"
    enrollments.resume(enrollment, now=stage.now)
    assert Message.objects.get().due_at == stage.now

    stage.settle()
    enrollments.pause(enrollment, now=stage.now)
    stage.wait(days=2)
    assert stage.sent(contact) == ["welcome"]
    enrollments.resume(enrollment, now=stage.now)
    stage.run()
    assert stage.sent(contact) == ["welcome", "offer"]
    with pytest.raises(Refusal, match="active: it can't be resumed"):
        enrollments.resume(enrollment, now=stage.now)


def test_a_paused_persons_message_that_comes_back_to_the_queue_is_put_off(stage):
    sequence = stage.active(stage.message())
    contact = stage.contact()
    (enrollment,) = stage.enroll(sequence, contact)
    message = contact.messages.get()
    in_flight(message)
    enrollments.pause(enrollment, now=stage.now)
    refused_for_now(stage, message)

    assert exiting.tie_loose_ends(now=stage.now) == 1
    assert exiting.tie_loose_ends(now=stage.now) == 0

    message.refresh_from_db()
    assert (message.status, message.due_at.year) == (Status.QUEUED, 9999)
    enrollments.resume(enrollment, now=stage.now)
    message.refresh_from_db()
    assert message.due_at == stage.now
