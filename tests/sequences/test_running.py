"""Pausing, resuming, downtime, late steps, and templates that break while people wait."""

from datetime import timedelta

import pytest

from kaanha.lib.errors import Refusal
from kaanha.messaging import claiming, holding
from kaanha.messaging.models import Message
from sequences import advancing, batches, enrolling, publishing, running, seeing, spreading, sweeping, triggers
from sequences.models import Enrollment
from tests.sequences.conftest import Stage

pytestmark = pytest.mark.django_db(transaction=True)


def due_times():
    return list(Enrollment.objects.order_by("next_run_at").values_list("next_run_at", flat=True))


def claimable(stage):
    return claiming.live(stage.number.pk, now=stage.now)


def test_a_paused_sequence_holds_everybody_and_its_queued_messages(stage):
    sequence = stage.active(stage.message("a"), stage.delay("d", days=1), stage.message("b"))
    waiting, queued = stage.contact(), stage.contact()
    stage.enroll(sequence, waiting)
    stage.settle()
    stage.enroll(sequence, queued)
    assert len(claimable(stage)) == 1

    running.pause(sequence, now=stage.now)
    stage.wait(days=3)

    assert claimable(stage) == []
    assert stage.sent(waiting) == ["welcome"]
    assert sequence.status == "paused"
    with pytest.raises(Refusal, match="only a paused one can be resumed"):
        running.resume(stage.active(stage.message("x")), now=stage.now)


def test_after_the_resume_the_overdue_go_on_one_after_the_other(stage):
    sequence = stage.active(
        stage.message("a"), stage.delay("d", hours=1), stage.message("b", stage.offer), spread_per_minute=60
    )
    people = [stage.contact() for _ in range(5)]
    for contact in people:
        stage.enroll(sequence, contact)
        stage.settle()
        stage.wait(minutes=1)
    running.pause(sequence, now=stage.now)
    stage.wait(days=2)
    assert Message.objects.filter(template=stage.offer).count() == 0

    running.resume(sequence, now=stage.now)
    stage.run()
    assert Message.objects.filter(template=stage.offer).count() == 0  # nobody moves before they are spread
    assert spreading.spread(now=stage.now) == 1

    assert due_times() == [stage.now + timedelta(seconds=turn) for turn in range(5)]
    stage.run()
    assert Message.objects.filter(template=stage.offer).count() == 1
    stage.wait(seconds=2)
    assert Message.objects.filter(template=stage.offer).count() == 3
    assert stage.sent(people[0]) == ["welcome", "offer"]  # who waited longest goes first
    assert stage.sent(people[4]) == ["welcome"]
    stage.wait(seconds=2)
    assert Message.objects.filter(template=stage.offer).count() == 5


def test_messages_that_were_queued_at_the_pause_are_spread_too(stage):
    sequence = stage.active(stage.message("a"), spread_per_minute=30)
    stage.enroll(sequence, *[stage.contact() for _ in range(4)])
    running.pause(sequence, now=stage.now)
    stage.wait(days=1)

    running.resume(sequence, now=stage.now)

    due = sorted(Message.objects.values_list("due_at", flat=True))
    assert due == [stage.now + timedelta(seconds=2 * turn) for turn in range(4)]


def test_downtime_spreads_the_overdue_of_active_sequences_only(stage):
    sequence = stage.active(stage.delay("d", hours=1), stage.message("b"), spread_per_minute=60)
    paused = stage.active(stage.delay("d", hours=1), stage.message("b"))
    sweeping.sweep(now=stage.now)
    stage.enroll(sequence, *[stage.contact() for _ in range(3)])
    stage.enroll(paused, stage.contact())
    running.pause(paused, now=stage.now)
    stage.now += timedelta(hours=5)  # nobody sweeps

    done = sweeping.sweep(now=stage.now)

    assert (done["sequences_spread"], done["enrollments_advanced"]) == (1, 1)
    assert Message.objects.count() == 1
    stage.now += timedelta(seconds=1)
    assert sweeping.sweep(now=stage.now)["enrollments_advanced"] == 1
    paused.refresh_from_db()
    assert paused.spread_asked_at is None


