"""From a draft to a revision: what is refused, what stays the same, and who is moved."""

import pytest

from kaanha.lib.errors import Refusal
from kaanha.messaging.models import Dispatch, Message
from sequences import counting, moving, publishing, running
from sequences.models import Enrollment, Revision, Step
from tests.factories import PhoneNumberFactory, TagFactory, TemplateFactory

pytestmark = pytest.mark.django_db(transaction=True)


def edit(sequence, *steps):
    sequence.draft = list(steps)
    sequence.save()
    return sequence


def republish(stage, sequence, *steps):
    return publishing.publish(edit(sequence, *steps), now=stage.now)


def test_activation_tells_every_problem_at_once_and_changes_nothing(stage):
    foreign_tag, foreign_template = TagFactory(), TemplateFactory()
    stage.offer.status = "REJECTED"
    stage.offer.save()
    sequence = stage.draft(
        stage.message("a", foreign_template),
        stage.delay("d", seconds=5),
        stage.if_tag("c", foreign_tag, yes=[stage.message("b", stage.offer)], no=[]),
        stage.if_reached("r", "z", "read", yes=[stage.message("y")]),
        trigger="tag_added",
    )
    with pytest.raises(Refusal) as refused:
        publishing.activate(sequence, now=stage.now)

    sentences = str(refused.value)
    assert refused.value.code == "not_ready"
    for place in ("No tag starts it", "Step 1:", "Step 2:", "Step 3:", "Step 3 yes 1:", "Step 4:", "emptied"):
        assert place in sentences
    assert list(refused.value.fields) == ["tag", "steps.0", "steps.1", "steps.2", "steps.2.yes.0", "steps.3"]
    sequence.refresh_from_db()
    assert (sequence.status, sequence.first_activated_at, Revision.objects.count()) == ("draft", None, 0)


@pytest.mark.parametrize("steps", [[], [{"id": "d", "type": "delay", "delay": {"days": 1}}]])
def test_a_sequence_without_a_message_is_refused(stage, steps):
    with pytest.raises(Refusal, match="message"):
        publishing.activate(stage.draft(*steps), now=stage.now)


def test_activation_publishes_an_immutable_revision(stage):
    sequence = stage.active(
        stage.message("a"),
        stage.if_tag("c", stage.tag("x"), yes=[stage.delay("d", days=1), stage.message("b")]),
        stage.message("z", stage.offer, whenCapped="wait"),
    )
    revision = sequence.revision
    sequence.draft = []
    sequence.save()

    assert (revision.number, len(revision.tree), revision.published_at) == (1, 3, stage.now)
    steps = {step.key: step for step in revision.steps.all()}
    assert [(step.key, step.place) for step in revision.steps.all()] == [
        ("a", "1"), ("c", "2"), ("d", "2 yes 1"), ("b", "2 yes 2"), ("z", "3"),
    ]  # fmt: skip
    assert (steps["c"].yes, steps["c"].no) == (steps["d"], steps["z"])
    assert (steps["b"].next, steps["z"].next) == (steps["z"], None)
    assert [dispatch.when_capped for dispatch in Dispatch.objects.order_by("pk")] == ["skip", "skip", "wait"]
    assert set(Dispatch.objects.values_list("kind", "lane")) == {("step", "marketing")}


def test_publishing_again_needs_a_change(stage):
    sequence = stage.active(stage.message("a"))
    with pytest.raises(Refusal, match="Nothing has changed"):
        publishing.publish(sequence, now=stage.now)
    with pytest.raises(Refusal, match="is active: it can't be activated"):
        publishing.activate(sequence, now=stage.now)
    with pytest.raises(Refusal, match="is draft: it can't be published anew"):
        publishing.publish(stage.draft(stage.message("a")), now=stage.now)


def test_people_inside_finish_on_theirs_and_new_ones_take_the_newest(stage):
    sequence = stage.active(stage.message("a"), stage.delay("d", days=1), stage.message("b"))
    inside, newcomer = stage.contact(), stage.contact()
    stage.enroll(sequence, inside)
    stage.settle()
    republish(stage, sequence, stage.message("a"), stage.delay("d", days=1), stage.message("b", stage.offer))
    stage.enroll(sequence, newcomer)
    stage.settle()

    stage.wait(days=1)

    assert stage.sent(inside) == ["welcome", "welcome"]
    assert stage.sent(newcomer) == ["welcome", "offer"]
    assert [revision.superseded_at is None for revision in sequence.revisions.all()] == [False, True]


def test_a_step_that_sends_the_same_keeps_its_dispatch_and_a_changed_one_gets_its_own(stage):
    sequence = stage.active(stage.message("a"), stage.message("b"), stage.message("c"), stage.message("d"))
    republish(
        stage, sequence, stage.message("a"), stage.message("b", stage.offer), stage.message("c", whenCapped="wait"),
        stage.message("copy"),
    )  # fmt: skip

    first, second = ({step.key: step.dispatch_id for step in one.steps.all()} for one in sequence.revisions.all())
    assert first["a"] == second["a"]
    assert second["b"] not in first.values()
    assert second["c"] not in first.values()
    assert second["copy"] not in first.values()


