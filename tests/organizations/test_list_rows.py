"""Rows of lists look as Unfold makes them, and are made without it: when Unfold changes its own, these fail."""

import pytest
from django import forms
from django.contrib import admin
from django.forms.renderers import DjangoTemplates
from django.urls import reverse
from unfold.templatetags.unfold_list import items_for_result

from contacts.models import Contact
from kaanha.messaging.models import Message
from kaanha.organizations import list_rows
from kaanha.organizations.models import Role
from tests.factories import (
    BroadcastFactory,
    ContactFactory,
    EndpointFactory,
    MessageFactory,
    OrganizationFactory,
)
from tests.people import signed_in, superuser

pytestmark = pytest.mark.django_db


def address(model, page="changelist", *args):
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def test_the_cells_are_those_of_unfold(monkeypatch):
    message = MessageFactory(contact__name="<b>Asha</b> & वर्मा")
    BroadcastFactory.create_batch(2)
    EndpointFactory()
    ours, compared = list_rows.rows, {}

    def compare(changes, headers, actions):
        theirs = ["".join(items_for_result(changes, row, None)) for row in changes.result_list]
        assert list(ours(changes, headers, [])) == theirs
        compared[changes.model.__name__] = len(theirs)
        return ours(changes, headers, actions)

    monkeypatch.setattr(list_rows, "rows", compare)
    root = superuser()
    for model in admin.site._registry:
        root.get(address(model))
    root.get(address(Message), {"contact": message.contact_id})

    filled = {"Broadcast", "Contact", "Endpoint", "MessageTemplate", "Message", "MetaApp", "PhoneNumber", "User"}
    assert {name for name, rows in compared.items() if rows} >= filled
    assert compared["Broadcast"] == 2


def test_what_may_be_done_to_a_row_is_a_link_in_it():
    shop = OrganizationFactory()
    one, other = BroadcastFactory.create_batch(2, organization=shop)

    page = signed_in(shop, Role.OWNER).get(address(type(one))).content.decode()

    assert list_rows.PLACE not in page
    for row in (one, other):
        assert page.count(f'href="{address(type(one), "duplicate_row", row.pk)}"') == 1


def test_a_row_leads_back_to_the_list_as_it_was():
    shop = OrganizationFactory()
    row = ContactFactory(organization=shop, name="Asha")

    page = signed_in(shop, Role.OWNER).get(address(Contact), {"q": "asha"}).content.decode()

    assert f'<a href="{address(Contact, "change", row.pk)}?_changelist_filters=q%3Dasha" ' in page


def test_what_may_be_chosen_is_shown_as_django_shows_it():
    choices = [("", "All"), (1, "a <b>"), ('x&"y', "c"), ("Group", [(3, "d"), (4, "e")]), (None, "none"), (12345, "n")]
    select = forms.Select(choices=choices)
    asked = {"name": "tag", "value": 12345, "attrs": {"class": "q", "required": True}}

    def shown(**options):
        return "".join(line.strip() for line in select.render(**asked, **options).splitlines())

    assert shown() == shown(renderer=DjangoTemplates())