def test_a_busy_hour_without_downtime_spreads_nobody(stage):
    sequence = stage.active(stage.delay("d", hours=1), stage.message("b"))
    stage.enroll(sequence, *[stage.contact() for _ in range(3)])
    for _ in range(62):
        stage.now += timedelta(minutes=1)
        sweeping.sweep(now=stage.now)
    assert Message.objects.count() == 3


@pytest.mark.parametrize(
    ("policy", "sent", "end"),
    [("send", ["offer", "thanks"], "completed"), ("skip", ["thanks"], "completed"), ("end", [], "exited")],
)
def test_a_step_that_is_overdue_beyond_the_limit_follows_its_policy(stage, policy, sent, end):
    sequence = stage.active(
        stage.delay("d", hours=1),
        stage.message("b", stage.offer),
        stage.delay("e", hours=1),
        stage.message("c", stage.template("thanks")),
        late_limit=timedelta(hours=2),
        when_late=policy,
    )
    contact = stage.contact()
    (enrollment,) = stage.enroll(sequence, contact)
    running.pause(sequence, now=stage.now)
    stage.wait(hours=3, seconds=1)
    running.resume(sequence, now=stage.now)
    spreading.spread(now=stage.now)
    stage.run()
    stage.settle()
    stage.wait(hours=1)
    stage.settle()

    enrollment.refresh_from_db()
    assert stage.sent(contact) == sent
    assert enrollment.status == end
    if policy == "skip":
        assert stage.path(contact)[1] == ("b", "skipped")
        assert enrollment.runs.get(key="b").reason == "A step was overdue for too long"
    if policy == "end":
        assert enrollment.exit_reason == "late"


def test_within_the_limit_it_is_sent(stage):
    sequence = stage.active(
        stage.delay("d", hours=1), stage.message("b"), late_limit=timedelta(hours=2), when_late="end"
    )
    contact = stage.contact()
    stage.enroll(sequence, contact)
    running.pause(sequence, now=stage.now)
    stage.wait(hours=2, minutes=59)
    running.resume(sequence, now=stage.now)
    spreading.spread(now=stage.now)
    stage.run()
    assert stage.sent(contact) == ["welcome"]


def test_a_template_that_breaks_holds_its_step_until_it_is_repaired(stage):
    sequence = stage.active(stage.message("a"), stage.message("b", stage.offer))
    contact = stage.contact()
    stage.enroll(sequence, contact)
    stage.welcome.status = "PAUSED"
    stage.welcome.save()
    message = contact.messages.get()
    claimed = claiming.claim(claimable(stage), limit=10, now=stage.now)
    for dispatch, words in claimed.trouble.items():
        holding.hold(dispatch, reason="template", detail=words, now=stage.now)

    stage.wait(hours=2)
    assert running.release_repaired(now=stage.now) == 0
    (view, _) = seeing.steps(sequence, sequence.revision)
    assert "paused at Meta" in view.held.hold_detail
    assert [step.key for step in seeing.held_steps([sequence.pk])] == ["a"]

    stage.welcome.status, stage.welcome.synced_at = "APPROVED", stage.now
    stage.welcome.save()
    assert running.release_repaired(now=stage.now) == 1
    assert seeing.held_steps([sequence.pk]) == []
    assert [one.id for one in claimable(stage)] == [message.dispatch_id]
    stage.settle()
    assert stage.sent(contact) == ["welcome", "offer"]


