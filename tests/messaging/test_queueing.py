"""What an asker may do with its messages before they are sent, and what it may not any more."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from kaanha.messaging import claiming, counting, holding, ledger, queueing, settling, sweeping
from kaanha.messaging.counting import Funnel
from kaanha.messaging.models import PUT_OFF, MarketingCap, Message, StepNews
from kaanha.messaging.queueing import Queued
from kaanha.messaging.settling import Result
from kaanha.whatsapp.cloud_api.client import Accepted, Refused
from kaanha.whatsapp.cloud_api.errors import classify
from tests.contacts.threads import at_once, meet_after
from tests.factories import ContactFactory, DispatchFactory, TemplateFactory

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=3)
SOON = NOW + timedelta(seconds=16)
TRIED = NOW - timedelta(minutes=20)

pytestmark = pytest.mark.django_db


@pytest.fixture
def step(number):
    """step() makes the dispatch of a sequence's step."""

    def make():
        return DispatchFactory(
            organization=number.organization,
            phone_number=number,
            kind="step",
            variables={"body.first_name": {"field": "first_name"}},
        )

    return make


@pytest.fixture
def counted(queue, step):
    """counted(3) puts messages of one step into the ledger and into its counters."""

    def put(count=1, *, dispatch=None, **fields):
        dispatch = dispatch or step()
        messages = queue(count, dispatch=dispatch, **fields)
        counting.recount(dispatch.pk)
        return messages

    return put


def claim(number, *, now=NOW):
    return claiming.claim(claiming.live(number.pk, now=now), limit=100, now=now).envelopes


def fresh(message):
    return Message.objects.get(pk=message.pk)


def keys(messages):
    return [message.pk for message in messages]


def asked(dispatch, contacts, template):
    return [Queued(contact.organization_id, dispatch.pk, contact.pk, template.pk) for contact in contacts]


class TestPut:
    def test_messages_are_queued_due_now_and_counted(self, number, marketing, step):
        one, two = ContactFactory.create_batch(2, organization=number.organization)
        dispatch, other = step(), step()
        rows = [*asked(dispatch, [two, one], marketing), *asked(other, [one], marketing)]

        found = queueing.put(rows, now=NOW)

        assert found.keys() == {(dispatch.pk, one.pk), (dispatch.pk, two.pk), (other.pk, one.pk)}
        message = Message.objects.get(pk=found[dispatch.pk, one.pk])
        assert (message.organization, message.dispatch, message.contact) == (number.organization, dispatch, one)
        assert (message.template, message.status, message.due_at) == (marketing, "queued", NOW)
        assert (message.created_at, message.attempt, message.tries) == (NOW, 0, 0)
        assert counting.funnels([dispatch.pk, other.pk]) == {dispatch.pk: Funnel(2), other.pk: Funnel(1)}
        assert StepNews.objects.count() == 0

    def test_a_message_that_was_put_in_can_be_claimed(self, number, marketing, step):
        contact = ContactFactory(organization=number.organization)

        found = queueing.put(asked(step(), [contact], marketing), now=NOW)

        assert [envelope.id for envelope in claim(number)] == list(found.values())

    def test_nobody_is_put_in_twice(self, number, marketing, step):
        one, two = ContactFactory.create_batch(2, organization=number.organization)
        dispatch = step()
        first = queueing.put(asked(dispatch, [one, one], marketing), now=NOW)
        Message.objects.update(status="sent", due_at=None)

        again = queueing.put(asked(dispatch, [two, one], marketing), now=LATER)

        assert len(first) == 1
        assert again == first | {(dispatch.pk, two.pk): Message.objects.get(contact=two).pk}
        assert Message.objects.get(contact=one).status == "sent"
        assert Message.objects.count() == 2
        assert counting.funnel(dispatch.pk).total == 2

    def test_nothing_is_put_in_when_nothing_is_asked(self):
        assert queueing.put([], now=NOW) == {}

    def test_it_is_undone_with_the_transaction_of_the_caller(self, number, marketing, step):
        dispatch = step()

        with transaction.atomic():
            queueing.put(asked(dispatch, [ContactFactory(organization=number.organization)], marketing), now=NOW)
            transaction.set_rollback(True)

        assert Message.objects.count() == 0
        assert counting.funnel(dispatch.pk) == Funnel()

    def test_it_costs_the_same_however_many(self, number, marketing, step):
        def queries(count):
            contacts = ContactFactory.create_batch(count, organization=number.organization)
            dispatch = step()
            queueing.put(asked(dispatch, contacts[:1], marketing), now=NOW)
            with CaptureQueriesContext(connection) as captured:
                queueing.put(asked(dispatch, contacts, marketing), now=NOW)
            return len(captured)

        # savepoint; put, find those that are there, count; release
        assert queries(2) == queries(40) == 5

    def test_rows_go_in_by_the_order_of_what_is_unique(self, number, marketing, step):
        contacts = ContactFactory.create_batch(50, organization=number.organization)
        dispatches = [step(), step()]
        rows = [row for dispatch in dispatches for row in asked(dispatch, contacts, marketing)]

        queueing.put(rows[::-1], now=NOW)

        stored = Message.objects.order_by("pk").values_list("dispatch_id", "contact_id")
        assert list(stored) == [(row.dispatch_id, row.contact_id) for row in rows]


