"""What is too late: each step is judged by the moment for which it was planned."""

from datetime import timedelta

import pytest

from kaanha.messaging.models import Message
from sequences import running, spreading
from sequences.models import Enrollment, StepRun

pytestmark = pytest.mark.django_db(transaction=True)
LIMIT = timedelta(hours=1)


def paused(stage, sequence, **span):
    """Pause the sequence for so long."""
    running.pause(sequence, now=stage.now)
    stage.wait(**span)
    running.resume(sequence, now=stage.now)
    spreading.spread(now=stage.now)
    stage.run()


def test_a_wait_that_ended_in_a_pause_is_late_by_its_own_end_not_by_what_came_before(stage):
    sequence = stage.active(
        stage.message("a"),
        stage.delay("d", hours=9),
        stage.message("b", stage.offer),
        late_limit=LIMIT,
        when_late="skip",
    )
    contact = stage.contact()
    stage.enroll(sequence, contact)
    running.pause(sequence, now=stage.now)
    stage.settle()  # its fate is known nine and a half hours before anybody goes on
    stage.wait(hours=9.5)
    running.resume(sequence, now=stage.now)
    spreading.spread(now=stage.now)
    stage.run()

    assert stage.path(contact) == [("a", "sent"), ("d", "waited"), ("b", "")]
    assert stage.sent(contact) == ["welcome", "offer"]


def test_a_wait_that_ended_longer_ago_than_the_limit_is_late(stage):
    sequence = stage.active(
        stage.message("a"),
        stage.delay("d", hours=9),
        stage.message("b", stage.offer),
        late_limit=LIMIT,
        when_late="skip",
    )
    contact = stage.contact()
    stage.enroll(sequence, contact)
    stage.settle()
    paused(stage, sequence, hours=10.5)

    assert stage.path(contact) == [("a", "sent"), ("d", "waited"), ("b", "skipped")]


@pytest.mark.parametrize("when_late", ["skip", "end"])
def test_a_condition_met_during_a_long_pause_is_not_late_before_its_deadline(stage, when_late):
    tag = stage.tag("purchased")
    sequence = stage.active(
        stage.if_tag("c", tag, yes=[stage.message("y")], waitFor={"days": 9}), late_limit=LIMIT, when_late=when_late
    )
    contact = stage.contact()
    stage.enroll(sequence, contact)
    running.pause(sequence, now=stage.now)
    stage.wait(days=3)
    stage.put_on(tag, contact)
    running.resume(sequence, now=stage.now)
    stage.run()
    spreading.spread(now=stage.now)
    stage.run()

    assert stage.path(contact) == [("c", "yes"), ("y", "")]
    assert stage.sent(contact) == ["welcome"]


def test_a_condition_whose_deadline_passed_longer_ago_than_the_limit_is_late(stage):
    tag = stage.tag("purchased")
    sequence = stage.active(
        stage.if_tag("c", tag, no=[stage.message("n")], waitFor={"hours": 2}), late_limit=LIMIT, when_late="end"
    )
    contact = stage.contact()
    stage.enroll(sequence, contact)
    paused(stage, sequence, hours=4)

    enrollment = Enrollment.objects.get()
    assert (enrollment.status, enrollment.exit_reason) == ("exited", "late")
    assert not Message.objects.exists()


def test_those_who_waited_in_a_condition_go_on_one_after_the_other_after_a_long_pause(stage):
    tag = stage.tag("purchased")
    sequence = stage.active(
        stage.if_tag("c", tag, yes=[stage.message("y")], waitFor={"days": 9}),
        late_limit=LIMIT,
        when_late="skip",
        spread_per_minute=2,
    )
    contacts = [stage.contact() for _ in range(3)]
    stage.enroll(sequence, *contacts)
    running.pause(sequence, now=stage.now)
    stage.put_on(tag, *contacts)
    stage.wait(days=3)
    running.resume(sequence, now=stage.now)
    spreading.spread(now=stage.now)

    for seconds, count in ((0, 1), (29, 1), (1, 2), (30, 3)):
        stage.wait(seconds=seconds)
        assert StepRun.objects.filter(key="y").count() == count
