"""Counters against the ledger, also while it changes."""

from datetime import UTC, datetime

import pytest

from kaanha.messaging import counting, fates, ledger
from kaanha.messaging.counting import Funnel
from kaanha.messaging.models import DispatchCount, Message
from tests.contacts.threads import at_once
from tests.factories import ContactFactory, DispatchFactory, MessageFactory, OrganizationFactory, TemplateFactory

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)

pytestmark = pytest.mark.django_db


def queued(count):
    """Queued messages of one dispatch, of which the counters know nothing."""
    organization = OrganizationFactory()
    dispatch, template = DispatchFactory(organization=organization), TemplateFactory(organization=organization)
    contacts = ContactFactory.create_batch(count, organization=organization)
    return [
        MessageFactory(organization=organization, dispatch=dispatch, template=template, contact=contact)
        for contact in contacts
    ]


def test_a_recount_says_what_the_ledger_says_and_whether_that_was_news():
    messages = queued(3)
    dispatch = messages[0].dispatch_id
    Message.objects.filter(pk=messages[0].pk).update(status="read", due_at=None, accepted_at=NOW)

    assert counting.recount(dispatch) is True
    assert counting.funnel(dispatch) == Funnel(3, dispatched=1, sent=1, delivered=1, read=1)
    assert counting.recount(dispatch) is False


def test_a_recount_leaves_other_dispatches_alone():
    messages, others = queued(1), queued(1)

    counting.recount(messages[0].dispatch_id)

    assert counting.funnel(others[0].dispatch_id) == Funnel()


def test_what_stood_in_several_slots_is_counted_once():
    messages = queued(2)
    dispatch = messages[0].dispatch_id
    for slot in range(DispatchCount.SLOTS):
        DispatchCount.objects.create(dispatch_id=dispatch, slot=slot, total=9, failed=9)

    assert counting.recount(dispatch) is True
    assert counting.funnel(dispatch) == Funnel(2)


@pytest.mark.django_db(transaction=True)
def test_a_recount_while_messages_settle_finds_no_drift_and_makes_none():
    """Without the lock on the counters, or with only those slots locked that exist, a recount took a settle that
    committed between its two readings for drift, and what it wrote then was wrong for ever."""
    messages = queued(300)
    dispatch = messages[0].dispatch_id
    counting.recount(dispatch)
    DispatchCount.objects.exclude(slot=0).delete()
    keys = [message.pk for message in messages]

    def settle(mine):
        for key in mine:
            with ledger.changing([key], now=NOW) as rows:
                fates.skip(rows[key], "canceled", now=NOW)
        return 0

    def recount():
        return sum(counting.recount(dispatch) for _ in range(60))

    drifted = at_once(lambda: settle(keys[::2]), lambda: settle(keys[1::2]), recount)

    assert drifted == [0, 0, 0]
    assert counting.funnel(dispatch) == counting.counted_from_ledger(dispatch) == Funnel(300, skipped=300)
