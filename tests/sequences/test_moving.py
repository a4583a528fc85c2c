"""Moving people to the newest revision: who goes when, whose message goes where, and who stays."""

from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from kaanha.lib.errors import Refusal
from kaanha.messaging import claiming, fates, ledger, queueing
from kaanha.messaging.models import Message, Status
from kaanha.organizations.models import AuditEntry
from sequences import live_page, locks, moving, publishing, running, spreading
from sequences.models import Enrollment, Sequence
from tests.sequences.conftest import TRANSIENT

pytestmark = pytest.mark.django_db(transaction=True)


def republish(stage, sequence, *steps):
    sequence.draft = list(steps)
    sequence.save(update_fields=["draft"])
    return publishing.publish(sequence, now=stage.now)


def timers():
    return list(Enrollment.objects.order_by("pk").values_list("next_run_at", flat=True))


def numbers():
    return list(Enrollment.objects.order_by("pk").values_list("revision__number", flat=True))


def crowd(stage, sequence, count):
    return stage.enroll(sequence, *[stage.contact() for _ in range(count)])


def claim(stage):
    return claiming.claim(claiming.live(stage.number.pk, now=stage.now), limit=10, now=stage.now)


def refuse_for_now(stage, message):
    with ledger.changing([message.pk], now=stage.now) as rows:
        fates.refuse(rows[message.pk], TRANSIENT, now=stage.now)


def alone(act):
    """With a connection of its own."""
    try:
        return act()
    finally:
        connection.close()


class TestTurns:
    def test_who_was_spread_keeps_the_turn_where_the_step_is_unchanged(self, stage):
        delay, message = stage.delay("d", hours=1), stage.message("a")
        sequence = stage.active(delay, message, spread_per_minute=1)
        crowd(stage, sequence, 20)
        running.pause(sequence, now=stage.now)
        stage.now += timedelta(days=1)
        running.resume(sequence, now=stage.now)
        spreading.spread(now=stage.now)
        before = timers()
        republish(stage, sequence, delay, message, stage.message("b", stage.offer))

        assert moving.move(sequence, now=stage.now) == moving.Moved(20, 0)

        assert timers() == before
        assert set(numbers()) == {2}
        stage.run()
        assert Message.objects.count() == 1

    def test_whoever_a_shorter_delay_makes_due_gets_a_turn_and_the_others_their_new_time(self, stage):
        sequence = stage.active(stage.delay("d", days=9), stage.message("a"), spread_per_minute=60)
        crowd(stage, sequence, 3)
        stage.wait(days=2)
        crowd(stage, sequence, 2)
        republish(stage, sequence, stage.delay("d", days=1), stage.message("a"))

        moving.move(sequence, now=stage.now)

        turns = [stage.now + timedelta(seconds=turn) for turn in range(3)]
        assert timers() == [*turns, *[stage.now + timedelta(days=1)] * 2]
        stage.run()
        assert Message.objects.count() == 1

    def test_a_longer_delay_lets_them_wait_longer(self, stage):
        sequence = stage.active(stage.delay("d", days=1), stage.message("a"))
        crowd(stage, sequence, 1)
        began = stage.now
        stage.wait(hours=23)
        republish(stage, sequence, stage.delay("d", days=3), stage.message("a"))

        moving.move(sequence, now=stage.now)

        assert timers() == [began + timedelta(days=3)]

    def test_a_changed_condition_is_looked_at_in_turns(self, stage):
        wait = {"waitFor": {"days": 3}}
        old, new = stage.tag("old"), stage.tag("new")
        sequence = stage.active(
            stage.if_tag("c", old, yes=[stage.message("a")], **wait), stage.message("z"), spread_per_minute=60
        )
        contacts = [stage.contact() for _ in range(3)]
        stage.put_on(new, *contacts)
        stage.enroll(sequence, *contacts)
        republish(stage, sequence, stage.if_tag("c", new, yes=[stage.message("a")], **wait), stage.message("z"))

        moving.move(sequence, now=stage.now)

        assert timers() == [stage.now + timedelta(seconds=turn) for turn in range(3)]
        stage.run()
        assert Message.objects.count() == 1

    def test_a_condition_of_which_only_a_path_changed_keeps_its_time(self, stage):
        wait = {"waitFor": {"days": 3}}
        tag = stage.tag("x")
        sequence = stage.active(stage.if_tag("c", tag, yes=[stage.message("a")], **wait), stage.message("z"))
        crowd(stage, sequence, 2)
        before = timers()
        republish(
            stage, sequence, stage.if_tag("c", tag, yes=[stage.message("a", stage.offer)], **wait), stage.message("z")
        )

        assert moving.move(sequence, now=stage.now) == moving.Moved(2, 0)
        assert timers() == before

    def test_whose_step_is_gone_gets_a_turn_over_all_steps_and_batches(self, stage, monkeypatch):
        monkeypatch.setattr(moving, "BATCH", 2)
        sequence = stage.active(
            stage.delay("d", days=1), stage.delay("e", days=1), stage.message("z"), spread_per_minute=60
        )
        crowd(stage, sequence, 3)
        stage.wait(days=1)
        stage.settle()
        crowd(stage, sequence, 2)
        republish(stage, sequence, stage.message("z"))

        assert moving.move(sequence, now=stage.now) == moving.Moved(5, 0)

        assert sorted(timers()) == [stage.now + timedelta(seconds=turn) for turn in range(5)]
        stage.run()
        assert Message.objects.count() == 1

    def test_who_is_too_late_for_the_policy_stays_too_late(self, stage):
        sequence = stage.active(
            stage.delay("d", days=2), stage.message("a"), late_limit=timedelta(hours=1), when_late="end"
        )
        crowd(stage, sequence, 1)
        stage.now += timedelta(days=3)
        republish(stage, sequence, stage.delay("d", days=1), stage.message("a"))

        moving.move(sequence, now=stage.now)
        stage.run()

        assert Enrollment.objects.get().exit_reason == "late"
        assert Message.objects.count() == 0


