"""The life of a broadcast under a clock that the test turns."""

import contextlib
import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, connection
from django.test.utils import CaptureQueriesContext
from redis import Redis

from broadcasts import launch, lock, report
from broadcasts.models import Broadcast, PauseReason, Status
from contacts.models import Contact
from kaanha.lib.errors import Refusal
from kaanha.messaging import counting, sweeping
from kaanha.messaging.models import Dispatch, Message, SkipReason
from kaanha.messaging.models import Status as MessageStatus
from kaanha.webhooks.models import Event
from tests.contacts.threads import at_once
from tests.factories import BroadcastFactory, ContactFactory, TagFactory

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SOON = NOW + timedelta(minutes=10)

pytestmark = pytest.mark.django_db


@pytest.fixture
def redis(settings):
    with Redis.from_url(settings.REDIS_URL) as client:
        client.flushdb()
        yield client


def fresh(broadcast):
    return Broadcast.objects.get(pk=broadcast.pk)


def messages_of(broadcast):
    return Message.objects.filter(dispatch=fresh(broadcast).dispatch)


def settle_all(broadcast, status=MessageStatus.SKIPPED):
    reason = SkipReason.CANCELED if status == MessageStatus.SKIPPED else ""
    messages_of(broadcast).update(status=status, skip_reason=reason, due_at=None, lease_until=None, closed_at=NOW)


def test_sending_queues_and_the_sweep_freezes_the_audience(redis, draft, people):
    holders = people(3)
    broadcast = draft()

    launch.send(broadcast, now=NOW)
    assert (fresh(broadcast).status, messages_of(broadcast).count()) == (Status.QUEUED, 0)
    launch.sweep(now=NOW)

    assert (fresh(broadcast).status, fresh(broadcast).started_at) == (Status.SENDING, NOW)
    assert set(messages_of(broadcast).values_list("contact_id", "status", "due_at")) == {
        (contact.pk, "queued", NOW) for contact in holders
    }
    assert counting.funnel(fresh(broadcast).dispatch_id) == counting.Funnel(total=3)
    assert redis.get(lock.name(broadcast.organization_id)) == str(broadcast.pk).encode()
    assert 1790 < redis.ttl(lock.name(broadcast.organization_id)) <= 1800


def test_the_audience_is_everybody_with_any_of_the_tags_once_and_nobody_else(redis, organization, draft, people, tag):
    other = TagFactory(organization=organization, name="vip")
    unwanted = TagFactory(organization=organization, name="staff")
    both = people(1, tags=[tag, other])
    one = people(1, tags=[other])
    people(1, tags=[tag, unwanted])
    people(1, opted_in=False)
    people(1, deleted_at=NOW)
    people(1, phone=None, user_id="US.1")
    people(1, tags=[])
    ContactFactory().tags.set([tag], through_defaults={"added_at": NOW})  # another organization's

    broadcast = draft(tags=[tag, other])
    broadcast.excluded_tags.set([unwanted])
    launch.send(broadcast, now=NOW)
    launch.sweep(now=NOW)

    assert set(messages_of(broadcast).values_list("contact_id", flat=True)) == {both[0].pk, one[0].pk}


def test_a_resumed_broadcast_computes_no_new_audience(redis, draft, people):
    people(2)
    broadcast = draft()
    launch.send(broadcast, now=NOW)
    launch.sweep(now=NOW)
    launch.pause(fresh(broadcast), now=NOW)
    people(1)

    launch.resume(fresh(broadcast), now=NOW)
    launch.sweep(now=NOW)

    assert (fresh(broadcast).status, messages_of(broadcast).count()) == (Status.SENDING, 2)
    assert fresh(broadcast).dispatch.held_at is None


