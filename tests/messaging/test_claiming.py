"""What a claim takes, in which order, and what it writes."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from kaanha.messaging import claiming, counting, settling, sweeping
from kaanha.messaging.models import Message
from kaanha.messaging.settling import NotStarted, Result
from tests.factories import ContactFactory

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)

pytestmark = pytest.mark.django_db


def claim(number, *, limit=100, now=NOW):
    return claiming.claim(claiming.live(number.pk, now=now), limit=limit, now=now)


def fresh(message):
    return Message.objects.get(pk=message.pk)


def test_a_claim_leases_its_rows_for_a_minute(number, queue):
    (message,) = queue(1)

    (envelope,) = claim(number).envelopes

    row = fresh(message)
    assert (row.status, row.due_at, row.lease_until) == ("sending", None, NOW + timedelta(seconds=60))
    assert (row.lease_token, row.attempt) == (envelope.token, envelope.attempt) == (row.lease_token, 1)
    assert claim(number).empty


def test_what_is_not_due_yet_is_left(number, queue):
    queue(1, due_at=NOW + timedelta(seconds=1))

    assert claim(number).empty
    assert len(claim(number, now=NOW + timedelta(seconds=1)).envelopes) == 1


def test_utility_goes_ahead_of_marketing(number, queue):
    queue(5)
    urgent = queue(3, category="UTILITY")

    assert [envelope.id for envelope in claim(number, limit=3).envelopes] == [message.pk for message in urgent]


def test_nobodys_thousand_waits_in_front_of_somebodys_ten(number, queue):
    large, small = queue(40), queue(10)

    taken = {envelope.id for envelope in claim(number, limit=20).envelopes}

    assert len(taken & {message.pk for message in small}) == 10
    assert len(taken & {message.pk for message in large}) == 10


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"opted_in": False}, "opted_out"),
        ({"deleted_at": NOW}, "deleted"),
        ({"phone": None, "user_id": "US.1"}, "invalid_phone"),
        ({"marketing_opted_out_at": NOW}, "marketing_opted_out"),
        ({"country": "US"}, "country_blocked"),
        ({"name": ""}, "missing_variable"),
    ],
)
def test_every_reason_not_to_send_is_named_and_counted(number, queue, change, reason):
    contact = ContactFactory(organization=number.organization, **change)
    (message,) = queue(contacts=[contact])

    assert claim(number).envelopes == []

    assert (fresh(message).status, fresh(message).skip_reason, fresh(message).closed_at) == ("skipped", reason, NOW)
    assert counting.funnel(message.dispatch_id).skipped == 1


@pytest.mark.parametrize("change", [{"marketing_opted_out_at": NOW}, {"country": "US"}])
def test_reasons_against_marketing_do_not_stop_utility(number, queue, change):
    queue(contacts=[ContactFactory(organization=number.organization, **change)], category="UTILITY")

    assert len(claim(number).envelopes) == 1


def test_a_row_that_could_not_start_in_time_goes_back(number, queue):
    (message,) = queue(1)
    (envelope,) = claim(number).envelopes

    settling.settle([Result(envelope, NotStarted(), NOW)], now=NOW)

    assert (fresh(message).status, fresh(message).due_at, fresh(message).lease_token) == ("queued", NOW, None)
    assert fresh(message).tries == 0


@pytest.mark.parametrize("attributes", [[1], "text", 7, {"first_name": {"deep": ["x"]}}])
def test_whatever_stands_in_a_contacts_attributes_stops_nobody(number, queue, attributes):
    odd = ContactFactory(organization=number.organization, attributes=attributes)
    queue(contacts=[odd, ContactFactory(organization=number.organization)])

    assert len(claim(number).envelopes) == 2


def test_a_claim_among_thousands_of_dispatches_locks_no_more_than_it_can_use(number, queue):
    for _ in range(6):
        queue(1)
    queue(1, category="UTILITY")

    claimed = claim(number, limit=3)

    assert len(claimed.envelopes) == 3
    lanes = {Message.objects.get(pk=envelope.id).dispatch.lane for envelope in claimed.envelopes}
    assert "utility" in lanes


def test_an_ended_lease_leaves_the_row_unconfirmed_and_out_of_the_queue(number, queue):
    (message,) = queue(1)
    claim(number)

    assert sweeping.expire_leases(now=NOW + timedelta(seconds=60)) == 0
    assert sweeping.expire_leases(now=NOW + timedelta(seconds=61)) == 1

    assert fresh(message).status == "unconfirmed"
    assert counting.funnel(message.dispatch_id).unconfirmed == 1
    assert claim(number, now=NOW + timedelta(hours=1)).empty


def test_another_numbers_messages_are_not_taken(number, queue):
    from tests.factories import MessageFactory

    other = MessageFactory(organization=number.organization)

    assert claim(number).empty
    assert claiming.numbers_with_work(now=NOW) == [other.dispatch.phone_number_id]


def test_a_claim_costs_the_same_however_many_rows(number, queue):
    queue(60)

    def queries(limit):
        with CaptureQueriesContext(connection) as captured:
            claim(number, limit=limit)
        return len(captured)

    assert queries(1) == queries(50)
