"""Two at the same moment: each may win, but nobody takes a step twice, nobody is lost, and nobody deadlocks.

`meanwhile` starts the one in the middle of the other: when it has gone as far as it can, that goes on.
Counters are compared with the rows at the end of every test, by the stage.
"""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import timedelta
from functools import partial

import pytest
from django.db import connection

from contacts import consent, tagging
from kaanha.lib.errors import Refusal
from kaanha.messaging import claiming, fates, holding, ledger, queueing, step_news
from kaanha.messaging.models import PUT_OFF, Message, StepNews
from sequences import (
    advancing,
    batches,
    enrolling,
    enrollments,
    exiting,
    locks,
    moving,
    publishing,
    running,
    spreading,
    sweeping,
    triggers,
    waking,
)
from sequences.models import Enrollment, Sequence, Source, StepRun
from sequences.walking import FIRST_LOOK, RARELY
from tests.contacts.threads import at_once, meet_after

SECOND = 1.0  # so long the one lets the other go ahead

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def meanwhile(monkeypatch):
    """meanwhile(module, name, act): `act` is begun when that function has first returned; what is given back waits.

    Whoever called the function goes on once the act is done, or has waited for a second: then it waits for us.
    """
    with ThreadPoolExecutor(1) as pool:

        def arrange(module, name: str, act: Callable[[], object]) -> Callable[[], object]:
            begun: list[Future] = []
            original = getattr(module, name)

            def called(*args, **kwargs):
                done = original(*args, **kwargs)
                if not begun:
                    begun.append(pool.submit(alone, act))
                    wait(begun, timeout=SECOND)
                return done

            monkeypatch.setattr(module, name, called)
            return lambda: begun[0].result(30)

        yield arrange


def alone(act):
    """With a connection of its own."""
    try:
        return act()
    finally:
        connection.close()


def enter(stage, sequence, *contacts):
    """Enroll them, and let nobody walk yet."""
    outcomes = enrolling.enroll(sequence, [one.pk for one in contacts], source=Source.API, now=stage.now)
    return [Enrollment.objects.get(pk=one.enrollment_id) for one in outcomes]


def inside():
    return Enrollment.objects.inside().count()


def taken():
    """How often each step was taken by anybody."""
    return Counter(StepRun.objects.values_list("enrollment", "key"))


def path_ends(stage, contact):
    return Enrollment.objects.filter(contact=contact).values_list("status", "exit_reason").get()


