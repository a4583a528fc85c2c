"""Every act of the engine dies at each of its statements in turn: nobody twice, nobody lost, and the sums are right.

An act of one transaction leaves no trace until it is whole. What takes several leaves whole ones, and goes on.
"""

from datetime import timedelta
from itertools import count

import pytest
from django.db import connection

from contacts import consent
from kaanha.messaging import counting as funnels
from kaanha.messaging import fates, ledger, step_news
from kaanha.messaging.models import Dispatch, Message, StepNews
from kaanha.webhooks.models import Event
from sequences import (
    advancing,
    enrolling,
    enrollments,
    exiting,
    moving,
    publishing,
    running,
    spreading,
    sweeping,
    triggers,
    waking,
)
from sequences.models import Enrollment, EnrollmentRefusal, Sequence, Source, StepRun
from tests.factories import EndpointFactory
from tests.sequences.conftest import TRANSIENT
from tests.sequences.test_exiting import in_flight

MINUTE = timedelta(minutes=1)
TABLES = (
    "contacts_contactevent", "messaging_dispatch", "messaging_dispatchcount", "messaging_message", "messaging_stepnews",
    "sequences_enrollment", "sequences_enrollmentrefusal", "sequences_intake", "sequences_intakecontact",
    "sequences_revision", "sequences_sequence", "sequences_sequencecount", "sequences_step", "sequences_stepcount",
    "sequences_steprun", "webhooks_delivery", "webhooks_event",
)  # fmt: skip

pytestmark = pytest.mark.django_db(transaction=True)


class Crash(BaseException):
    """The process is gone."""


class Scene:
    """A sequence with somebody for everything: each act has work to do in it."""

    def __init__(self, stage) -> None:
        self.stage = stage
        EndpointFactory(organization=stage.organization, kinds=["sequence.enrolled", "sequence.completed"])
        cart, bought, self.done, vip = (stage.tag(name) for name in ("cart", "bought", "done", "vip"))
        self.sequence = stage.active(
            stage.message("a"),
            stage.delay("d", minutes=1),
            stage.if_tag("c", bought, yes=[stage.message("y", stage.offer)], no=[stage.message("n")]),
            stage.message("z"),
            trigger="tag_added",
            trigger_tag=cart,
            exit_tag=self.done,
            exit_on_reply=True,
        )
        self.people = [stage.contact() for _ in range(13)]
        self.enrolled = stage.enroll(self.sequence, *self.people[:6], self.people[12])
        stage.put_on(bought, *self.people[:2])
        stage.settle(self.messages(0, 1, 2))
        stage.now += MINUTE  # their delay is over, and from here on nobody sweeps
        self.fate(self.messages(3, 4), "sent")
        self.reply(*self.messages(4))
        self.leave_with_a_message_that_comes_back(12)
        self.enroll(6, 7)
        consent.opt_out([self.people[7].pk], source="operator", proof="", at=stage.now)
        consent.opt_out([self.people[9].pk], source="operator", proof="", at=stage.now)
        stage.put_on(cart, self.people[8], self.people[9])
        stage.put_on(self.done, self.people[5])
        stage.put_on(vip, self.people[10], self.people[11])
        enrolling.ask_for_holders(self.sequence, vip, source=Source.EXISTING, now=stage.now)

    def messages(self, *places):
        return list(Message.objects.filter(contact__in=[self.people[place] for place in places]).order_by("pk"))

    def fate(self, messages, status):
        with ledger.changing([message.pk for message in messages], now=self.stage.now) as rows:
            for row in rows.values():
                fates.receive(row, status, at=self.stage.now, wamid=f"w.{row.id}", attempt=None, verdict=None)

    def reply(self, message):
        Message.objects.filter(pk=message.pk).update(replied_at=self.stage.now)
        step_news.tell([message.pk])

    def leave_with_a_message_that_comes_back(self, place):
        (message,) = self.messages(place)
        in_flight(message)
        enrollments.cancel(Enrollment.objects.get(contact=self.people[place]), now=self.stage.now)
        with ledger.changing([message.pk], now=self.stage.now) as rows:
            fates.refuse(rows[message.pk], TRANSIENT, now=self.stage.now)

    def enroll(self, *places):
        contacts = [self.people[place].pk for place in places]
        enrolling.enroll(self.sequence, contacts, source=Source.API, now=self.stage.now)

    def edit(self):
        """The delay is gone in the draft, and the first message is another one."""
        condition, last = self.sequence.draft[2:]
        self.sequence.draft = [self.stage.message("a", self.stage.offer), condition, last]
        self.sequence.save()

    def play_on(self):
        """Sweep and settle until nobody is inside any more; a sequence that is paused goes on."""
        self.sequence.refresh_from_db()
        if self.sequence.status == "paused":
            running.resume(self.sequence, now=self.stage.now)
        for one in Enrollment.objects.filter(status="paused"):
            enrollments.resume(one, now=self.stage.now)
        for _ in range(12):
            sweeping.sweep(now=self.stage.now)
            self.fate(Message.objects.waiting().filter(due_at__lte=self.stage.now), "sent")
            self.stage.now += MINUTE