class TestMessagesOfAStepThatIsGone:
    @pytest.fixture
    def sequence(self, stage):
        sequence = stage.active(stage.message("a"), stage.message("z", stage.offer))
        crowd(stage, sequence, 1)
        return sequence

    def drop(self, stage, sequence):
        republish(stage, sequence, stage.message("z", stage.offer))

    def test_one_that_is_queued_is_withdrawn_and_its_owner_goes_on(self, stage, sequence):
        self.drop(stage, sequence)

        assert moving.move(sequence, now=stage.now) == moving.Moved(1, 0)
        stage.run()

        messages = Message.objects.order_by("pk").values_list("template__name", "status", "skip_reason")
        assert list(messages) == [("welcome", "skipped", "canceled"), ("offer", "queued", "")]

    def test_one_that_a_claim_takes_meanwhile_keeps_its_owner(self, stage, sequence, monkeypatch):
        """The claim comes after the enrollment was locked, and before the message is."""
        self.drop(stage, sequence)
        withdraw = queueing.withdraw

        def claimed_first(messages, **options):
            with ThreadPoolExecutor(1) as pool:
                claimed = pool.submit(alone, lambda: claim(stage)).result(30)
            assert len(claimed.envelopes) == 1
            return withdraw(messages, **options)

        monkeypatch.setattr(queueing, "withdraw", claimed_first)

        assert moving.move(sequence, now=stage.now) == moving.Moved(0, 1)
        stage.run()

        message = Message.objects.get()
        assert (message.status, Enrollment.objects.get().message) == (Status.SENDING, message.pk)
        stage.settle()
        assert [outcome for _, outcome in stage.path(Enrollment.objects.get().contact)] == ["sent", ""]
        assert moving.move(sequence, now=stage.now) == moving.Moved(1, 0)

    @pytest.mark.parametrize("status", ["sent", "skipped"])
    def test_one_whose_fate_is_not_noticed_yet_keeps_its_owner(self, stage, sequence, status, monkeypatch):
        contact = Enrollment.objects.get().contact
        with monkeypatch.context() as patched:
            patched.setattr(stage, "run", lambda: None)
            stage.settle(status=status)
        self.drop(stage, sequence)

        assert moving.move(sequence, now=stage.now) == moving.Moved(0, 1)
        stage.run()

        assert stage.path(contact) == [("a", status), ("z", "")]

    def test_the_message_that_a_condition_waits_for_keeps_nobody(self, stage):
        sequence = stage.active(
            stage.message("a"),
            stage.if_reached("c", "a", "read", yes=[stage.message("b")], waitFor={"days": 1}),
            stage.message("z", stage.offer),
        )
        crowd(stage, sequence, 1)
        stage.settle()
        assert Enrollment.objects.get().message is not None
        republish(stage, sequence, stage.message("a"), stage.message("z", stage.offer))

        assert moving.move(sequence, now=stage.now) == moving.Moved(1, 0)
        assert Message.objects.get().status == "sent"


def test_a_message_that_was_in_flight_is_sent_with_the_new_content_by_another_move(stage):
    sequence = stage.active(stage.message("a"))
    crowd(stage, sequence, 1)
    claim(stage)
    newest = republish(stage, sequence, stage.message("a", stage.offer))
    assert moving.move(sequence, now=stage.now) == moving.Moved(1, 0)
    refuse_for_now(stage, Message.objects.get())
    assert Message.objects.get().template == stage.welcome

    assert moving.move(sequence, now=stage.now) == moving.Moved(1, 0)

    message = Message.objects.get()
    assert (message.status, message.template) == (Status.QUEUED, stage.offer)
    assert message.dispatch == newest.steps.get().dispatch
    assert moving.move(sequence, now=stage.now) == moving.Moved(0, 0)
    stage.settle()
    assert Enrollment.objects.get().status == "completed"