@pytest.mark.django_db(transaction=True)
def test_two_who_put_the_same_people_in_at_once_find_the_same_messages(number, marketing, step, monkeypatch):
    contacts = ContactFactory.create_batch(20, organization=number.organization)
    dispatch = step()
    rows = asked(dispatch, contacts, marketing)
    meet_after(monkeypatch, (queueing, "_insert"))

    one, two = at_once(lambda: queueing.put(rows, now=NOW), lambda: queueing.put(rows[::-1], now=NOW))

    assert one == two
    assert len(one) == Message.objects.count() == 20
    assert counting.funnel(dispatch.pk) == Funnel(20)


class TestWithdraw:
    def test_what_is_queued_is_skipped_and_told(self, number, counted):
        messages, other = counted(3), counted(1)

        assert queueing.withdraw(keys(messages), now=NOW) == 3

        for message in messages:
            row = fresh(message)
            assert (row.status, row.skip_reason, row.closed_at, row.due_at) == ("skipped", "canceled", NOW, None)
        assert counting.funnel(messages[0].dispatch_id) == Funnel(3, skipped=3)
        assert list(StepNews.objects.order_by("pk").values_list("message_id", flat=True)) == keys(messages)
        assert [envelope.id for envelope in claim(number)] == keys(other)

    def test_the_reason_may_be_another(self, counted):
        (message,) = counted()

        queueing.withdraw([message.pk], now=NOW, reason="opted_out")

        assert fresh(message).skip_reason == "opted_out"

    def test_what_is_on_its_way_or_over_stays_as_it_is(self, number, counted):
        (flying,) = counted()
        (envelope,) = claim(number)
        (over,) = counted(status="sent", due_at=None)

        assert queueing.withdraw([flying.pk, over.pk], now=NOW) == 0

        settling.settle([Result(envelope, Accepted("wamid.1", None, None, held=False), NOW)], now=NOW)
        assert [fresh(flying).status, fresh(over).status] == ["sent", "sent"]

    def test_a_message_that_waited_for_another_try_gives_its_cap_back(self, number, counted):
        (message,) = counted()
        settling.settle([Result(one, Refused(classify({"code": 131016})), NOW) for one in claim(number)], now=NOW)
        assert MarketingCap.objects.get().until > NOW

        assert queueing.withdraw([message.pk], now=NOW) == 1

        assert MarketingCap.objects.get().until == NOW

    def test_twice_is_once(self, counted):
        (message,) = counted()
        queueing.withdraw([message.pk], now=NOW)

        assert queueing.withdraw([message.pk], now=LATER) == 0
        assert fresh(message).closed_at == NOW

    def test_it_costs_the_same_however_many(self, counted):
        def queries(count):
            messages = counted(count)
            with CaptureQueriesContext(connection) as captured:
                queueing.withdraw(keys(messages), now=NOW)
            return len(captured)

        assert queries(1) == queries(30)


@pytest.mark.django_db(transaction=True)
def test_a_message_is_claimed_or_withdrawn_but_never_both(number, counted, monkeypatch):
    messages = counted(20)
    meet_after(monkeypatch, (claiming, "_take"), (ledger, "_locked"))

    envelopes, withdrawn = at_once(lambda: claim(number), lambda: queueing.withdraw(keys(messages), now=NOW))

    assert len(envelopes) + withdrawn == 20
    flying = set(Message.objects.filter(status="sending").values_list("pk", flat=True))
    assert flying == {envelope.id for envelope in envelopes}
    assert Message.objects.filter(status="skipped").count() == withdrawn
    assert counting.funnel(messages[0].dispatch_id) == Funnel(20, skipped=withdrawn)