@pytest.fixture
def scene(stage):
    return Scene(stage)


def state():
    """What stands in all the tables, as one text."""
    rows = " UNION ALL ".join(f"SELECT '{table}', t::text FROM {table} t" for table in TABLES)
    with connection.cursor() as cursor:
        cursor.execute(f"{rows} ORDER BY 1, 2")
        return cursor.fetchall()


def crash_at(number, act):
    """Do the act, and die when it has executed so many statements that belong to a transaction; whether it died."""
    executed = count(1)

    def dying(execute, *statement):
        answer = execute(*statement)
        if connection.in_atomic_block and next(executed) == number:
            raise Crash
        return answer

    try:
        with connection.execute_wrapper(dying):
            act()
    except Crash:
        return True
    return False


def check(scene):
    """Everybody has come to an end, once, and what was counted and told is what is there."""
    assert not Enrollment.objects.inside().exists()
    assert Message.objects.waiting().count() == 0
    assert not StepNews.objects.exists()
    taken = list(StepRun.objects.values_list("enrollment", "key"))
    assert len(taken) == len(set(taken))
    assert not StepRun.objects.filter(ended_at=None).exists()
    sent = sorted(StepRun.objects.filter(message__isnull=False).values_list("message", flat=True))
    assert sent == sorted(Message.objects.values_list("pk", flat=True))
    for kind, number in (
        ("sequence.enrolled", Enrollment.objects.count()),
        ("sequence.completed", Enrollment.objects.filter(status="completed").count()),
    ):
        assert Event.objects.filter(kind=kind).count() == number
    for dispatch in Dispatch.objects.all():
        assert funnels.funnel(dispatch.pk) == funnels.counted_from_ledger(dispatch.pk)
    assert Sequence.objects.filter(exit_up_to__isnull=False).count() == 0


def ways(scene):
    """What became of each of the people, by their place; of those who were enrolled."""
    found = dict(Enrollment.objects.values_list("contact", "exit_reason"))
    return {place: found[one.pk] for place, one in enumerate(scene.people) if one.pk in found}


UNDISTURBED = {
    **dict.fromkeys((0, 1, 2, 3, 6, 8, 10, 11), ""),
    4: "replied", 5: "exit_tag", 7: "opted_out", 12: "canceled",
}  # fmt: skip


def test_without_a_crash_this_is_how_it_ends(scene):
    """So that the tests below are about something."""
    scene.play_on()

    check(scene)
    assert ways(scene) == UNDISTURBED
    assert set(EnrollmentRefusal.objects.values_list("contact", "code")) == {(scene.people[9].pk, "not_opted_in")}
    assert [scene.stage.sent(scene.people[place]) for place in (0, 2)] == [
        ["welcome", "offer", "welcome"],
        ["welcome", "welcome", "welcome"],
    ]