class TestAdvance:
    def test_two_at_once_take_different_people(self, stage, monkeypatch):
        """Without FOR UPDATE both took the same ten."""
        sequence = stage.active(stage.message("a"), stage.delay("d", days=1))
        enter(stage, sequence, *[stage.contact() for _ in range(20)])
        meet_after(monkeypatch, (batches, "claim"))

        one, two = at_once(*[lambda: advancing.advance(now=stage.now, limit=10)] * 2)

        assert (one, two) == (10, 10)
        assert Message.objects.count() == len(taken()) == 20
        assert set(taken().values()) == {1}

    def test_when_a_pause_returns_nobody_moves_any_more(self, stage, meanwhile):
        """Without have_alone in the pause it returned at once, and twenty people took their step after it."""
        sequence = stage.active(stage.message("a"))
        enter(stage, sequence, *[stage.contact() for _ in range(20)])

        def pause():
            running.pause(sequence, now=stage.now)
            return StepRun.objects.count()

        paused = meanwhile(batches, "claim", pause)
        advancing.advance(now=stage.now)

        assert paused() == StepRun.objects.count() == 20
        assert claiming.live(stage.number.pk, now=stage.now) == []

    def test_archiving_withdraws_what_is_being_put_into_the_queue(self, stage, meanwhile):
        """Without have_alone and the lock of those who leave, the messages of all twenty stayed in the queue."""
        sequence = stage.active(stage.message("a"))
        enter(stage, sequence, *[stage.contact() for _ in range(20)])

        archived = meanwhile(batches, "claim", lambda: running.archive(sequence, now=stage.now))
        advancing.advance(now=stage.now)

        assert archived() == 20
        assert (inside(), Message.objects.waiting().count()) == (0, 0)

    def test_canceling_one_withdraws_what_is_being_put_into_the_queue(self, stage, meanwhile):
        """Without the lock of those who leave, they left without their message, and it was sent to them."""
        sequence = stage.active(stage.message("a"), stage.message("b"))
        contact, other = stage.contact(), stage.contact()
        enrollment, _ = enter(stage, sequence, contact, other)

        canceled = meanwhile(batches, "claim", lambda: enrollments.cancel(enrollment, now=stage.now))
        advancing.advance(now=stage.now)
        canceled()
        stage.settle()

        assert path_ends(stage, contact) == ("exited", "canceled")
        assert [message.status for message in contact.messages.all()] == ["skipped"]
        assert stage.sent(other) == ["welcome", "welcome"]

    def test_whoever_is_leaving_takes_no_step(self, stage, meanwhile):
        """The other way round: the claim passes over whom somebody else has locked. Without SKIP LOCKED it waited."""
        sequence = stage.active(stage.message("a"))
        enrollment, _ = enter(stage, sequence, stage.contact(), stage.contact())

        def advance():
            return advancing.advance(now=stage.now), inside()

        advanced = meanwhile(exiting, "_locked", advance)
        enrollments.cancel(enrollment, now=stage.now)

        assert advanced() == (1, 2)
        stage.run()
        assert Message.objects.count() == 1

    def test_moving_and_advancing_take_turns(self, stage, meanwhile):
        """Without the lock of those who stand at the step, half of what the walk had written was undone."""
        sequence = stage.active(stage.message("a"), stage.delay("d", days=1), stage.message("b"))
        enter(stage, sequence, *[stage.contact() for _ in range(10)])
        sequence.draft = [stage.message("a", stage.offer), stage.message("b")]
        sequence.save()
        publishing.publish(sequence, now=stage.now)

        moved = meanwhile(batches, "claim", lambda: moving.move(sequence, now=stage.now))
        advancing.advance(now=stage.now)

        assert moved() == moving.Moved(10, 0)
        assert set(Message.objects.values_list("template__name", "status")) == {("offer", "queued")}
        stage.settle()
        stage.settle()
        assert set(taken().values()) == {1}
        assert set(Enrollment.objects.values_list("status", "revision__number")) == {("completed", 2)}

    def test_nobody_moves_before_the_overdue_are_spread(self, stage, meanwhile):
        """Had the spreading neither the sequence alone nor its mark on it, all five went at once."""
        sequence = stage.active(stage.delay("d", hours=1), stage.message("a"), spread_per_minute=60)
        enter(stage, sequence, *[stage.contact() for _ in range(5)])
        stage.run()
        running.pause(sequence, now=stage.now)
        stage.now += timedelta(days=1)
        running.resume(sequence, now=stage.now)

        advanced = meanwhile(locks, "have_alone", lambda: advancing.advance(now=stage.now))
        assert spreading.spread(now=stage.now) == 1

        assert advanced() == 0
        stage.run()
        assert Message.objects.count() == 1
        times = Enrollment.objects.filter(next_run_at__isnull=False).order_by("next_run_at").values_list("next_run_at")
        assert [at for (at,) in times] == [stage.now + timedelta(seconds=turn) for turn in range(1, 5)]