class TestPutOff:
    def test_what_is_put_off_is_not_sent_until_it_is_taken_up_again(self, number, counted):
        message, other = counted(2)

        assert queueing.put_off([message.pk], until=None, now=NOW) == 1

        assert (fresh(message).status, fresh(message).due_at) == ("queued", PUT_OFF)
        assert [envelope.id for envelope in claim(number)] == [other.pk]
        assert claiming.numbers_with_work(now=NOW + timedelta(days=365)) == []

        assert queueing.put_off([message.pk], until=LATER, now=LATER) == 1

        assert fresh(message).due_at == LATER
        assert [envelope.id for envelope in claim(number, now=LATER)] == [message.pk]
        assert StepNews.objects.count() == 0

    def test_it_may_be_put_off_to_a_moment(self, number, counted):
        (message,) = counted()

        queueing.put_off([message.pk], until=LATER, now=NOW)

        assert claim(number, now=LATER - timedelta(seconds=1)) == []
        assert len(claim(number, now=LATER)) == 1

    @pytest.mark.parametrize("times", [1, 2])
    def test_the_hour_of_its_tries_stands_still_meanwhile(self, counted, times):
        (message,) = counted(due_at=SOON, tries=2, first_tried_at=TRIED)
        for _ in range(times):
            queueing.put_off([message.pk], until=None, now=NOW)

        queueing.put_off([message.pk], until=LATER, now=LATER)

        row = fresh(message)
        assert (row.due_at, row.tries, LATER - row.first_tried_at) == (LATER, 2, NOW - TRIED)

    def test_taking_up_what_was_not_put_off_changes_nothing(self, counted):
        (message,) = counted(due_at=SOON, tries=2, first_tried_at=TRIED)

        queueing.put_off([message.pk], until=NOW, now=NOW)

        assert (fresh(message).due_at, fresh(message).first_tried_at) == (SOON, TRIED)

    def test_what_is_on_its_way_or_over_stays_as_it_is(self, number, counted):
        (flying,) = counted()
        claim(number)
        (over,) = counted(status="failed", due_at=None)

        assert queueing.put_off([flying.pk, over.pk], until=None, now=NOW) == 0
        assert [(fresh(one).status, fresh(one).due_at) for one in (flying, over)] == [
            ("sending", None),
            ("failed", None),
        ]

    def test_it_can_be_withdrawn_and_its_dispatch_canceled(self, counted):
        one, two = counted(2)
        queueing.put_off([one.pk, two.pk], until=None, now=NOW)

        assert queueing.withdraw([one.pk], now=NOW) == 1
        holding.cancel(two.dispatch_id, now=NOW)
        assert sweeping.skip_canceled(now=NOW) == 1

        assert [fresh(one).status, fresh(two).status] == ["skipped", "skipped"]

    def test_it_costs_the_same_however_many(self, counted, django_assert_num_queries):
        messages = counted(20)

        # savepoint; lock, put off; release
        with django_assert_num_queries(4):
            assert queueing.put_off(keys(messages), until=None, now=NOW) == 20


@pytest.mark.django_db(transaction=True)
def test_a_message_is_claimed_or_put_off_but_never_both(number, counted, monkeypatch):
    messages = counted(20)
    meet_after(monkeypatch, (claiming, "_take"), (queueing, "_lock_queued"))

    envelopes, put_off = at_once(lambda: claim(number), lambda: queueing.put_off(keys(messages), until=None, now=NOW))

    assert len(envelopes) + put_off == 20
    assert Message.objects.filter(status="sending").count() == len(envelopes)
    assert Message.objects.filter(status="queued", due_at=PUT_OFF).count() == put_off


