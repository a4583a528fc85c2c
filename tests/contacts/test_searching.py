"""Searching contacts by a part of their name: what is common is found on the way, what is rare by its index."""

import pytest

from contacts import models
from contacts.models import Contact
from kaanha.organizations.models import Role
from tests.factories import ContactFactory, OrganizationFactory
from tests.people import signed_in, text

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(monkeypatch):
    monkeypatch.setattr(models, "COMMON", 2)
    shop = OrganizationFactory(name="Shop")
    for name in ("Asha Kumar", "Bela Kumari", "Zephyrine Rao", "Akash Umar"):
        ContactFactory(organization=shop, name=name)
    return shop


def names(rows):
    return sorted(rows.values_list("name", flat=True))


def by_index(rows):
    return "contacts_pieces" in str(rows.query)


@pytest.mark.parametrize(
    ("term", "found", "indexed"),
    [
        ("kumar", ["Asha Kumar", "Bela Kumari"], False),
        ("KUMAR ela", ["Bela Kumari"], True),
        ("zephyrine", ["Zephyrine Rao"], True),
        ("as", ["Akash Umar", "Asha Kumar"], False),
        ("nobody", [], True),
        ("%", [], False),
    ],
)
def test_finds_the_same_either_way(shop, term, found, indexed):
    rows = Contact.objects.of(shop).matching_some(term)

    assert names(rows) == names(Contact.objects.of(shop).matching(term)) == found
    assert by_index(rows) == indexed


def test_a_number_needs_no_look_at_how_many_there_are(shop, django_assert_num_queries):
    contact = ContactFactory(organization=shop, phone="+919811122233")

    with django_assert_num_queries(0):
        rows = Contact.objects.of(shop).matching_some("+91 98111 222")
    assert list(rows) == [contact]


def test_what_filters_leave_decides_how_common_a_word_is(shop):
    Contact.objects.exclude(name="Asha Kumar").update(opted_in=False)

    assert by_index(Contact.objects.of(shop).filter(opted_in=True).matching_some("kumar"))


def test_the_admins_list_finds_and_counts_common_words(shop):
    page = signed_in(shop, Role.AGENT).get("/admin/contacts/contact/?q=kumar")

    assert [contact.name for contact in page.context["cl"].result_list] == ["Bela Kumari", "Asha Kumar"]
    assert "2 contacts" in text(page)