class TestEnroll:
    def test_twenty_at_once_enroll_a_contact_once(self, stage):
        """Without the unique constraint there were up to twenty enrollments."""
        sequence, contact = stage.active(stage.message("a")), stage.contact()

        told = at_once(*[lambda: enrolling.enroll(sequence, [contact.pk], source="api", now=stage.now)] * 20)

        assert Counter(one.code for (one,) in told) == {"": 1, "already_enrolled": 19}
        assert Enrollment.objects.count() == 1
        stage.run()
        assert stage.sent(contact) == ["welcome"]

    def test_two_lists_in_opposite_order_do_not_deadlock(self, stage):
        """They are judged and put in by the order of what is unique, whatever the order in which they came."""
        sequence = stage.active(stage.message("a"))
        people = [stage.contact().pk for _ in range(50)]

        one, two = at_once(
            lambda: enrolling.enroll(sequence, people, source="api", now=stage.now),
            lambda: enrolling.enroll(sequence, people[::-1], source="api", now=stage.now),
        )

        assert Counter(told.code for told in (*one, *two)) == {"": 50, "already_enrolled": 50}
        assert Enrollment.objects.count() == 50

    def test_who_opts_out_in_the_same_moment_gets_nothing(self, stage, meanwhile):
        """Without the last look at each step they got the first message."""
        sequence, contact = stage.active(stage.message("a")), stage.contact()

        def opt_out():
            consent.opt_out([contact.pk], source="operator", proof="", at=stage.now)
            triggers.handle(now=stage.now)

        left = meanwhile(enrolling, "enter", opt_out)
        enter(stage, sequence, contact)
        left()
        stage.run()

        assert path_ends(stage, contact) == ("exited", "opted_out")
        assert stage.sent(contact) == []

    @pytest.mark.parametrize("news", ["opted_out", "deleted", "exit_tag"])
    def test_news_that_is_older_than_the_enrollment_but_came_after_it_ends_it(self, stage, news):
        """As of an import that began before and was committed after. By its time alone it was passed over."""
        done = stage.tag("done")
        sequence, contact = stage.active(stage.delay("d", days=30), stage.message("a"), exit_tag=done), stage.contact()
        stage.enroll(sequence, contact)

        before = stage.now - timedelta(seconds=10)
        if news == "opted_out":
            consent.opt_out([contact.pk], source="import", proof="", at=before)
        elif news == "deleted":
            consent.delete([contact.pk], at=before)
        else:
            tagging.add(stage.organization, [contact.pk], [done.pk], source="import", at=before)
        stage.run()

        assert path_ends(stage, contact) == ("exited", news)

    def test_news_that_was_taken_back_before_the_enrollment_ends_nothing(self, stage):
        done = stage.tag("done")
        sequence, contact = stage.active(stage.delay("d", days=30), stage.message("a"), exit_tag=done), stage.contact()
        consent.opt_out([contact.pk], source="operator", proof="", at=stage.now)
        consent.delete([contact.pk], at=stage.now)
        stage.put_on(done, contact)
        stage.now += timedelta(seconds=10)
        consent.opt_in([contact.pk], source="operator", proof="", at=stage.now)
        consent.revive([contact.pk], at=stage.now)
        tagging.remove(stage.organization, [contact.pk], [done.pk], at=stage.now)

        stage.enroll(sequence, contact)

        assert path_ends(stage, contact) == ("active", "")

    def test_publishing_meanwhile_gives_everybody_a_whole_revision(self, stage, meanwhile):
        sequence = stage.active(stage.message("a"), stage.message("z"))
        sequence.draft = [stage.message("b", stage.offer)]
        sequence.save()
        early, late = stage.contact(), stage.contact()

        published = meanwhile(enrolling, "_require_active", lambda: publishing.publish(sequence, now=stage.now))
        enter(stage, sequence, early)
        published()
        enter(stage, sequence, late)
        stage.run()

        assert Enrollment.objects.get(contact=late).revision.number == 2
        for one in Enrollment.objects.select_related("step"):
            assert one.step.revision_id == one.revision_id
        assert {tuple(stage.sent(one)) for one in (early, late)} <= {("welcome",), ("offer",)}
        assert stage.sent(late) == ["offer"]

    def test_canceling_everybody_misses_nobody_who_enters_just_before(self, stage, meanwhile):
        """Without have_alone it didn't see them, and they stayed."""
        sequence = stage.active(stage.message("a"))
        enter(stage, sequence, stage.contact())

        canceled = meanwhile(enrolling, "enter", lambda: running.cancel_everybody(sequence, now=stage.now))
        enter(stage, sequence, stage.contact())

        assert canceled() == 2
        assert inside() == 0