class TestRedirect:
    def test_messages_go_over_with_their_counts_and_are_sent_as_the_new_dispatch_says(self, number, counted, step):
        messages, stays = counted(3), counted(1)
        old, new = messages[0].dispatch, step()
        new.variables = {"body.first_name": {"text": "friend"}}
        new.save()
        template = TemplateFactory(
            organization=number.organization,
            account=number.account,
            parameter_format="NAMED",
            components=[{"type": "BODY", "text": "Dear {{first_name}}."}],
        )

        moved = queueing.redirect(keys(messages)[:2][::-1], dispatch_id=new.pk, template_id=template.pk)

        assert moved == keys(messages)[:2]
        row = fresh(messages[0])
        assert (row.dispatch, row.template, row.status, row.due_at) == (new, template, "queued", messages[0].due_at)
        assert (fresh(messages[2]).dispatch, fresh(stays[0]).dispatch) == (old, stays[0].dispatch)
        assert counting.funnels([old.pk, new.pk]) == {old.pk: Funnel(1), new.pk: Funnel(2)}
        sent = {envelope.id: envelope for envelope in claim(number)}
        assert (sent[row.pk].dispatch_id, sent[messages[2].pk].dispatch_id) == (new.pk, old.pk)
        assert json.loads(sent[row.pk].parameters)[0]["parameters"][0]["text"] == "friend"
        assert StepNews.objects.count() == 0

    def test_the_template_alone_may_change(self, counted, number):
        (message,) = counted()
        template = TemplateFactory(organization=number.organization, account=number.account)

        moved = queueing.redirect([message.pk], dispatch_id=message.dispatch_id, template_id=template.pk)

        assert moved == [message.pk]
        assert (fresh(message).template, fresh(message).dispatch_id) == (template, message.dispatch_id)
        assert counting.funnel(message.dispatch_id) == Funnel(1)

    def test_what_is_on_its_way_or_over_stays_where_it_is(self, number, counted, step, marketing):
        (flying,) = counted()
        claim(number)
        (over,) = counted(status="skipped", due_at=None)
        new = step()

        assert queueing.redirect([flying.pk, over.pk], dispatch_id=new.pk, template_id=marketing.pk) == []

        assert [fresh(flying).dispatch_id, fresh(over).dispatch_id] == [flying.dispatch_id, over.dispatch_id]
        assert counting.funnel(new.pk) == Funnel()
        assert counting.funnel(over.dispatch_id) == Funnel(1, skipped=1)

    def test_who_has_a_message_there_already_gets_no_second_one(self, number, counted, step, marketing):
        has, gets = ContactFactory.create_batch(2, organization=number.organization)
        new = step()
        (there,) = counted(contacts=[has], dispatch=new, status="sent", due_at=None)
        old = counted(contacts=[has, gets])
        (third,) = counted(contacts=[gets])

        moved = queueing.redirect([*keys(old), third.pk], dispatch_id=new.pk, template_id=marketing.pk)

        assert moved == [old[1].pk]
        assert [fresh(one).dispatch_id for one in (there, *old, third)] == [
            new.pk,
            old[0].dispatch_id,
            new.pk,
            third.dispatch_id,
        ]
        for dispatch in (new.pk, old[0].dispatch_id, third.dispatch_id):
            assert counting.funnel(dispatch) == counting.counted_from_ledger(dispatch)

    def test_a_queued_message_of_which_a_receipt_came_counts_in_full(self, counted, step, marketing):
        (message,) = counted(accepted_at=NOW)
        new = step()

        queueing.redirect([message.pk], dispatch_id=new.pk, template_id=marketing.pk)

        assert counting.funnel(new.pk) == Funnel(1, dispatched=1)
        assert counting.funnel(message.dispatch_id) == Funnel()

    def test_it_costs_the_same_however_many(self, counted, step, marketing):
        def queries(count):
            messages, new = counted(count), step()
            with CaptureQueriesContext(connection) as captured:
                queueing.redirect(keys(messages), dispatch_id=new.pk, template_id=marketing.pk)
            return len(captured)

        # savepoint; lock, look who has one, redirect, count; release
        assert queries(1) == queries(30) == 6


@pytest.mark.django_db(transaction=True)
def test_a_message_is_claimed_for_the_dispatch_that_it_has(number, counted, step, marketing, monkeypatch):
    messages, new = counted(20), step()
    old = messages[0].dispatch_id
    meet_after(monkeypatch, (claiming, "_take"), (queueing, "_lock_queued"))

    envelopes, moved = at_once(
        lambda: claim(number),
        lambda: queueing.redirect(keys(messages), dispatch_id=new.pk, template_id=marketing.pk),
    )

    assert len(envelopes) + len(moved) == 20
    assert {envelope.dispatch_id for envelope in envelopes} <= {old}
    assert set(Message.objects.filter(status="sending").values_list("dispatch_id", flat=True)) <= {old}
    assert set(Message.objects.filter(dispatch=new).values_list("pk", flat=True)) == set(moved)
    assert counting.funnel(new.pk) == counting.counted_from_ledger(new.pk) == Funnel(len(moved))
    assert counting.funnel(old) == counting.counted_from_ledger(old) == Funnel(len(envelopes))
