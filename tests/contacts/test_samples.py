"""The sample files in docs/samples: what their generators write, and what becomes of them."""

import runpy
from collections import Counter
from pathlib import Path

import pytest

from contacts import importing
from contacts.csv_files import open_csv
from contacts.import_rows import Columns
from contacts.models import Contact, ContactTag
from tests.factories import EPOCH, OrganizationFactory

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"


def test_the_file_is_what_its_generator_writes():
    written = runpy.run_path(str(SAMPLES / "make_contacts.py"))["make"]()

    assert (SAMPLES / "contacts.csv").read_text(encoding="utf-8") == written


@pytest.mark.django_db
def test_it_has_people_of_every_kind():
    organization = OrganizationFactory()
    file = open_csv(SAMPLES / "contacts.csv", column="phone")

    summary = importing.run(organization, file, at=EPOCH, columns=Columns.of(file.header, {}))

    assert summary.counts()["total"] == 1352
    assert (summary.counts()["created"], summary.counts()["rejected"]) == (1326, 26)
    assert len([r for r in summary.rejections if r["reason"].startswith("The same number")]) == 10
    assert (summary.tags["newsletter"], summary.tags["customer"]) == (800, 500)
    assert Contact.objects.filter(opted_in=False, opted_out_at=EPOCH).count() == 60
    assert Contact.objects.filter(opted_in=False, opted_out_at=None).count() == 20
    newsletter = ContactTag.objects.filter(tag__name="newsletter").values("contact")
    assert ContactTag.objects.filter(tag__name="customer", contact__in=newsletter).count() == 250
    assert Counter(Contact.objects.values_list("country", flat=True))["US"] == 36
    endings = {phone[-2:] for phone in Contact.objects.values_list("phone", flat=True)}
    assert len(endings) == 100


def test_the_shoppers_are_what_their_generator_writes():
    written = runpy.run_path(str(SAMPLES / "make_shoppers.py"))["make"]()

    assert {name: (SAMPLES / name).read_text(encoding="utf-8") for name in written} == written


@pytest.mark.django_db
def test_every_second_shopper_buys():
    organization = OrganizationFactory()

    contacts, shoppers, purchases = (
        imported(organization, f"{name}.csv") for name in ("contacts", "shoppers", "purchases")
    )

    assert (shoppers["created"], shoppers["rejected"]) == (68, 0)
    assert (purchases["updated"], purchases["rejected"]) == (34, 0)
    assert Contact.objects.count() == contacts["created"] + 68
    in_cart = ContactTag.objects.filter(tag__name="cart")
    bought = ContactTag.objects.filter(tag__name="purchased")
    assert (in_cart.count(), bought.count()) == (68, 34)
    assert not bought.exclude(contact__in=in_cart.values("contact")).exists()
    opted_out = Contact.objects.filter(pk__in=in_cart.values("contact"), opted_in=False)
    assert (opted_out.count(), opted_out.filter(pk__in=bought.values("contact")).count()) == (1, 0)


def imported(organization, name):
    file = open_csv(SAMPLES / name, column="phone")
    return importing.run(organization, file, at=EPOCH, columns=Columns.of(file.header, {})).counts()