class TestHandle:
    def test_nobody_is_left_inside_an_archived_sequence(self, stage, meanwhile):
        """Without the share of the sequence, archiving was over before those whom the event enrolls were there."""
        cart = stage.tag("cart")
        sequence = stage.active(stage.message("a"), trigger="tag_added", trigger_tag=cart)
        stage.put_on(cart, stage.contact())

        archived = meanwhile(enrolling, "enter", lambda: running.archive(sequence, now=stage.now))
        triggers.handle(now=stage.now)

        assert archived() == 1
        assert inside() == 0

    def test_events_that_come_after_archiving_enroll_nobody(self, stage, meanwhile):
        """The other way round: they wait for the archiving, and see it."""
        cart = stage.tag("cart")
        sequence = stage.active(stage.message("a"), trigger="tag_added", trigger_tag=cart)
        stage.put_on(cart, stage.contact())

        handled = meanwhile(running, "dispatches", lambda: triggers.handle(now=stage.now))
        running.archive(sequence, now=stage.now + timedelta(seconds=1))

        assert handled() == 1
        assert not Enrollment.objects.exists()

    def test_a_tag_that_is_put_on_while_its_condition_is_looked_at_is_seen(self, stage, meanwhile):
        """While only timers that were still to come were set, an event was lost on who was being looked at."""
        bought = stage.tag("bought")
        sequence = stage.active(stage.if_tag("c", bought, yes=[stage.message("y")], waitFor={"hours": 3}))
        contact = stage.contact()
        stage.enroll(sequence, contact)
        stage.wait(seconds=FIRST_LOOK.total_seconds())
        stage.now += RARELY  # when it is looked at again

        def buy():
            stage.put_on(bought, contact)
            return triggers.handle(now=stage.now)

        handled = meanwhile(batches, "learn", buy)
        advancing.advance(now=stage.now)
        assert handled() == 1
        stage.run()

        assert stage.sent(contact) == ["welcome"]

    def test_who_is_woken_and_who_leaves_are_locked_in_one_order(self, stage, meanwhile):
        """With a pass of locks for each, canceling the same two people deadlocked with it."""
        bought = stage.tag("bought")
        leaver, buyer = stage.contact(), stage.contact()
        sequence = stage.active(
            stage.if_tag("c", bought, yes=[stage.message("y")], waitFor={"days": 1}), stage.message("z")
        )
        stage.enroll(sequence, leaver, buyer)
        stage.put_on(bought, buyer)
        consent.opt_out([leaver.pk], source="operator", proof="", at=stage.now)

        canceled = meanwhile(triggers, "_wake", lambda: running.cancel_everybody(sequence, now=stage.now))
        assert triggers.handle(now=stage.now) == 2

        assert canceled() == 2
        ends = [("exited", "opted_out"), ("exited", "canceled")]
        assert [path_ends(stage, one) for one in (leaver, buyer)] == ends

    def test_two_at_once_decide_each_event_once(self, stage, monkeypatch):
        """Without the lock both decided all of them, and each refusal and event was told twice."""
        cart = stage.tag("cart")
        stage.active(stage.message("a"), trigger="tag_added", trigger_tag=cart)
        stage.put_on(cart, *[stage.contact() for _ in range(10)])
        meet_after(monkeypatch, (triggers, "_claim"))

        decided = at_once(*[lambda: triggers.handle(now=stage.now)] * 2)

        assert sorted(decided) == [0, 10]
        assert Enrollment.objects.count() == 10


class TestTakeIn:
    def holders(self, stage, count):
        cart = stage.tag("cart")
        people = [stage.contact() for _ in range(count)]
        stage.put_on(cart, *people)
        stage.run()
        sequence = stage.active(stage.message("a"))
        return sequence, enrolling.ask_for_holders(sequence, cart, source=Source.EXISTING, now=stage.now)

    def test_two_at_once_take_everybody_in_once(self, stage, monkeypatch):
        """Without the lock of the request both took the same batch in, and it counted those refused the second time."""
        _, intake = self.holders(stage, 10)
        meet_after(monkeypatch, (enrolling, "enter"))

        at_once(*[lambda: enrolling.take_in(now=stage.now, limit=6)] * 2)
        while enrolling.take_in(now=stage.now, limit=6):
            pass

        intake.refresh_from_db()
        assert (intake.enrolled, intake.refused, Enrollment.objects.count()) == (10, 0, 10)

    def test_archiving_meanwhile_leaves_nobody_inside(self, stage, meanwhile):
        """Who holds the request and then wants to share the sequence deadlocks with the archiving."""
        sequence, intake = self.holders(stage, 10)

        taken_in = meanwhile(running, "dispatches", lambda: enrolling.take_in(now=stage.now))
        running.archive(sequence, now=stage.now)
        taken_in()
        while enrolling.take_in(now=stage.now):
            pass

        intake.refresh_from_db()
        assert (inside(), intake.finished_at) == (0, stage.now)

    def test_canceling_everybody_misses_nobody_who_is_being_taken_in(self, stage, meanwhile):
        sequence, _ = self.holders(stage, 10)
        enter(stage, sequence, stage.contact())

        canceled = meanwhile(enrolling, "enter", lambda: running.cancel_everybody(sequence, now=stage.now))
        enrolling.take_in(now=stage.now, limit=5)

        assert canceled() == 6
        assert inside() == 0
        assert enrolling.take_in(now=stage.now) == 0

    def test_canceling_everybody_ends_the_request_also_while_nobody_is_inside(self, stage):
        sequence, intake = self.holders(stage, 10)

        assert running.cancel_everybody(sequence, now=stage.now) == 0

        intake.refresh_from_db()
        assert (enrolling.take_in(now=stage.now), intake.finished_at) == (0, stage.now)


