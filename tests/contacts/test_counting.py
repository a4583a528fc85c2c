from datetime import UTC, datetime

import pytest
from django.db import connection, transaction

from contacts import consent, counting, tasks
from contacts.models import Contact, ContactCount
from tests.factories import ContactFactory, OrganizationFactory

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def shop():
    return OrganizationFactory()


def test_contacts_are_counted_as_they_come_go_and_come_back(shop):
    neighbor = ContactFactory().organization
    people = ContactFactory.create_batch(3, organization=shop)
    assert counting.total(shop.pk) == 3

    consent.delete([people[0].pk, people[1].pk], at=NOW)
    consent.delete([people[0].pk], at=NOW)
    assert counting.total(shop.pk) == 1

    consent.revive([people[0].pk], at=NOW)
    Contact.objects.filter(organization=shop).update(name="Asha", deleted_at=None)
    assert counting.total(shop.pk) == 3

    ContactFactory(organization=shop, deleted_at=NOW)
    Contact.objects.filter(pk__in=[one.pk for one in people[:2]]).delete()
    assert (counting.total(shop.pk), counting.total(neighbor.pk)) == (1, 1)


def test_what_is_undone_was_never_counted(shop):
    with transaction.atomic():
        ContactFactory(organization=shop)
        assert counting.total(shop.pk) == 1
        transaction.set_rollback(True)

    assert counting.total(shop.pk) == 0


def test_many_notes_become_one(shop):
    neighbor = ContactFactory().organization
    gone = ContactFactory()
    gone.delete()
    ContactFactory.create_batch(3, organization=shop)

    tasks.fold_counts()

    rows = ContactCount.objects.order_by("contacts").values_list("organization_id", "contacts")
    assert list(rows) == [(neighbor.pk, 1), (shop.pk, 3)]
    assert counting.fold() == 0


def test_a_recount_says_what_the_contacts_say_and_whether_that_was_news(shop):
    ContactFactory.create_batch(2, organization=shop)
    ContactFactory(organization=shop, deleted_at=NOW)
    assert not counting.recount(shop.pk)

    with connection.cursor() as cursor:
        cursor.execute("UPDATE contacts_contactcount SET contacts = contacts + 5 WHERE organization_id = %s", [shop.pk])

    assert counting.recount(shop.pk)
    assert counting.total(shop.pk) == 2
    assert not counting.recount(shop.pk)
