"""What happens to contacts enrolls them, ends them, and wakes them. Each event is decided once."""

from datetime import timedelta

import pytest

from contacts import consent
from contacts.models import ContactEvent, ContactTag
from sequences import publishing, running, triggers
from sequences.models import Enrollment, EnrollmentRefusal
from tests.factories import ContactFactory, TagFactory

pytestmark = pytest.mark.django_db(transaction=True)


def refusals():
    return list(EnrollmentRefusal.objects.order_by("pk").values_list("contact_id", "code"))


def test_a_tag_that_is_put_on_enrolls_even_if_it_is_taken_off_again(stage):
    cart = stage.tag("cart")
    sequence = stage.active(stage.message(), trigger="tag_added", trigger_tag=cart)
    contact, other = stage.contact(), stage.contact()
    stage.put_on(cart, contact)
    stage.put_on(stage.tag("something else"), other)
    ContactTag.objects.all().delete()

    stage.run()

    enrollment = Enrollment.objects.get()
    assert (enrollment.sequence, enrollment.contact, enrollment.source) == (sequence, contact, "tag_added")
    assert enrollment.enrolled_at == stage.now
    assert stage.sent(contact) == ["welcome"]
    assert not ContactEvent.objects.filter(handled_at=None).exists()


def test_every_new_contact_is_enrolled(stage):
    stage.active(stage.message(), trigger="contact_created")
    contact, foreign = stage.contact(), ContactFactory()
    stage.created(contact)
    ContactEvent.objects.create(
        organization=foreign.organization, kind="created", contact=foreign, source="api", at=stage.now
    )

    stage.run()

    assert list(Enrollment.objects.values_list("contact", flat=True)) == [contact.pk]


def test_only_causes_from_the_activation_on_count(stage):
    cart = stage.tag("cart")
    early, late = stage.contact(), stage.contact()
    stage.put_on(cart, early)
    stage.now += timedelta(seconds=1)
    stage.active(stage.message(), trigger="tag_added", trigger_tag=cart)
    stage.put_on(cart, late)

    stage.run()

    assert list(Enrollment.objects.values_list("contact", flat=True)) == [late.pk]
    assert refusals() == []


def test_an_event_is_decided_by_the_trigger_in_force_when_it_happened_and_enters_the_newest_revision(stage):
    cart, other = stage.tag("cart"), stage.tag("other")
    sequence = stage.active(stage.message(), trigger="tag_added", trigger_tag=cart)
    old, new, past = stage.contact(), stage.contact(), stage.contact()
    stage.put_on(cart, old)
    stage.now += timedelta(seconds=1)
    sequence.trigger_tag = other
    sequence.save()
    publishing.publish(sequence, now=stage.now)
    stage.put_on(other, new)
    stage.put_on(cart, past)

    stage.run()

    found = dict(Enrollment.objects.values_list("contact", "revision__number"))
    assert found == {old.pk: 2, new.pk: 2}


def test_existing_holders_are_enrolled_only_on_request(stage):
    cart = stage.tag("cart")
    holders = [stage.contact() for _ in range(3)]
    out = stage.contact(opted_in=False)
    stage.put_on(cart, *holders, out)
    stage.run()
    sequence = stage.draft(stage.message(), trigger="tag_added", trigger_tag=cart)

    publishing.activate(sequence, now=stage.now, enroll_existing=True)
    stage.run()

    assert set(Enrollment.objects.values_list("contact", "source")) == {(c.pk, "existing") for c in holders}
    assert refusals() == [(out.pk, "not_opted_in")]
    intake = sequence.intakes.get()
    assert (intake.enrolled, intake.refused, intake.finished_at) == (3, 1, stage.now)


def test_who_may_not_be_messaged_is_refused_on_record_and_a_later_opt_in_reopens_nothing(stage):
    cart, done = stage.tag("cart"), stage.tag("done")
    stage.active(stage.message(), trigger="tag_added", trigger_tag=cart, exit_tag=done)
    out, gone, finished = stage.contact(opted_in=False), stage.contact(deleted_at=stage.now), stage.contact()
    stage.put_on(done, finished)
    stage.put_on(cart, out, gone, finished)
    stage.run()

    assert refusals() == [(out.pk, "not_opted_in"), (gone.pk, "contact_deleted"), (finished.pk, "exit_tag")]
    consent.opt_in([out.pk], source="operator", proof="", at=stage.now)
    stage.run()
    assert not Enrollment.objects.exists()


def enrolled_and_tagged_again(stage):
    """A contact that a tag has enrolled, and that has got the tag again since then."""
    cart = stage.tag("cart")
    stage.active(stage.message(), trigger="tag_added", trigger_tag=cart)
    contact = stage.contact()
    stage.put_on(cart, contact)
    stage.run()
    ContactTag.objects.all().delete()
    stage.put_on(cart, contact)
    return contact


def test_who_is_deleted_before_it_is_decided_is_refused_as_deleted_even_if_enrolled_before(stage):
    contact = enrolled_and_tagged_again(stage)
    consent.delete([contact.pk], at=stage.now)
    stage.run()

    assert refusals() == [(contact.pk, "contact_deleted")]
    assert Enrollment.objects.count() == 1