class TestWake:
    @pytest.mark.parametrize("looks", [1, 2])
    def test_a_fate_that_comes_while_its_enrollment_is_written_is_not_lost(self, stage, meanwhile, looks):
        """On the first look the next one follows at once; later the wake waits for who is writing.

        Without an early second look, and with SKIP LOCKED in the wake, they waited for five minutes more.
        """
        sequence = stage.active(
            stage.message("a"),
            stage.delay("d", minutes=1),
            stage.if_reached("c", "a", "read", yes=[stage.message("y")], waitFor={"hours": 3}),
        )
        contact = stage.contact()
        stage.enroll(sequence, contact)
        (message,) = stage.settle()
        stage.now += timedelta(minutes=1)
        if looks == 2:
            stage.run()
            stage.now += FIRST_LOOK

        def read():
            with ledger.changing([message.pk], now=stage.now) as rows:
                fates.receive(rows[message.pk], "read", at=stage.now, wamid="w.1", attempt=None, verdict=None)
            return waking.wake(now=stage.now)

        woken = meanwhile(batches, "learn", read)
        assert advancing.advance(now=stage.now) == 1
        assert woken() == 1
        stage.now += FIRST_LOOK
        advancing.advance(now=stage.now)

        assert stage.sent(contact) == ["welcome", "welcome"]

    def test_two_at_once_lock_in_one_order(self, stage, meanwhile):
        """Whom a reply ends was locked after those who were woken: two with opposite news deadlocked."""
        sequence = stage.active(stage.message("a"), stage.delay("d", days=1), exit_on_reply=True)
        first, second = stage.contact(), stage.contact()
        stage.enroll(sequence, first)
        stage.settle()  # it waits in the delay
        stage.enroll(sequence, second)
        answered, open_ = Message.objects.order_by("pk")
        Message.objects.filter(pk=answered.pk).update(replied_at=stage.now)
        step_news.tell([answered.pk, open_.pk])

        def end_both():
            both = Enrollment.objects.order_by("pk").values_list("pk", flat=True)
            return exiting.end(dict.fromkeys(both, "canceled"), now=stage.now)

        ended = meanwhile(exiting, "answered", end_both)
        assert waking.wake(now=stage.now) == 2

        assert ended() + Enrollment.objects.filter(exit_reason="replied").count() == 2
        assert inside() == 0

    def test_two_at_once_take_different_news(self, stage, monkeypatch):
        sequence = stage.active(stage.message("a"), stage.delay("d", days=1))
        stage.enroll(sequence, *[stage.contact() for _ in range(10)])
        step_news.tell(Message.objects.values_list("pk", flat=True))
        meet_after(monkeypatch, (exiting, "answered"))

        assert at_once(*[lambda: waking.wake(now=stage.now, limit=5)] * 2) == [5, 5]
        assert not StepNews.objects.exists()