def test_a_step_that_meta_refused_for_its_template_is_tried_again_after_a_while(stage):
    sequence = stage.active(stage.message("a"))
    stage.enroll(sequence, stage.contact())
    dispatch = Message.objects.get().dispatch_id
    holding.hold(dispatch, reason="template", detail="Meta says: unknown template", now=stage.now)

    stage.wait(minutes=14)
    assert running.release_repaired(now=stage.now) == 0
    stage.wait(minutes=1)
    assert running.release_repaired(now=stage.now) == 1


def test_trouble_with_the_account_waits_for_an_operators_word(stage):
    sequence = stage.active(stage.message("a"))
    stage.enroll(sequence, stage.contact())
    holding.hold(Message.objects.get().dispatch_id, reason="account", detail="Pay your bill.", now=stage.now)
    stage.wait(days=1)

    assert running.release_repaired(now=stage.now) == 0
    assert running.try_again(sequence, now=stage.now) == 1
    assert len(claimable(stage)) == 1


def test_what_is_held_for_trouble_stays_held_over_a_pause(stage):
    sequence = stage.active(stage.message("a"))
    stage.enroll(sequence, stage.contact())
    holding.hold(Message.objects.get().dispatch_id, reason="account", detail="Pay your bill.", now=stage.now)
    running.pause(sequence, now=stage.now)
    running.resume(sequence, now=stage.now)
    spreading.spread(now=stage.now)
    assert claimable(stage) == []


def test_a_condition_held_back_by_a_pause_is_answered_after_it(stage):
    bought = stage.tag("bought")
    sequence = stage.active(stage.if_tag("c", bought, yes=[stage.message("y")], waitFor={"hours": 1}))
    contact = stage.contact()
    stage.enroll(sequence, contact)
    running.pause(sequence, now=stage.now)
    stage.put_on(bought, contact)
    stage.wait(hours=5)
    running.resume(sequence, now=stage.now)
    spreading.spread(now=stage.now)
    stage.run()
    assert stage.sent(contact) == ["welcome"]
    assert advancing.advance(now=stage.now) == 0


def test_the_turn_after_a_pause_makes_nobody_too_late(stage):
    sequence = stage.active(
        stage.delay("d", hours=1),
        stage.message("b"),
        late_limit=timedelta(hours=2),
        when_late="skip",
        spread_per_minute=1,
    )
    people = [stage.contact() for _ in range(90)]
    stage.enroll(sequence, *people)
    running.pause(sequence, now=stage.now)
    stage.wait(hours=2, minutes=30)  # overdue by an hour and a half
    running.resume(sequence, now=stage.now)
    spreading.spread(now=stage.now)

    stage.wait(minutes=89)  # the last of them by almost three hours

    assert Message.objects.count() == 90


def test_messages_of_people_who_are_being_canceled_stay_held_through_a_resume(stage):
    """The canceling died, or takes its time: until it is done nobody's message goes."""
    sequence = stage.active(stage.message("a"))
    stage.enroll(sequence, stage.contact(), stage.contact())
    running.pause(sequence, now=stage.now)
    newest = Enrollment.objects.latest("pk").pk
    type(sequence).objects.filter(pk=sequence.pk).update(exit_up_to=newest)

    running.resume(sequence, now=stage.now)

    assert claimable(stage) == []
    assert running.finish_exits(now=stage.now) == 2
    assert Message.objects.waiting().count() == 0
    newcomer = stage.contact()
    spreading.spread(now=stage.now)
    stage.enroll(sequence, newcomer)
    assert len(claimable(stage)) == 1


def test_a_step_is_not_released_while_everybody_is_being_canceled(stage):
    sequence = stage.active(stage.message("a"))
    stage.enroll(sequence, stage.contact())
    holding.hold(Message.objects.get().dispatch_id, reason="account", detail="Pay your bill.", now=stage.now)
    type(sequence).objects.filter(pk=sequence.pk).update(exit_up_to=Enrollment.objects.get().pk)
    assert running.try_again(sequence, now=stage.now) == 0