def test_a_tag_put_on_twice_enrolls_once(stage):
    contact = enrolled_and_tagged_again(stage)
    stage.run()

    assert Enrollment.objects.count() == 1
    assert refusals() == [(contact.pk, "already_enrolled")]
    assert stage.sent(contact) == ["welcome"]


def test_a_paused_sequence_enrolls_and_its_steps_wait(stage):
    cart = stage.tag("cart")
    sequence = stage.active(stage.message(), trigger="tag_added", trigger_tag=cart)
    running.pause(sequence, now=stage.now)
    contact = stage.contact()
    stage.put_on(cart, contact)
    stage.run()

    assert Enrollment.objects.get().status == "active"
    assert stage.sent(contact) == []


def test_an_archived_sequence_refuses_what_happened_before_it_was_archived(stage):
    cart = stage.tag("cart")
    sequence = stage.active(stage.message(), trigger="tag_added", trigger_tag=cart)
    before, after = stage.contact(), stage.contact()
    stage.put_on(cart, before)
    stage.now += timedelta(seconds=1)
    running.archive(sequence, now=stage.now)
    stage.put_on(cart, after)
    stage.run()

    assert not Enrollment.objects.exists()
    assert refusals() == [(before.pk, "sequence_not_active")]


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (
            lambda stage, contact, tag: consent.opt_out([contact.pk], source="operator", proof="", at=stage.now),
            "opted_out",
        ),
        (lambda stage, contact, tag: consent.delete([contact.pk], at=stage.now), "deleted"),
        (lambda stage, contact, tag: stage.put_on(tag, contact), "exit_tag"),
    ],
)
def test_what_ends_an_enrollment_ends_it_at_once_while_it_waits(stage, act, reason):
    done = stage.tag("done")
    sequence = stage.active(stage.message("a"), stage.delay("d", days=9), stage.message("b"), exit_tag=done)
    contact, bystander = stage.contact(), stage.contact()
    enrollment, other = stage.enroll(sequence, contact, bystander)
    stage.settle()
    stage.now += timedelta(days=1)

    act(stage, contact, done)
    stage.run()

    enrollment.refresh_from_db()
    assert (enrollment.status, enrollment.exit_reason, enrollment.ended_at) == ("exited", reason, stage.now)
    assert stage.path(contact) == [("a", "sent"), ("d", "left")]
    other.refresh_from_db()
    assert other.status == "active"
    stage.wait(days=30)
    assert stage.sent(contact) == ["welcome"]
    assert stage.sent(bystander) == ["welcome", "welcome"]


def test_the_exit_tag_withdraws_a_message_that_is_still_queued(stage):
    done = stage.tag("done")
    sequence = stage.active(stage.message("a"), exit_tag=done)
    contact = stage.contact()
    (enrollment,) = stage.enroll(sequence, contact)

    stage.put_on(done, contact)
    stage.run()

    message = contact.messages.get()
    assert (message.status, message.skip_reason) == ("skipped", "canceled")
    enrollment.refresh_from_db()
    assert enrollment.exit_reason == "exit_tag"


def test_an_opt_out_before_the_enrollment_ends_nothing(stage):
    cart = stage.tag("cart")
    stage.active(stage.message(), trigger="tag_added", trigger_tag=cart)
    contact = stage.contact()
    consent.opt_out([contact.pk], source="operator", proof="", at=stage.now)
    stage.now += timedelta(seconds=1)
    consent.opt_in([contact.pk], source="operator", proof="", at=stage.now)
    stage.now += timedelta(seconds=1)
    stage.put_on(cart, contact)

    stage.run()  # all three events at once

    assert Enrollment.objects.get().status == "active"


def test_a_condition_that_waits_for_a_tag_sees_it_at_once(stage):
    bought = stage.tag("bought")
    sequence = stage.active(
        stage.if_tag("c", bought, yes=[stage.message("y")], no=[stage.message("n", stage.offer)], waitFor={"days": 2})
    )
    contact, other = stage.contact(), stage.contact()
    stage.enroll(sequence, contact, other)
    stage.wait(hours=5)
    assert stage.sent(contact) == []

    stage.put_on(bought, contact)
    stage.run()

    assert stage.sent(contact) == ["welcome"]
    assert stage.path(contact)[0] == ("c", "yes")
    stage.wait(days=2)
    assert stage.sent(other) == ["offer"]


def test_a_foreign_tag_of_the_same_name_starts_nothing(stage):
    cart = stage.tag("cart")
    stage.active(stage.message(), trigger="tag_added", trigger_tag=cart)
    foreign = TagFactory(name="cart")
    contact = ContactFactory(organization=foreign.organization)
    ContactEvent.objects.create(
        organization=foreign.organization, kind="tag_added", contact=contact, tag=foreign, source="api", at=stage.now
    )
    stage.run()
    assert not Enrollment.objects.exists()


def test_the_number_of_statements_does_not_depend_on_the_number_of_events(stage, django_assert_max_num_queries):
    cart = stage.tag("cart")
    stage.active(stage.message(), trigger="tag_added", trigger_tag=cart)
    stage.put_on(cart, *[stage.contact() for _ in range(60)])

    with django_assert_max_num_queries(16):
        assert triggers.handle(now=stage.now) == 60

    assert Enrollment.objects.count() == 60