class TestActs:
    def test_the_message_of_who_is_paused_is_put_off_or_goes_but_never_both(self, stage, monkeypatch):
        """Without the lock in the claim, or in putting off, it was sent with `due_at` set: refused by the database."""
        sequence = stage.active(stage.message("a"))
        (enrollment,) = stage.enroll(sequence, stage.contact())
        meet_after(monkeypatch, (claiming, "_take"), (queueing, "_lock_queued"))

        at_once(
            lambda: claiming.claim(claiming.live(stage.number.pk, now=stage.now), limit=10, now=stage.now),
            lambda: enrollments.pause(enrollment, now=stage.now),
        )

        message = Message.objects.get()
        assert (message.status, message.due_at) in {("queued", PUT_OFF), ("sending", None)}
        assert Enrollment.objects.get().status == "paused"

    def test_pausing_one_waits_for_its_step_and_puts_its_new_message_off(self, stage, meanwhile):
        """Without its lock, the message was put into the queue after the pause had looked for it."""
        sequence = stage.active(stage.message("a"))
        (enrollment,) = enter(stage, sequence, stage.contact())

        paused = meanwhile(batches, "claim", lambda: enrollments.pause(enrollment, now=stage.now))
        advancing.advance(now=stage.now)
        paused()

        assert Enrollment.objects.get().status == "paused"
        assert Message.objects.get().due_at == PUT_OFF

    @pytest.mark.parametrize("place", [(running, "_owner"), (locks, "share")])
    def test_a_repaired_step_of_a_sequence_that_is_being_paused_stays_held(self, stage, meanwhile, place):
        """Released without a second look at the sequence, or without a share of it, it was sent after the pause."""
        sequence = stage.active(stage.message("a"))
        stage.enroll(sequence, stage.contact())
        dispatch = Message.objects.get().dispatch
        holding.hold(dispatch.pk, reason="template", detail="Paused", now=stage.now)
        stage.now += running.TRY_AGAIN

        paused = meanwhile(*place, lambda: running.pause(sequence, now=stage.now))
        running.release_repaired(now=stage.now)
        paused()

        assert claiming.live(stage.number.pk, now=stage.now) == []

    def test_resuming_and_two_who_leave_do_not_deadlock(self, stage, meanwhile):
        """Released step by step, the messages were locked in another order than by those who withdraw them."""
        sequence = stage.active(stage.message("a"), stage.message("b", stage.offer))
        early, late = stage.contact(), stage.contact()
        stage.enroll(sequence, late)
        stage.settle()  # late has the second message, the older one
        stage.enroll(sequence, early)
        running.pause(sequence, now=stage.now)
        stage.now += timedelta(days=1)
        consent.opt_out([early.pk, late.pk], source="operator", proof="", at=stage.now)

        handled = meanwhile(holding, "_let_go", lambda: triggers.handle(now=stage.now))
        running.resume(sequence, now=stage.now)

        assert handled() == 2
        assert inside() == 0
        assert Message.objects.waiting().count() == 0

    def test_two_who_archive_at_once_end_everybody_once(self, stage):
        sequence = stage.active(stage.message("a"))
        enter(stage, sequence, *[stage.contact() for _ in range(10)])
        same = Sequence.objects.get(pk=sequence.pk)

        def archive(one):
            try:
                return running.archive(one, now=stage.now)
            except Refusal:
                return None

        told = at_once(lambda: archive(sequence), lambda: archive(same))

        assert sorted(told, key=str) == [10, None]
        assert inside() == 0


def test_sweeps_of_everything_at_once_do_everything_once(stage):
    """Three sweeps over and over, while fates come, tags are put on, people opt out and one is paused."""
    cart, bought = stage.tag("cart"), stage.tag("bought")
    stage.active(
        stage.message("a"),
        stage.if_tag("c", bought, yes=[stage.message("y", stage.offer)], no=[stage.message("n")]),
        stage.if_reached("r", "a", "read", yes=[stage.message("z")], waitFor={"minutes": 1}),
        trigger="tag_added",
        trigger_tag=cart,
    )
    people = [stage.contact() for _ in range(60)]
    stage.put_on(bought, *people[::2])
    stage.put_on(cart, *people)

    def sweep():
        return sum((sweeping.sweep(now=stage.now) for _ in range(3)), Counter())

    for turn in range(8):
        if turn == 2:
            consent.opt_out([one.pk for one in people[:5]], source="operator", proof="", at=stage.now)
        at_once(sweep, sweep, sweep, partial(settle, stage, "read" if turn % 2 else "sent"))
        stage.now += timedelta(seconds=30)

    assert inside() == 0
    assert set(taken().values()) == {1}
    ended = Counter(Enrollment.objects.values_list("status", "exit_reason"))
    assert ended == {("completed", ""): 55, ("exited", "opted_out"): 5}
    assert not StepNews.objects.exists()


def settle(stage, status):
    """Let Meta decide about what is queued, as a process of its own does."""
    ids = list(Message.objects.waiting().values_list("pk", flat=True))
    with ledger.changing(ids, now=stage.now) as rows:
        for row in rows.values():
            fates.receive(row, status, at=stage.now, wamid=f"wamid.{row.id}", attempt=None, verdict=None)
