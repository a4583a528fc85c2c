"""Conditions about earlier messages, with and without waiting; fates of messages; and what a message waits for."""

import pytest

from kaanha.messaging.models import SkipReason
from sequences import waking
from sequences.models import Enrollment
from sequences.walking import LOOK_AGAIN

pytestmark = pytest.mark.django_db(transaction=True)


def branching(stage, reached, **fields):
    return stage.active(
        stage.message("a"),
        stage.if_reached(
            "c",
            "a",
            reached,
            yes=[stage.message("y", stage.offer)],
            no=[stage.message("n", stage.template("last"))],
            **fields,
        ),
    )


@pytest.mark.parametrize(
    ("reached", "status", "branch"),
    [
        ("sent", "sent", "offer"),
        ("delivered", "sent", "last"),
        ("delivered", "read", "offer"),
        ("read", "delivered", "last"),
        ("sent", "failed", "last"),
        ("failed", "failed", "offer"),
        ("failed", "unconfirmed", "last"),
        ("sent", "unconfirmed", "last"),
        ("replied", "read", "last"),
    ],
)
def test_a_status_means_has_at_least_reached(stage, reached, status, branch):
    contact = stage.contact()
    stage.enroll(branching(stage, reached), contact)
    stage.settle(status=status)
    assert stage.sent(contact) == ["welcome", branch]


def test_it_waits_for_a_status_and_goes_on_as_soon_as_it_comes(stage):
    contact, silent = stage.contact(), stage.contact()
    stage.enroll(branching(stage, "read", waitFor={"hours": 12}), contact, silent)
    (first, _) = stage.settle()
    stage.wait(hours=2)
    stage.settle([first], "delivered")
    assert stage.sent(contact) == ["welcome"]

    stage.settle([first], "read")

    assert stage.sent(contact) == ["welcome", "offer"]
    stage.wait(hours=10, seconds=-1)
    assert stage.sent(silent) == ["welcome"]
    stage.wait(seconds=1)
    assert stage.sent(silent) == ["welcome", "last"]
    run = Enrollment.objects.get(contact=silent).runs.get(key="c")
    assert (run.outcome, run.reason) == ("no", "the message was sent")


def test_it_waits_for_a_reply(stage):
    contact = stage.contact()
    stage.enroll(branching(stage, "replied", waitFor={"hours": 12}), contact)
    stage.settle()
    stage.wait(hours=1)
    stage.reply(contact)
    assert stage.sent(contact) == ["welcome", "offer"]


def test_a_field_that_changes_without_a_word_is_seen_within_minutes(stage):
    sequence = stage.active(
        stage.if_field("c", "city", "equals", " PUNE ", yes=[stage.message("y")], waitFor={"hours": 1}),
    )
    contact = stage.contact(attributes={"city": "Delhi"})
    stage.enroll(sequence, contact)
    stage.wait(seconds=2)
    contact.attributes = {"city": "pune"}
    contact.save()
    stage.wait(seconds=LOOK_AGAIN.total_seconds() - 1)
    assert stage.sent(contact) == []
    stage.wait(seconds=1)
    assert stage.sent(contact) == ["welcome"]


def test_failed_skipped_and_unconfirmed_go_on_and_are_recorded(stage):
    sequence = stage.active(stage.message("a"), stage.message("b"), stage.message("c"), stage.message("d", stage.offer))
    contact = stage.contact()
    stage.enroll(sequence, contact)
    stage.settle(status="failed")
    stage.settle(status="skipped", reason=SkipReason.MISSING_VARIABLE)
    stage.settle(status="unconfirmed")
    stage.settle()

    runs = Enrollment.objects.get().runs.order_by("pk").values_list("key", "outcome", "reason")
    assert list(runs) == [
        ("a", "failed", "Message undeliverable"),
        ("b", "skipped", "A variable had no value"),
        ("c", "unconfirmed", "Nobody knows."),
        ("d", "sent", ""),
    ]
    assert Enrollment.objects.get().status == "completed"


@pytest.mark.parametrize("reason", ["opted_out", "deleted"])
def test_a_message_skipped_for_consent_ends_the_enrollment(stage, reason):
    sequence = stage.active(stage.message("a"), stage.message("b"))
    contact = stage.contact()
    stage.enroll(sequence, contact)
    stage.settle(status="skipped", reason=reason)

    enrollment = Enrollment.objects.get()
    assert (enrollment.status, enrollment.exit_reason) == ("exited", reason)
    assert stage.sent(contact) == ["welcome"]


def test_messages_never_overtake_each_other(stage):
    sequence = stage.active(stage.message("a"), stage.message("b", stage.offer))
    contact = stage.contact()
    stage.enroll(sequence, contact)
    stage.wait(days=30)
    assert stage.sent(contact) == ["welcome"]
    stage.settle()
    assert stage.sent(contact) == ["welcome", "offer"]


def test_news_of_messages_is_read_once_and_wakes_only_its_own(stage):
    sequence = stage.active(stage.message("a"), stage.delay("d", days=1))
    contact, other = stage.contact(), stage.contact()
    stage.enroll(sequence, contact, other)
    message = contact.messages.get()
    stage.settle([message])
    assert waking.wake(now=stage.now) == 0
    states = dict(Enrollment.objects.values_list("contact", "step__key"))
    assert states == {contact.pk: "d", other.pk: "a"}


def test_numbers_of_any_size_are_compared_as_people_write_them(stage):
    sequence = stage.active(
        stage.if_field("c", "share", "lessThan", "1", yes=[stage.message("y")]),
        stage.if_field("e", "size", "equals", "12", yes=[stage.message("z", stage.offer)]),
    )
    contact = stage.contact(attributes={"share": 0.00001, "size": 12.0})
    stage.enroll(sequence, contact)
    stage.settle()
    assert stage.sent(contact) == ["welcome", "offer"]