def pause_one(scene):
    enrollments.pause(Enrollment.objects.get(contact=scene.people[5]), now=scene.stage.now)


def cancel_one(scene):
    enrollments.cancel(Enrollment.objects.get(contact=scene.people[5]), now=scene.stage.now)


WHOLE = {
    "events": lambda scene: triggers.handle(now=scene.stage.now),
    "holders": lambda scene: enrolling.take_in(now=scene.stage.now),
    "fates": lambda scene: waking.wake(now=scene.stage.now),
    "loose ends": lambda scene: exiting.tie_loose_ends(now=scene.stage.now),
    "enroll": lambda scene: scene.enroll(9, 10, 11, 0),
    "pause": lambda scene: running.pause(Sequence.objects.get(), now=scene.stage.now),
    "publish": lambda scene: publishing.publish(Sequence.objects.get(), now=scene.stage.now),
    "pause one": pause_one,
    "cancel one": cancel_one,
}


@pytest.mark.parametrize("name", WHOLE)
def test_an_act_of_one_transaction_leaves_no_trace_until_it_is_whole(scene, name):
    """With a transaction less, or a second one in it, something was left of it at one statement or another."""
    if name == "publish":
        scene.edit()
    before = state()

    died = 0
    while crash_at(died + 1, lambda: WHOLE[name](scene)):
        died += 1
        assert state() == before, f"after statement {died}"

    assert died >= 3
    assert state() != before
    scene.play_on()
    check(scene)
    if name not in ("enroll", "cancel one"):
        assert ways(scene) == UNDISTURBED


def resume(scene):
    sequence = Sequence.objects.get()
    if sequence.status == "paused":
        running.resume(sequence, now=scene.stage.now)


def archive(scene):
    """As an operator who tries again, or whom the sweep carries on."""
    sequence = Sequence.objects.get()
    if sequence.status == "archived":
        running.finish_exits(now=scene.stage.now)
    else:
        running.archive(sequence, now=scene.stage.now)


STEPWISE = {
    "timers": lambda scene: advancing.advance(now=scene.stage.now),
    "sweep": lambda scene: sweeping.sweep(now=scene.stage.now),
    "move": lambda scene: moving.move(Sequence.objects.get(), now=scene.stage.now),
    "resume": resume,
    "spread": lambda scene: spreading.spread(now=scene.stage.now),
    "archive": archive,
    "cancel everybody": lambda scene: running.cancel_everybody(Sequence.objects.get(), now=scene.stage.now),
}


@pytest.mark.parametrize("name", STEPWISE)
def test_what_takes_several_transactions_is_carried_on_after_every_crash(scene, name):
    """Each time it dies one statement later than the time before, until it gets through; then the sweep goes on."""
    if name == "move":
        scene.edit()
        publishing.publish(scene.sequence, now=scene.stage.now)
    if name in ("resume", "spread"):
        running.pause(scene.sequence, now=scene.stage.now)
    if name == "spread":
        running.resume(scene.sequence, now=scene.stage.now)
        triggers.handle(now=scene.stage.now)

    died = 0
    while crash_at(died + 1, lambda: STEPWISE[name](scene)):
        died += 1

    assert died >= 3
    ends_all = name in ("archive", "cancel everybody")
    assert Enrollment.objects.inside().exists() != ends_all
    scene.play_on()
    check(scene)
    if not ends_all:
        assert ways(scene) == UNDISTURBED


@pytest.mark.parametrize("number", range(3, 80, 4))
def test_a_sweep_that_dies_is_made_good_by_the_next(scene, number):
    """Once in a scene of its own, so that no earlier attempt has done the work."""
    assert crash_at(number, lambda: sweeping.sweep(now=scene.stage.now))

    scene.play_on()

    check(scene)
    assert ways(scene) == UNDISTURBED