def test_a_broadcast_that_was_paused_before_its_time_keeps_it(redis, draft, people):
    people(1)
    broadcast = draft()
    launch.schedule(broadcast, at=SOON, now=NOW)
    launch.pause(broadcast, now=NOW)

    launch.resume(broadcast, now=NOW)
    assert (broadcast.status, broadcast.scheduled_at, broadcast.paused_at) == (Status.SCHEDULED, SOON, None)
    launch.sweep(now=NOW)
    assert fresh(broadcast).status == Status.SCHEDULED
    launch.sweep(now=SOON)
    assert (fresh(broadcast).status, fresh(broadcast).started_at) == (Status.SENDING, SOON)


def test_it_is_sent_at_once_where_that_is_asked_for_and_where_its_time_has_passed(redis, draft, people):
    people(1)
    asked, late = draft(), draft()
    for broadcast in (asked, late):
        launch.schedule(broadcast, at=SOON, now=NOW)
        launch.pause(broadcast, now=NOW)

    launch.resume(asked, now=NOW, at_once=True)
    launch.resume(late, now=SOON)

    assert (asked.status, asked.queued_at, asked.scheduled_at) == (Status.QUEUED, NOW, None)
    assert (late.status, late.queued_at, late.scheduled_at) == (Status.QUEUED, SOON, SOON)


def test_a_time_that_was_dropped_in_another_window_is_not_kept(redis, draft, people):
    people(1)
    broadcast = draft()
    launch.schedule(broadcast, at=SOON, now=NOW)
    launch.pause(broadcast, now=NOW)
    other_window = fresh(broadcast)
    launch.resume(broadcast, now=NOW, at_once=True)
    launch.pause(broadcast, now=NOW)

    launch.resume(other_window, now=NOW)

    assert (fresh(broadcast).status, fresh(broadcast).scheduled_at) == (Status.QUEUED, None)


