"""`manage.py doctor`: each fault is found, and nothing else is."""

import json
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import OperationalError
from django.utils import timezone
from redis import Redis

from broadcasts import lock
from broadcasts.models import PauseReason, Status
from contacts.models import ContactEvent
from kaanha import diagnosis, secret_rotation
from kaanha.inbound.models import Callback
from kaanha.lib.errors import Refusal
from kaanha.messaging import counting, holding
from kaanha.messaging.models import DispatchCount, Message, SendSlot, UnmatchedReceipt
from kaanha.operations import heartbeats
from kaanha.operations.models import SILENT
from kaanha.webhooks.models import Delivery, Event
from sequences import enrolling, publishing, running
from tests.factories import (
    BroadcastFactory,
    BusinessAccountFactory,
    ContactFactory,
    DispatchFactory,
    EndpointFactory,
    MessageFactory,
    MetaAppFactory,
    PhoneNumberFactory,
    SequenceFactory,
    TemplateFactory,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def now():
    return timezone.now()


@pytest.fixture(autouse=True)
def healthy(now, settings):
    """Everything runs, and Redis is empty."""
    for kind, name, lanes in (("beat", "here", []), ("worker", "all@here", sorted(diagnosis.LANES))):
        heartbeats.beat(kind, name, started_at=now, now=now, lanes=lanes)
    with Redis.from_url(settings.REDIS_URL) as redis:
        redis.flushdb()


@pytest.fixture
def sending(now):
    """sending(due_at=…) is a broadcast with one message, whose counters are right."""

    def make(*, status=Status.SENDING, broadcast=None, **message):
        dispatch = DispatchFactory()
        made = BroadcastFactory(
            organization=dispatch.organization,
            phone_number=dispatch.phone_number,
            dispatch=dispatch,
            status=status,
            **broadcast or {},
        )
        MessageFactory(
            organization=dispatch.organization,
            dispatch=dispatch,
            template=made.template,
            **{"due_at": now} | message,
        )
        counting.recount(dispatch.pk)
        return made

    return make


def codes(now):
    return [finding.code for finding in diagnosis.examine(now=now).findings]


def only(now):
    """The single finding."""
    (finding,) = diagnosis.examine(now=now).findings
    return finding


def test_a_healthy_installation_has_no_findings(sending, now, capsys):
    sending()

    assert codes(now) == []
    call_command("doctor")
    assert capsys.readouterr().out == "All is well.\n"


def test_redis_away_is_said_with_what_happens_meanwhile(settings, now):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"

    assert (only(now).code, only(now).severity) == ("redis_unreachable", "error")


def test_missing_migrations_are_all_that_is_said(now, monkeypatch):
    monkeypatch.setattr("kaanha.diagnosis.MigrationExecutor.migration_plan", lambda *_: [("a", False), ("b", False)])

    assert (only(now).code, only(now).count) == ("migrations_missing", 2)


def test_beat_and_a_lane_that_are_silent_are_missed(now):
    later = now + SILENT
    heartbeats.beat("worker", "work@here", started_at=now, now=later, lanes=["callbacks", "default"])

    assert codes(later) == ["beat_missing", "lane_unserved", "worker_silent"]
    words = [finding.message for finding in diagnosis.examine(now=later).findings]
    assert "'send'" in words[1]
    assert words[2] == "Worker all@here has been silent for 45 seconds: it hangs, or was killed."


def test_a_lease_that_ended_a_minute_ago_is_stuck_and_a_younger_one_is_not(sending, now):
    broadcast = sending(status=Status.COMPLETED)
    rows = Message.objects.filter(dispatch=broadcast.dispatch)
    rows.update(status="sending", due_at=None, lease_until=now - timedelta(seconds=60))
    assert codes(now) == []
    rows.update(lease_until=now - timedelta(seconds=61))

    assert (only(now).code, only(now).count) == ("claims_stuck", 1)


def test_unconfirmed_messages_are_listed_after_a_quarter_of_an_hour_and_for_a_week(sending, now):
    broadcasts = [sending(status=Status.COMPLETED) for _ in range(3)]
    for broadcast, ago in zip(
        broadcasts, (timedelta(minutes=16), timedelta(minutes=14), timedelta(days=8)), strict=True
    ):
        rows = Message.objects.filter(dispatch=broadcast.dispatch)
        rows.update(status="unconfirmed", due_at=None, closed_at=now - ago)
        counting.recount(broadcast.dispatch_id)

    assert (only(now).code, only(now).severity) == ("unconfirmed", "warning")
    assert broadcasts[0].public_id in only(now).message


def test_receipts_that_match_nothing_for_an_hour_are_counted(now):
    app = MetaAppFactory()
    for minutes in (59, 61, 62):
        UnmatchedReceipt.objects.create(
            app=app, wamid=f"w{minutes}", status="sent", receipt={}, received_at=now - timedelta(minutes=minutes)
        )

    assert (only(now).code, only(now).count) == ("receipts_unmatched", 2)


def test_callbacks_that_wait_and_those_with_problems_are_two_findings(now):
    app = MetaAppFactory()
    Callback.objects.create(app=app, body=b"{}", received_at=now - timedelta(minutes=5))
    Callback.objects.create(app=app, body=b"{}", received_at=now - timedelta(days=9), applied_at=now, problems=[{}])
    Callback.objects.create(app=app, body=b"{}", received_at=now, applied_at=now)

    waiting, troubled = diagnosis.examine(now=now).findings
    assert (waiting.code, waiting.count) == ("callbacks_waiting", 1)
    assert waiting.message == "1 callback of Meta not applied yet, the oldest for 5 minutes."
    assert (troubled.code, troubled.count) == ("callbacks_with_problems", 1)


def test_a_callback_that_came_this_minute_does_not_wait_yet(now):
    Callback.objects.create(app=MetaAppFactory(), body=b"{}", received_at=now - timedelta(seconds=60))

    assert codes(now) == []


def test_a_paused_broadcast_needs_somebody_unless_somebody_paused_it(sending, now):
    paused = {"pause_reason": PauseReason.OPERATOR}
    sending(status=Status.PAUSED, broadcast=paused)
    assert diagnosis.examine(now=now).ok is True
    sending(status=Status.PAUSED, broadcast={"pause_reason": PauseReason.SAFETY, "status_detail": "Half of it failed."})

    worst, notice = diagnosis.examine(now=now).findings
    assert (worst.severity, notice.severity) == ("warning", "notice")
    assert worst.message.endswith("is paused. Half of it failed.")


def test_a_broadcast_that_nobody_sends_is_stalled(sending, now):
    sending(due_at=now - timedelta(seconds=121))
    sending(due_at=now - timedelta(seconds=119))

    assert only(now).code == "broadcast_stalled"


@pytest.mark.parametrize("sign", ["slot", "held"])
def test_a_broadcast_at_which_somebody_is_or_which_is_held_is_not_stalled(sending, now, sign):
    dispatch = sending(due_at=now - timedelta(hours=1)).dispatch
    if sign == "slot":
        SendSlot.objects.create(
            phone_number=dispatch.phone_number, slot=0, holder="x", leased_until=now + timedelta(seconds=5)
        )
    else:
        type(dispatch).objects.update(held_at=now)

    assert codes(now) == []


def test_a_broadcast_past_its_time_is_overdue(now):
    BroadcastFactory(status=Status.SCHEDULED, scheduled_at=now - timedelta(minutes=3))

    assert only(now).code == "broadcasts_overdue"


def test_counters_that_drifted_are_found_and_not_repaired(sending, now):
    broadcast = sending()
    DispatchCount.objects.filter(dispatch=broadcast.dispatch, slot=0).update(sent=1)

    assert only(now).code == "counters_drifted"
    assert only(now).action == f"Run: python manage.py recount {broadcast.public_id}"
    assert counting.funnel(broadcast.dispatch_id).sent == 1


@pytest.mark.parametrize("what", ["dispatch", "contact", "template"])
def test_ledger_rows_that_point_nowhere_are_found(sending, now, what):
    broadcast = sending(status=Status.COMPLETED)
    Message.objects.update(**{f"{what}_id": 10**9})
    counting.recount(broadcast.dispatch_id)

    assert only(now).code == f"ledger_without_{what}"


def test_a_lock_of_an_ended_broadcast_is_a_notice(sending, now, settings):
    with Redis.from_url(settings.REDIS_URL) as redis:
        redis.set(lock.name(1), sending().pk)
        assert codes(now) == []
        redis.set(lock.name(2), sending(status=Status.COMPLETED).pk)

    assert (only(now).code, diagnosis.examine(now=now).ok) == ("locks_stale", True)


def test_secrets_under_a_lost_key_are_counted(settings, now):
    BusinessAccountFactory()
    settings.ENCRYPTION_KEYS = ["another"]

    found = {(one.code, one.severity, one.count, one.message) for one in diagnosis.examine(now=now).findings}
    assert found == {
        ("secrets_unreadable", "error", 1, f"1 row of whatsapp.{model} with a secret that can't be decrypted.")
        for model in ("BusinessAccount", "MetaApp")
    }


def test_secrets_under_an_old_key_ask_for_their_rotation(settings, now):
    EndpointFactory()
    settings.ENCRYPTION_KEYS = ["new", *settings.ENCRYPTION_KEYS]
    EndpointFactory()

    assert (only(now).code, only(now).severity, only(now).count) == ("secrets_under_old_keys", "warning", 1)
    assert only(now).action.startswith("Run: python manage.py rotate_secrets.")
    secret_rotation.rotate()
    assert codes(now) == []


@pytest.mark.parametrize("status", [Status.SCHEDULED, Status.QUEUED])
def test_a_planned_broadcast_whose_template_was_rejected_is_named(now, status):
    broadcast = BroadcastFactory(status=status, scheduled_at=now + timedelta(days=1), template__status="REJECTED")
    BroadcastFactory(status=Status.DRAFT, template__status="REJECTED")

    assert only(now).code == "template_unsendable"
    assert broadcast.public_id in only(now).message


def test_the_worst_comes_first(sending, settings, now):
    sending(status=Status.PAUSED, broadcast={"pause_reason": PauseReason.OPERATOR})
    Callback.objects.create(app=MetaAppFactory(), body=b"{}", received_at=now, applied_at=now, problems=[{}])
    settings.REDIS_URL = "redis://127.0.0.1:1/0"

    assert [finding.severity for finding in diagnosis.examine(now=now).findings] == ["error", "warning", "notice"]


def test_the_command_ends_with_1_when_somebody_is_needed(settings, capsys):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"

    with pytest.raises(SystemExit) as ended:
        call_command("doctor", "--json")

    told = json.loads(capsys.readouterr().out)
    assert (ended.value.code, told["ok"], [finding["code"] for finding in told["findings"]]) == (
        1,
        False,
        ["redis_unreachable"],
    )
    assert set(told["findings"][0]) == {"code", "severity", "count", "message", "action"}


def test_with_postgresql_away_it_cannot_look_and_says_so(monkeypatch):
    def away(**_):
        raise OperationalError("connection refused")

    monkeypatch.setattr(diagnosis, "examine", away)

    with pytest.raises(Refusal, match="PostgreSQL can't be reached"):
        call_command("doctor")


def test_it_costs_the_same_however_many_messages_there_are(sending, now, django_assert_max_num_queries):
    for _ in range(5):
        sending(status=Status.COMPLETED)

    with django_assert_max_num_queries(50):
        codes(now)


# --- sequences ----------------------------------------------------------------------------------------------------


@pytest.fixture
def sequence(now):
    """An active sequence of one message step."""
    template = TemplateFactory()
    number = PhoneNumberFactory(organization=template.organization, account=template.account)
    made = SequenceFactory(
        organization=template.organization,
        phone_number=number,
        draft=[{"id": "a", "type": "message", "template": template.public_id}],
    )
    publishing.activate(made, now=now)
    return made


def enroll(sequence, now):
    contact = ContactFactory(organization=sequence.organization)
    assert enrolling.enroll(sequence, [contact.pk], source="api", now=now)[0].code == ""
    return contact


def test_people_of_a_sequence_who_are_due_for_long_are_told_unless_it_is_paused(sequence, now):
    enroll(sequence, now - timedelta(minutes=3))
    enroll(sequence, now - timedelta(minutes=1))

    found = only(now)
    assert (found.code, found.severity, found.count) == ("sequence_stalled", "error", 1)
    running.pause(sequence, now=now)
    assert not diagnosis.examine(now=now).findings


def test_events_of_contacts_that_nobody_decides_are_told(sequence, now):
    contact = ContactFactory(organization=sequence.organization)
    event = ContactEvent.objects.create(
        organization=sequence.organization, kind="created", contact=contact, source="api", at=now - timedelta(minutes=3)
    )
    assert only(now).code == "contact_events_undecided"
    ContactEvent.objects.filter(pk=event.pk).update(handled_at=now)
    assert not diagnosis.examine(now=now).findings


@pytest.mark.parametrize(
    ("reason", "action"), [("template", "Repair the template"), ("account", "sequence retry seq_")]
)
def test_a_held_step_is_told_with_what_to_do(sequence, now, reason, action):
    holding.hold(sequence.revision.steps.get().dispatch_id, reason=reason, detail="It broke.", now=now)

    found = only(now)
    assert (found.code, found.message) == ("step_held", f"Step 1 of sequence {sequence.name!r} is held. It broke.")
    assert action in found.action


def test_webhooks_that_wait_for_long_are_told_with_the_endpoint_of_most(now):
    few, many = EndpointFactory(url="https://few.example.test/"), EndpointFactory(url="https://many.example.test/")
    for endpoint, count in ((few, 1), (many, 2)):
        for _ in range(count):
            Event.record(endpoint.organization, "broadcast.completed", {}, at=now - timedelta(minutes=3))

    (finding,) = diagnosis.webhooks(now)
    assert (finding.code, finding.severity, finding.count) == ("webhooks_waiting", "warning", 3)
    assert "3 webhook deliveries due" in finding.message
    assert "https://many.example.test/" in finding.message

    Delivery.objects.update(next_attempt_at=now - timedelta(minutes=2))
    assert list(diagnosis.webhooks(now)) == []


def test_an_endpoint_that_was_disabled_is_a_notice_for_a_week(now):
    EndpointFactory(disabled_at=now - timedelta(days=6), disabled_reason="It answered 410 Gone.")
    EndpointFactory(disabled_at=now - timedelta(days=8))

    (finding,) = diagnosis.webhooks(now)
    assert (finding.code, finding.severity) == ("webhook_disabled", "notice")
    assert "It answered 410 Gone." in finding.message