def test_spreading_goes_on_in_batches_and_nobody_moves_before_the_last(stage):
    sequence = stage.active(stage.delay("d", hours=1), stage.message("b"), spread_per_minute=60)
    stage.enroll(sequence, *[stage.contact() for _ in range(5)])
    running.pause(sequence, now=stage.now)
    stage.wait(hours=2)
    running.resume(sequence, now=stage.now)

    assert spreading.spread(now=stage.now, limit=2) == 1
    assert advancing.advance(now=stage.now) == 0
    assert [spreading.spread(now=stage.now, limit=2) for _ in range(3)] == [1, 1, 0]

    assert due_times() == [stage.now + timedelta(seconds=turn) for turn in range(5)]


def test_a_clock_that_was_set_back_hides_no_downtime(stage):
    spreading.notice_downtime(now=stage.now + timedelta(days=1))
    assert not spreading.notice_downtime(now=stage.now)
    assert spreading.notice_downtime(now=stage.now + timedelta(hours=5))


def test_more_sequences_than_a_batch_has_room_for_all_get_their_turn(stage, monkeypatch):
    monkeypatch.setattr(batches, "SEQUENCES", 2)
    sequences = [stage.active(stage.message("a")) for _ in range(5)]
    contact = stage.contact()
    for sequence in sequences:
        enrolling.enroll(sequence, [contact.pk], source="api", now=stage.now)

    rounds = 0
    while advancing.advance(now=stage.now, limit=2):
        rounds += 1

    assert (rounds, Message.objects.count()) == (3, 5)


def test_events_for_more_sequences_than_a_batch_has_room_for_are_decided_in_several(stage, monkeypatch):
    monkeypatch.setattr(triggers, "SEQUENCES", 2)
    tags = [stage.tag(f"tag {number}") for number in range(5)]
    for tag in tags:
        stage.active(stage.message("a"), trigger="tag_added", trigger_tag=tag)
    contact = stage.contact()
    for tag in tags:
        stage.put_on(tag, contact)

    assert [triggers.handle(now=stage.now) for _ in range(4)] == [2, 2, 1, 0]

    assert Enrollment.objects.count() == 5


def test_a_sequence_in_a_timezone_that_is_none_holds_up_nobody_else(stage, caplog):
    sequence = stage.active(stage.delay("d", hours=1), stage.message("a"))
    stage.enroll(sequence, stage.contact())
    other = Stage()
    contact = other.contact()
    other.enroll(other.active(other.delay("d", hours=1), other.message("a")), contact)
    stage.organization.timezone = "Nowhere/Land"
    stage.organization.save()
    other.wait(hours=1)
    assert other.sent(contact) == ["welcome"]
    assert "can't go on" in caplog.text
    stage.organization.timezone = "UTC"
    stage.organization.save()


def test_one_act_that_fails_keeps_no_other_from_its_work(stage, monkeypatch, caplog):
    def broken(*, now):
        raise ValueError("broken")

    monkeypatch.setattr(triggers, "handle", broken)
    sequence = stage.draft(stage.message("a"))
    publishing.activate(sequence, now=stage.now)
    enrolling.enroll(sequence, [stage.contact().pk], source="api", now=stage.now)

    assert sweeping.sweep(now=stage.now)["enrollments_advanced"] == 1

    assert "broken" in caplog.text


def test_a_held_step_of_an_older_revision_is_told_only_while_people_wait_at_it(stage):
    sequence = stage.active(stage.message("a"))
    stage.enroll(sequence, stage.contact())
    holding.hold(Message.objects.get().dispatch_id, reason="template", detail="Gone.", now=stage.now)
    sequence.draft = [stage.message("a", stage.offer)]
    sequence.save()
    publishing.publish(sequence, now=stage.now)
    assert len(seeing.held_steps([sequence.pk])) == 1
    running.cancel_everybody(sequence, now=stage.now)
    assert seeing.held_steps([sequence.pk]) == []