@pytest.mark.django_db(transaction=True)
def test_of_two_who_resume_it_differently_one_is_told_that_it_goes_on(redis, draft, people):
    people(1)
    broadcast = draft()
    launch.schedule(broadcast, at=SOON, now=NOW)
    launch.pause(broadcast, now=NOW)

    def resume(choice):
        try:
            launch.resume(fresh(broadcast), now=NOW, at_once=choice)
        except Refusal as refusal:
            return refusal.code
        return choice

    told = at_once(lambda: resume(True), lambda: resume(False))

    now = fresh(broadcast)
    assert sorted(map(str, told)) in (["True", "wrong_status"], ["False", "wrong_status"])
    expected = (Status.QUEUED, None) if True in told else (Status.SCHEDULED, SOON)
    assert (now.status, now.scheduled_at) == expected


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda b: b.tags.clear(), "It has no tags: choose at least one tag whose holders receive it."),
        (
            lambda b: Contact.objects.update(opted_in=False),
            "There is nobody to send to: no opted-in contact with a phone number has any of its tags.",
        ),
        (
            lambda b: setattr(b.template, "status", "PAUSED"),
            "Template new_arrivals (en_US) is paused at Meta: only approved templates can be sent.",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_a_sentence(redis, draft, people, change, sentence):
    people(1)
    broadcast = draft()
    change(broadcast)

    with pytest.raises(Refusal) as refusal:
        launch.send(broadcast, now=NOW)

    assert str(refusal.value) == sentence
    assert fresh(broadcast).status == Status.DRAFT


def test_an_unmapped_variable_is_refused_by_name(redis, draft, people):
    people(1)

    with pytest.raises(Refusal, match=r"first_name.*has no value"):
        launch.send(draft(variables={}), now=NOW)


def test_a_time_in_the_past_is_refused_in_the_organizations_time(redis, draft, people):
    people(1)

    with pytest.raises(Refusal) as refusal:
        launch.schedule(draft(), at=NOW, now=NOW)

    assert str(refusal.value) == "2026-11-23 17:30 IST has passed already: choose a time in the future."


def test_a_scheduled_broadcast_goes_when_it_is_due_and_not_before(redis, draft, people):
    people(1)
    broadcast = draft()
    launch.schedule(broadcast, at=SOON, now=NOW)

    launch.sweep(now=SOON - timedelta(seconds=1))
    assert fresh(broadcast).status == Status.SCHEDULED
    launch.sweep(now=SOON)
    assert fresh(broadcast).status == Status.SENDING


@pytest.mark.parametrize(("late", "status"), [(59, Status.SENDING), (60, Status.PAUSED)])
def test_a_broadcast_that_falls_due_an_hour_late_is_paused_and_says_why(redis, draft, people, late, status):
    people(1)
    broadcast = draft()
    launch.schedule(broadcast, at=SOON, now=NOW)

    launch.sweep(now=SOON + timedelta(minutes=late))

    assert fresh(broadcast).status == status
    if status == Status.PAUSED:
        assert fresh(broadcast).pause_reason == PauseReason.LATE
        assert fresh(broadcast).status_detail == (
            "It was due on 2026-11-23 at 17:40 IST, while the system was down. Resume it to send it now."
        )


def test_a_second_broadcast_waits_says_for_what_and_starts_by_itself(redis, draft, people):
    people(1)
    first, second = draft(name="First"), draft(name="Second")
    launch.send(first, now=NOW)
    launch.send(second, now=NOW + timedelta(seconds=1))
    launch.sweep(now=NOW)

    assert (fresh(first).status, fresh(second).status) == (Status.SENDING, Status.QUEUED)
    assert launch.waits_for(fresh(second)) == first
    settle_all(first)
    launch.sweep(now=NOW)
    assert (fresh(first).status, fresh(second).status) == (Status.COMPLETED, Status.SENDING)


def test_another_organizations_broadcast_does_not_wait(redis, draft, people):
    people(1)
    first = draft()
    other = BroadcastFactory(status=Status.QUEUED, queued_at=NOW)
    launch.send(first, now=NOW)

    launch.sweep(now=NOW)

    assert (fresh(first).status, fresh(other).status) == (Status.SENDING, Status.SENDING)


def test_the_database_refuses_a_second_sending_broadcast_by_itself(draft):
    dispatches = [Dispatch.objects.create(**dispatch_of(draft())) for _ in range(2)]
    draft(status=Status.SENDING, dispatch=dispatches[0])

    with pytest.raises(IntegrityError, match="broadcast_one_sending"):
        draft(status=Status.SENDING, dispatch=dispatches[1])


def dispatch_of(broadcast):
    return {
        "organization": broadcast.organization,
        "kind": "broadcast",
        "phone_number": broadcast.phone_number,
        "lane": "marketing",
    }


def test_a_foreign_lock_is_replaced_when_no_other_broadcast_is_sending(redis, draft, people):
    people(1)
    broadcast = draft()
    redis.set(lock.name(broadcast.organization_id), "987654321", ex=1800)
    launch.send(broadcast, now=NOW)

    launch.sweep(now=NOW)

    assert fresh(broadcast).status == Status.SENDING
    assert redis.get(lock.name(broadcast.organization_id)) == str(broadcast.pk).encode()


def test_with_redis_away_the_broadcast_starts_all_the_same(settings, draft, people):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    people(1)
    broadcast = draft()
    launch.send(broadcast, now=NOW)

    launch.sweep(now=NOW)

    assert fresh(broadcast).status == Status.SENDING


def test_completion_is_recorded_once_with_the_funnel_and_frees_the_lock(redis, draft, people):
    people(2)
    broadcast = draft(name="Autumn")
    launch.send(broadcast, now=NOW)
    launch.sweep(now=NOW)
    settle_all(broadcast)
    counting.recount(fresh(broadcast).dispatch_id)

    launch.sweep(now=SOON)
    launch.sweep(now=SOON)

    assert (fresh(broadcast).status, fresh(broadcast).completed_at) == (Status.COMPLETED, SOON)
    event = Event.objects.get(kind="broadcast.completed")
    assert event.organization == broadcast.organization
    assert (event.data["id"], event.data["total"], event.data["skipped"]) == (broadcast.public_id, 2, {"canceled": 2})
    assert redis.get(lock.name(broadcast.organization_id)) is None


def test_a_message_on_its_way_keeps_the_broadcast_open(redis, draft, people):
    people(1)
    broadcast = draft()
    launch.send(broadcast, now=NOW)
    launch.sweep(now=NOW)
    messages_of(broadcast).update(status="sending", due_at=None, lease_until=SOON)

    launch.sweep(now=NOW)

    assert fresh(broadcast).status == Status.SENDING


def test_canceling_skips_the_rest_and_stays_canceled(redis, draft, people):
    people(3)
    broadcast = draft()
    launch.send(broadcast, now=NOW)
    launch.sweep(now=NOW)

    launch.cancel(fresh(broadcast), now=NOW)
    assert report.summary(fresh(broadcast))["waiting"] == 3
    sweeping.skip_canceled(now=NOW)
    launch.sweep(now=NOW)

    summary = report.summary(fresh(broadcast))
    assert (summary["status"], summary["waiting"], summary["skipped"]) == ("canceled", 0, {"canceled": 3})
    assert not Event.objects.filter(kind="broadcast.completed").exists()


def test_a_hold_of_the_sending_loop_pauses_the_broadcast_with_its_words(redis, draft, people):
    people(1)
    broadcast = draft()
    launch.send(broadcast, now=NOW)
    launch.sweep(now=NOW)
    Dispatch.objects.update(held_at=NOW, hold_reason="template", hold_detail="Meta paused the template.")

    launch.sweep(now=NOW)

    paused = fresh(broadcast)
    assert (paused.status, paused.pause_reason, paused.status_detail) == (
        Status.PAUSED,
        PauseReason.TEMPLATE,
        "Meta paused the template.",
    )


def test_with_nothing_to_claim_for_minutes_it_pauses_and_resumes_by_itself(redis, draft, people):
    people(1)
    broadcast = draft()
    launch.send(broadcast, now=NOW)
    launch.sweep(now=NOW)
    messages_of(broadcast).update(due_at=SOON)

    launch.sweep(now=NOW)
    assert (fresh(broadcast).pause_reason, fresh(broadcast).resume_at) == (PauseReason.NOTHING_TO_DO, SOON)
    launch.sweep(now=SOON)
    assert (fresh(broadcast).status, fresh(broadcast).dispatch.held_at) == (Status.SENDING, None)


@pytest.mark.parametrize(
    ("status", "shown"), [(Status.DRAFT, "draft"), (Status.SCHEDULED, "scheduled"), (Status.QUEUED, "queued")]
)
def test_only_a_paused_broadcast_is_resumed_for_a_draft_was_never_checked_and_a_scheduled_one_has_its_time(
    draft, people, status, shown
):
    people(1)
    broadcast = draft(name="Sale", status=status, scheduled_at=SOON, queued_at=NOW)

    with pytest.raises(Refusal, match=f"Broadcast 'Sale' is {shown}: only a paused one can be resumed."):
        launch.resume(broadcast, now=NOW)

    assert fresh(broadcast).status == status


def test_a_draft_that_was_scheduled_meanwhile_is_not_sent_before_its_time(draft, people):
    people(1)
    broadcast = draft()
    seen_before = fresh(broadcast)
    launch.schedule(broadcast, at=SOON, now=NOW)

    with pytest.raises(Refusal, match="is scheduled: only a draft can be sent"):
        launch.send(seen_before, now=NOW)

    assert fresh(broadcast).status == Status.SCHEDULED


@pytest.mark.parametrize("status", [Status.QUEUED, Status.SENDING, Status.PAUSED])
def test_a_broadcast_whose_template_was_deleted_ends_and_leaves_nobody_waiting(redis, draft, people, template, status):
    people(2)
    broadcast = draft()
    launch.send(broadcast, now=NOW)
    if status != Status.QUEUED:
        launch.sweep(now=NOW)
    if status == Status.PAUSED:
        launch.pause(fresh(broadcast), now=NOW)
    type(template).objects.update(status="DELETED")

    launch.sweep(now=NOW)
    sweeping.skip_canceled(now=NOW)

    summary = report.summary(fresh(broadcast))
    assert (summary["status"], summary["waiting"]) == ("failed", 0)
    assert summary["statusDetail"] == "Template new_arrivals (en_US) was deleted at Meta."
    assert redis.get(lock.name(broadcast.organization_id)) is None


def test_trouble_with_one_broadcast_keeps_no_other_organization_waiting(redis, draft, people, monkeypatch):
    people(1)
    broken = BroadcastFactory(status=Status.QUEUED, queued_at=NOW - timedelta(minutes=1))
    broadcast = draft()
    launch.send(broadcast, now=NOW)
    begin = launch._begin

    def fail_for_one(started, *, now):
        if started.pk == broken.pk:
            raise RuntimeError("something nobody thought of")
        return begin(started, now=now)

    monkeypatch.setattr(launch, "_begin", fail_for_one)

    launch.sweep(now=NOW)

    assert fresh(broadcast).status == Status.SENDING


@pytest.mark.parametrize("act", [launch.pause, launch.resume, launch.cancel])
def test_what_has_ended_cannot_be_moved(draft, act):
    broadcast = draft(status=Status.COMPLETED)

    with pytest.raises(Refusal, match="is completed"):
        act(broadcast, now=NOW)


@pytest.mark.django_db(transaction=True)
def test_two_sweeps_at_once_start_one_broadcast_once(redis, draft, people, monkeypatch):
    """Without the row lock in `_begin` both made a dispatch, and the later one broke off with a Refusal at its move."""
    people(20)
    broadcast = draft()
    launch.send(broadcast, now=NOW)
    monkeypatch.setattr(launch, "_dispatch", together(launch._dispatch))

    at_once(lambda: launch.sweep(now=NOW), lambda: launch.sweep(now=NOW))

    assert Dispatch.objects.count() == 1
    assert messages_of(broadcast).count() == 20
    assert counting.funnel(fresh(broadcast).dispatch_id).total == 20


def together(act):
    """`act`, but whoever comes first waits up to a second for the other one."""
    barrier = threading.Barrier(2)

    def wait_and_act(*args):
        with contextlib.suppress(threading.BrokenBarrierError):
            barrier.wait(timeout=1)
        return act(*args)

    return wait_and_act


@pytest.mark.django_db(transaction=True)
def test_a_message_that_goes_back_to_the_queue_while_one_looks_keeps_the_broadcast_open(redis, draft, people):
    """With one query for what is due and one for what is on its way, it completed between the two."""
    people(1)
    broadcast = draft()
    launch.send(broadcast, now=NOW)
    launch.sweep(now=NOW)
    messages_of(broadcast).update(status="sending", due_at=None, lease_until=SOON, attempt=1)
    looked = []

    def requeue_after_the_first_look(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if "due_at" in sql and not looked:
            looked.append(sql)
            at_once(lambda: Message.objects.update(status="queued", due_at=SOON, lease_until=None))
        return result

    with connection.execute_wrapper(requeue_after_the_first_look):
        launch.sweep(now=NOW)

    assert looked
    assert fresh(broadcast).status == Status.SENDING


def test_a_hold_that_was_lifted_meanwhile_pauses_nothing(redis, draft, people):
    people(1)
    broadcast = draft()
    launch.send(broadcast, now=NOW)
    launch.sweep(now=NOW)
    stale = Dispatch.objects.get()
    stale.held_at, stale.hold_reason = NOW, "template"

    launch._follow_hold(fresh(broadcast), stale, now=NOW)

    assert fresh(broadcast).status == Status.SENDING


def test_the_launch_costs_the_same_however_many_recipients(redis, draft, people):
    def queries(count):
        people(count)
        broadcast = fresh(draft())
        launch.send(broadcast, now=NOW)
        with CaptureQueriesContext(connection) as captured:
            launch.sweep(now=NOW)
        launch.cancel(fresh(broadcast), now=NOW)
        return len(captured)

    assert queries(1) == queries(40) <= 18