def test_revisions_that_nobody_is_on_cost_nothing(stage):
    sequence = stage.active(stage.delay("d", days=1), stage.message("a"))
    crowd(stage, sequence, 2)

    def publish(delays):
        republish(stage, sequence, *[stage.delay(f"x{place}", days=1) for place in range(delays)], stage.message("a"))

    def cost():
        with CaptureQueriesContext(connection) as queries:
            assert moving.move(sequence, now=stage.now) == moving.Moved(2, 0)
        return len(queries)

    publish(1)
    moving.move(sequence, now=stage.now)
    publish(2)
    after_two = cost()
    for delays in range(3, 8):
        publish(delays)

    assert cost() == after_two


class TestWhatComesBetween:
    @pytest.fixture
    def sequence(self, stage):
        sequence = stage.active(stage.delay("d", days=1), stage.message("a"))
        crowd(stage, sequence, 3)
        republish(stage, sequence, stage.delay("d", days=2), stage.message("a"))
        return sequence

    def test_an_archived_sequence_is_told_from_its_row_and_not_from_the_callers(self, stage, sequence):
        running.archive(Sequence.objects.get(), now=stage.now)
        assert sequence.status == "active"

        with pytest.raises(Refusal, match="archived"):
            moving.move(sequence, now=stage.now)

    def test_who_has_the_sequence_alone_is_waited_for(self, stage, sequence):
        with ThreadPoolExecutor(1) as pool:
            with transaction.atomic():
                locks.have_alone(sequence.pk)
                moved = pool.submit(alone, lambda: moving.move(sequence, now=stage.now))
                assert not wait([moved], timeout=1).done
                Sequence.objects.update(status="archived")
            assert moved.result(30) == moving.Moved(0, 3)
        assert numbers() == [1, 1, 1]

    def test_a_newer_revision_stops_it(self, stage, sequence, monkeypatch):
        monkeypatch.setattr(moving, "BATCH", 2)
        share, calls = locks.share, []

        def published_first(keys):
            calls.append(keys)
            if len(calls) == 2:
                republish(stage, sequence, stage.delay("d", days=3), stage.message("a"))
            share(keys)

        monkeypatch.setattr(locks, "share", published_first)

        assert moving.move(sequence, now=stage.now) == moving.Moved(2, 1)
        assert numbers() == [2, 2, 1]
        assert moving.move(sequence, now=stage.now) == moving.Moved(3, 0)


class TestInTheBackground:
    """Too many for one request: the sweep goes on with them."""

    @pytest.fixture
    def sequence(self, stage, monkeypatch):
        monkeypatch.setattr(moving, "BATCH", 2)
        sequence = stage.active(stage.delay("d", days=9), stage.message("a"), spread_per_minute=1)
        crowd(stage, sequence, 20)
        stage.wait(days=2)
        republish(stage, sequence, stage.delay("d", days=1), stage.message("a"))
        return sequence

    def test_the_sweep_moves_the_others_and_goes_on_with_their_turns(self, stage, sequence):
        assert moving.move(sequence, now=stage.now, most=2) == moving.Moved(2, 0, 18)
        assert live_page.situation(sequence) == ["People are being moved to revision 2: 18 to go."]

        assert moving.carry_on(now=stage.now) == 8
        assert moving.carry_on(now=stage.now) == 8
        assert moving.carry_on(now=stage.now) == 2

        assert set(numbers()) == {2}
        assert timers() == [stage.now + timedelta(minutes=turn) for turn in range(20)]
        assert moving.carry_on(now=stage.now) == 0
        assert live_page.situation(sequence) == []
        assert AuditEntry.objects.get(action="sequence.moved").details == {"revision": 2, "people": 20}

    def test_who_stays_does_not_keep_it_going(self, stage, monkeypatch):
        monkeypatch.setattr(moving, "BATCH", 2)
        sequence = stage.active(stage.delay("d", days=1), stage.message("a"), stage.delay("gone", days=9))
        crowd(stage, sequence, 3)
        stage.wait(days=1)
        stage.settle()
        crowd(stage, sequence, 3)
        republish(stage, sequence, stage.delay("d", days=1), stage.message("a"))

        assert moving.move(sequence, now=stage.now, most=2) == moving.Moved(2, 3, 1)
        assert moving.carry_on(now=stage.now) == 1
        assert moving.carry_on(now=stage.now) == 0

        assert numbers() == [1, 1, 1, 2, 2, 2]

    def test_the_next_revision_is_not_moved_to_unasked(self, stage, sequence):
        moving.move(sequence, now=stage.now, most=2)
        republish(stage, sequence, stage.delay("d", days=3), stage.message("a"))

        assert moving.carry_on(now=stage.now) == 0
        assert sorted(numbers()) == [1] * 18 + [2] * 2

    def test_it_goes_on_while_paused_and_ends_with_the_sequence(self, stage, sequence):
        moving.move(sequence, now=stage.now, most=2)
        running.pause(sequence, now=stage.now)
        assert moving.carry_on(now=stage.now) == 8

        running.archive(sequence, now=stage.now)
        assert moving.carry_on(now=stage.now) == 0
