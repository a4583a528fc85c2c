"""Months of sequences under a controlled clock."""

import pytest

from kaanha.messaging.models import Message
from kaanha.webhooks.models import Event
from sequences import counting, enrolling
from sequences.models import Enrollment, Step
from tests.factories import EndpointFactory

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_message_then_a_delay_then_a_message(stage):
    sequence = stage.active(stage.message("a"), stage.delay("d", days=3), stage.message("b", stage.offer))
    contact = stage.contact()
    (enrollment,) = stage.enroll(sequence, contact)
    assert stage.sent(contact) == ["welcome"]

    stage.wait(hours=1)
    stage.settle()
    enrollment.refresh_from_db()
    assert enrollment.next_run_at == stage.now.replace(day=5)  # the delay counts from the message's fate

    stage.wait(days=3, seconds=-1)
    assert stage.sent(contact) == ["welcome"]
    stage.wait(seconds=1)
    assert stage.sent(contact) == ["welcome", "offer"]
    stage.settle()

    enrollment.refresh_from_db()
    assert (enrollment.status, enrollment.step, enrollment.ended_at) == ("completed", None, stage.now)
    assert stage.path(contact) == [("a", "sent"), ("d", "waited"), ("b", "sent")]
    assert not Event.objects.exists()


def told(enrollment):
    """What every event says of an enrollment."""
    sequence, contact = enrollment.sequence, enrollment.contact
    return {
        "enrollmentId": enrollment.public_id,
        "sequenceId": sequence.public_id,
        "sequence": sequence.name,
        "contactId": contact.public_id,
        "phone": contact.phone,
    }


def test_who_listens_is_told_of_who_enters(stage):
    EndpointFactory(organization=stage.organization, kinds=["sequence.enrolled"])
    EndpointFactory(kinds=["sequence.enrolled"])
    sequence = stage.active(stage.message("a"))
    contact, never = stage.contact(), stage.contact(opted_in=False)
    (enrollment,) = stage.enroll(sequence, contact)
    enrolling.enroll(sequence, [contact.pk, never.pk], source="api", now=stage.now)

    event = Event.objects.get()
    assert (event.kind, event.organization) == ("sequence.enrolled", stage.organization)
    assert event.data == told(enrollment) | {"source": enrollment.source}


def test_who_listens_is_told_of_the_end(stage):
    EndpointFactory(organization=stage.organization, kinds=["sequence.completed"])
    EndpointFactory(kinds=["sequence.enrolled"])
    sequence = stage.active(stage.message("a"))
    contact = stage.contact()
    (enrollment,) = stage.enroll(sequence, contact)
    stage.settle()

    event = Event.objects.get()
    assert (event.kind, event.organization) == ("sequence.completed", stage.organization)
    assert event.data == told(enrollment)


def test_has_the_tag_both_ways(stage):
    bought = stage.tag("purchased")
    sequence = stage.active(
        stage.message("a"),
        stage.delay("d", days=1),
        stage.if_tag(
            "c", bought, yes=[stage.message("y", stage.template("thank_you"))], no=[stage.message("n", stage.offer)]
        ),
        stage.message("z", stage.template("goodbye")),
    )
    buyer, other = stage.contact(), stage.contact()
    stage.enroll(sequence, buyer, other)
    stage.settle()
    stage.put_on(bought, buyer)
    stage.wait(days=1)
    stage.settle()
    stage.settle()

    assert stage.sent(buyer) == ["welcome", "thank_you", "goodbye"]
    assert stage.sent(other) == ["welcome", "offer", "goodbye"]
    assert stage.path(buyer) == [("a", "sent"), ("d", "waited"), ("c", "yes"), ("y", "sent"), ("z", "sent")]
    steps = {step.key: step.pk for step in Step.objects.all()}
    numbers = counting.passages(steps.values())
    assert (numbers[steps["c"]].yes, numbers[steps["c"]].no, numbers[steps["c"]].waiting) == (1, 1, 0)
    assert counting.people([sequence.pk])[sequence.pk] == counting.People(2, 2, 0)
    assert set(Enrollment.objects.values_list("status", flat=True)) == {"completed"}
    assert Message.objects.waiting().count() == 0
