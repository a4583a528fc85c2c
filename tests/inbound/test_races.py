"""Two processes that apply callbacks about the same people, or the same messages, at the same time."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from contacts import arriving, consent
from contacts.models import Contact
from kaanha.messaging import inbox, receipts
from kaanha.messaging.models import InboundMessage, UnmatchedReceipt
from kaanha.whatsapp.cloud_api.events import Inbound, Receipt
from tests.contacts.threads import at_once, meet_after
from tests.factories import ContactFactory

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)

pytestmark = pytest.mark.django_db(transaction=True)


def said(contact, words, count, *, name=""):
    """What `contact` wrote, `count` seconds after noon."""
    return Inbound(
        phone_number_id="200000000000001",
        wamid=f"wamid.{contact.pk}.{count}",
        wa_id=contact.phone[1:],
        user_id=None,
        name=name,
        kind="text",
        text=words,
        choice=None,
        quoted=None,
        payload={},
        at=NOW + timedelta(seconds=count),
    )


def receipt(wamid):
    return Receipt(phone_number_id="200000000000001", wamid=wamid, status="read", at=NOW)


@pytest.fixture
def meet(monkeypatch):
    """meet(module, name): both threads have come out of their first call before either goes on, if they can."""
    return lambda module, name: meet_after(monkeypatch, (module, name))


def test_two_batches_with_stops_of_the_same_people_do_not_deadlock(number, meet):
    one, two = ContactFactory.create_batch(2, organization=number.organization)
    meet(consent, "opt_out")

    at_once(
        lambda: inbox.store([said(one, "STOP", 1), said(two, "STOP", 2)], number, now=NOW + timedelta(hours=1)),
        lambda: inbox.store([said(two, "stop", 3), said(one, "stop", 4)], number, now=NOW + timedelta(hours=1)),
    )

    assert not Contact.objects.filter(opted_in=True).exists()
    assert InboundMessage.objects.count() == 4


def test_what_is_learned_of_people_locks_nobody_while_their_stops_are_obeyed(number, meet):
    """Each batch learns one person's name and hears the other's STOP: under one transaction they deadlocked."""
    one, two = ContactFactory.create_batch(2, organization=number.organization, name="")
    meet(arriving, "welcome")

    at_once(
        lambda: inbox.store(
            [said(one, "Hi", 1, name="One"), said(two, "STOP", 2)], number, now=NOW + timedelta(hours=1)
        ),
        lambda: inbox.store(
            [said(two, "Hi", 3, name="Two"), said(one, "STOP", 4)], number, now=NOW + timedelta(hours=1)
        ),
    )

    assert set(Contact.objects.values_list("name", "opted_in")) == {("One", False), ("Two", False)}
    assert InboundMessage.objects.count() == 4


def test_two_batches_with_the_same_unknown_receipts_wait_in_one_direction_only(number):
    """The statement's rows go in by the order of what is unique, whatever the order in which they came."""
    wamids = [f"wamid.{count:04}" for count in range(200)]
    app = number.account.app_id

    receipts.apply([receipt(wamid) for wamid in reversed(wamids)], app=app, now=NOW)

    with connection.cursor() as cursor:
        cursor.execute("SELECT wamid FROM messaging_unmatchedreceipt ORDER BY id")
        assert [wamid for (wamid,) in cursor.fetchall()] == wamids
    assert UnmatchedReceipt.objects.count() == 200
