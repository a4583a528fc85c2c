"""Meta's messaging limit across numbers of a portfolio."""

from datetime import UTC, datetime, timedelta

import pytest

from kaanha.messaging import claiming, reach
from kaanha.messaging.models import MarketingCap, Message, Reach
from tests.factories import ContactFactory

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(hours=24)

pytestmark = pytest.mark.django_db


@pytest.fixture
def limit(number):
    """Twenty people a day, of which nineteen are used."""
    return reach.Limit(number.account.portfolio_id, 20)


def claim(number, limit, now=NOW):
    return claiming.claim(claiming.live(number.pk, now=now), limit=100, now=now, within=limit)


def test_beyond_the_limit_messages_wait_until_a_place_frees(number, queue, limit):
    messages = queue(25)

    claimed = claim(number, limit)

    assert (len(claimed.envelopes), claimed.deferred, claimed.skipped) == (19, 6, 0)
    waiting = Message.objects.filter(pk__in=[message.pk for message in messages], status="queued")
    assert set(waiting.values_list("due_at", "attempt")) == {(NOW + DAY, 0)}
    # Who waits for a place must not keep other marketing from reaching him.
    assert not MarketingCap.objects.filter(message__in=waiting.values("pk"), until__gt=NOW).exists()


def test_people_written_to_within_a_day_do_not_count_again(number, queue, limit):
    contacts = ContactFactory.create_batch(19, organization=number.organization)
    queue(contacts=contacts)
    claim(number, limit)
    queue(contacts=contacts, category="UTILITY")
    queue(1, category="UTILITY")

    claimed = claim(number, limit)

    assert (len(claimed.envelopes), claimed.deferred) == (19, 1)


def test_places_free_a_day_after_the_last_message(number, queue, limit):
    queue(20)
    claim(number, limit)
    claim(number, limit, now=NOW + timedelta(hours=1))

    assert claim(number, limit, now=NOW + DAY - timedelta(seconds=1)).empty
    assert len(claim(number, limit, now=NOW + DAY).envelopes) == 1


def test_each_of_those_beyond_the_limit_waits_for_a_place_of_its_own(number, queue, limit):
    queue(18)
    claim(number, limit)
    queue(4)
    claim(number, limit, now=NOW + timedelta(hours=1))

    waiting = Message.objects.filter(status="queued").order_by("due_at")
    assert set(waiting.values_list("due_at", flat=True)) == {NOW + DAY}
    queue(40)
    claim(number, limit, now=NOW + timedelta(hours=2))
    assert set(Message.objects.filter(status="queued").values_list("due_at", flat=True)) == {
        NOW + DAY,
        NOW + timedelta(hours=25),
    }


def test_without_a_limit_nothing_is_counted(number, queue):
    queue(25)

    assert len(claim(number, None).envelopes) == 25
    assert not Reach.objects.exists()
