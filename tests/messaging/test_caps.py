"""The cap by itself, and under a race."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction

from kaanha.messaging import caps, claiming
from kaanha.messaging.models import MarketingCap, Message
from tests.factories import ContactFactory, DispatchFactory, MessageFactory, PhoneNumberFactory, TemplateFactory

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(hours=24)

pytestmark = pytest.mark.django_db


def holder(contact):
    cap = MarketingCap.objects.get(contact=contact)
    return cap.message, cap.until


def test_a_free_cap_is_taken_for_a_day_and_refused_to_others_but_not_to_its_holder():
    assert caps.take({1: 10, 2: 20}, now=NOW) == {1, 2}
    assert caps.take({1: 11, 2: 20, 3: 30}, now=NOW + DAY - timedelta(seconds=1)) == {2, 3}
    assert holder(1) == (10, NOW + DAY)
    assert caps.take({1: 11}, now=NOW + DAY) == {1}


def test_acceptance_lets_the_day_run_from_then():
    caps.take({1: 10}, now=NOW)
    caps.keep({1: (10, NOW + timedelta(seconds=30))})

    assert holder(1) == (10, NOW + DAY + timedelta(seconds=30))


def test_a_revived_message_does_not_shorten_the_cap_of_a_later_one():
    caps.take({1: 11}, now=NOW)
    caps.keep({1: (10, NOW - timedelta(hours=1))})

    assert holder(1) == (11, NOW + DAY)


def test_only_the_holder_gives_back():
    caps.take({1: 10}, now=NOW)
    caps.give_back({1: 11}, now=NOW)
    assert holder(1) == (10, NOW + DAY)
    caps.give_back({1: 10}, now=NOW)
    assert holder(1) == (10, NOW)


@pytest.mark.django_db(transaction=True)
def test_two_numbers_racing_for_the_same_people_give_each_at_most_one():
    """Without the condition in `caps.take` every contact got a message from each of the racers."""
    contacts = ContactFactory.create_batch(200, organization=PhoneNumberFactory().organization)
    organization = contacts[0].organization
    numbers = PhoneNumberFactory.create_batch(2, organization=organization)
    template = TemplateFactory(organization=organization, account=numbers[0].account)
    dispatches = [
        DispatchFactory(organization=organization, phone_number=number, kind=kind)
        for number in numbers
        for kind in ("broadcast", "step", "api")
    ]
    for dispatch in dispatches:
        for contact in contacts:
            MessageFactory(organization=organization, dispatch=dispatch, contact=contact, template=template)
    claimed, errors, barrier = [], [], threading.Barrier(4)

    def race(number):
        try:
            barrier.wait()
            while not (claim := claiming.claim(claiming.live(number.pk, now=NOW), limit=50, now=NOW)).empty:
                claimed.extend(claim.envelopes)
        except Exception as error:  # noqa: BLE001 — told to the test below
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=race, args=[number]) for number in numbers * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert sorted(envelope.contact_id for envelope in claimed) == sorted(contact.pk for contact in contacts)
    assert Message.objects.filter(status="skipped", skip_reason="frequency_cap").count() == 200 * 5


def test_a_claim_that_skips_for_another_reason_gives_the_cap_back():
    contact = ContactFactory(opted_in=False)
    message = MessageFactory(organization=contact.organization, contact=contact)
    number = message.dispatch.phone_number

    claiming.claim(claiming.live(number.pk, now=NOW), limit=10, now=NOW)

    assert holder(contact.pk) == (message.pk, NOW)


def test_a_message_that_waits_for_the_cap_comes_back_when_it_frees():
    contact = ContactFactory()
    message = MessageFactory(organization=contact.organization, contact=contact, dispatch__when_capped="wait")
    with transaction.atomic():
        caps.take({contact.pk: message.pk + 1}, now=NOW - timedelta(hours=3))

    claim = claiming.claim(claiming.live(message.dispatch.phone_number_id, now=NOW), limit=10, now=NOW)

    message.refresh_from_db()
    assert (claim.deferred, message.status, message.due_at) == (1, "queued", NOW + timedelta(hours=21))
