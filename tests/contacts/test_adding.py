"""One contact at a time: new, known, or back from deletion."""

from datetime import timedelta

import pytest

from contacts import adding
from contacts.models import Contact, ContactEvent
from kaanha.lib.errors import Refusal
from tests.factories import EPOCH, ContactFactory, OrganizationFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def organization():
    return OrganizationFactory()


def test_a_new_contact_is_an_event_and_nobody_is_opted_in(organization):
    contact = adding.add(organization, "+34 600 123 456", name="Lucía", at=EPOCH)

    assert (contact.phone, contact.country, contact.name, contact.opted_in) == ("+34600123456", "ES", "Lucía", False)
    event = ContactEvent.objects.get()
    assert (event.kind, event.contact_id, event.source, event.at) == ("created", contact.pk, "operator", EPOCH)


def test_a_known_number_is_refused_and_left_as_it_is(organization):
    ContactFactory(organization=organization, phone="+34600123456", name="Lucía")

    with pytest.raises(Refusal, match=r"^\+34600123456 is a contact already: Lucía\.$"):
        adding.add(organization, "+34600123456", name="Somebody", at=EPOCH)
    assert Contact.objects.get().name == "Lucía"
    assert not ContactEvent.objects.exists()


def test_a_deleted_number_comes_back_and_keeps_what_is_not_said_anew(organization):
    gone = ContactFactory(
        organization=organization, phone="+34600123456", name="Lucía", email="l@example.test", deleted_at=EPOCH
    )
    back = adding.add(organization, "+34600123456", name="Lucía Gómez", at=EPOCH + timedelta(days=1))

    assert (back.pk, back.deleted_at, back.name, back.email) == (gone.pk, None, "Lucía Gómez", "l@example.test")
    assert not ContactEvent.objects.exists()


def test_a_text_that_is_no_number_is_refused_with_the_reason(organization):
    with pytest.raises(Refusal, match="has no country code"):
        adding.add(organization, "98765", at=EPOCH)
    assert not Contact.objects.exists()