def test_another_number_means_other_dispatches(stage):
    sequence = stage.active(stage.message("a"))
    sequence.phone_number = PhoneNumberFactory(organization=stage.organization, account=stage.number.account)
    sequence.save()
    publishing.publish(sequence, now=stage.now)

    numbers = [step.dispatch.phone_number_id for step in Step.objects.order_by("pk")]
    assert numbers == [stage.number.pk, sequence.phone_number_id]


def test_what_is_published_while_paused_is_held_until_the_resume(stage):
    sequence = stage.active(stage.message("a"))
    running.pause(sequence, now=stage.now)
    republish(stage, sequence, stage.message("a", stage.offer))
    assert Dispatch.objects.filter(held_at=None).count() == 0

    running.resume(sequence, now=stage.now)
    assert Dispatch.objects.exclude(held_at=None).count() == 0


# --- moving -------------------------------------------------------------------------------------------------------


def test_moving_counts_a_delay_anew_from_when_it_began(stage):
    sequence = stage.active(stage.message("a"), stage.delay("d", days=9), stage.message("b"))
    contact, longer = stage.contact(), stage.contact()
    stage.enroll(sequence, contact)
    stage.settle()
    stage.wait(days=2)
    stage.enroll(sequence, longer)
    stage.settle()
    republish(stage, sequence, stage.message("a"), stage.delay("d", days=3), stage.message("b", stage.offer))

    assert moving.move(sequence, now=stage.now) == moving.Moved(2, 0)
    stage.run()
    assert stage.sent(contact) == ["welcome"]
    stage.wait(days=1)

    assert stage.sent(contact) == ["welcome", "offer"]
    assert stage.sent(longer) == ["welcome"]
    stage.wait(days=2)
    assert stage.sent(longer) == ["welcome", "offer"]


def test_nobody_gets_a_step_twice_by_being_moved(stage):
    sequence = stage.active(stage.message("a"), stage.delay("d", days=1), stage.message("z"))
    contact = stage.contact()
    stage.enroll(sequence, contact)
    stage.settle()
    # The wait goes, and what came before it now comes after.
    republish(stage, sequence, stage.message("z"), stage.message("a"), stage.message("end", stage.offer))

    moving.move(sequence, now=stage.now)
    stage.run()
    stage.settle()
    stage.settle()

    assert stage.sent(contact) == ["welcome", "welcome", "offer"]  # a, z, end: and no second a
    assert Enrollment.objects.get().status == "completed"
    passages = counting.passages(Step.objects.values_list("pk", flat=True))
    assert all(passage.waiting == 0 for passage in passages.values())


def test_who_stands_at_a_step_that_is_gone_goes_on_with_what_is_left(stage):
    sequence = stage.active(
        stage.if_tag("c", stage.tag("x"), no=[stage.delay("d", days=1), stage.message("b")]),
        stage.message("z", stage.offer),
    )
    contact = stage.contact()
    stage.enroll(sequence, contact)
    republish(stage, sequence, stage.message("z", stage.offer))

    assert moving.move(sequence, now=stage.now) == moving.Moved(1, 0)
    stage.run()

    assert stage.sent(contact) == ["offer"]
    assert stage.path(contact)[:2] == [("c", "no"), ("d", "left")]


def test_who_has_nothing_left_stays_on_the_old_revision(stage):
    sequence = stage.active(stage.message("a"), stage.delay("d", days=1), stage.message("z", stage.offer))
    contact = stage.contact()
    stage.enroll(sequence, contact)
    stage.settle()
    republish(stage, sequence, stage.message("a"))

    assert moving.move(sequence, now=stage.now) == moving.Moved(0, 1)
    stage.wait(days=1)
    assert stage.sent(contact) == ["welcome", "offer"]


def test_a_queued_message_is_sent_with_the_repaired_content(stage):
    sequence = stage.active(stage.message("a"))
    contact = stage.contact()
    stage.enroll(sequence, contact)
    republish(stage, sequence, stage.message("a", stage.offer))

    moving.move(sequence, now=stage.now)

    message = Message.objects.get()
    assert (message.template, message.dispatch) == (stage.offer, sequence.revision.steps.get().dispatch)
    stage.settle()
    assert Enrollment.objects.get().status == "completed"
    assert Message.objects.count() == 1


def test_moving_twice_moves_nobody_twice(stage):
    sequence = stage.active(stage.message("a"), stage.delay("d", days=1))
    stage.enroll(sequence, stage.contact())
    republish(stage, sequence, stage.message("a"), stage.delay("d", days=2))
    assert moving.move(sequence, now=stage.now).moved == 1
    assert moving.move(sequence, now=stage.now).moved == 0
