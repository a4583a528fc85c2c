"""Every list and the pages one works on: nothing sticks out of a window, axe finds nothing serious."""

import re

import pytest

from tests.admin_pages import pages
from tests.browser.conftest import PHONE, WIDE
from tests.browser.product import somebody
from tests.matrix.world import World

LONG = "Donaudampfschifffahrtsgesellschaftskapitänskajütenschlüssel" * 2
HEBREW = "חברת המשלוחים של ירושלים"
FOREIGN = ("axes_", "django_celery_beat_")  # pages that we have from elsewhere
# Pages beside the lists at which people work.
FORMS = (
    "broadcasts_broadcast_add", "broadcasts_broadcast_review", "broadcasts_broadcast_confirm",
    "contacts_contact_add", "contacts_contact_change", "contacts_import_add", "contacts_import_change",
    "sequences_sequence_change", "templates_app_messagetemplate_change",
    "whatsapp_businessaccount_add", "whatsapp_businessaccount_change", "webhooks_endpoint_change",
)  # fmt: skip


@pytest.fixture(scope="module")
def world(product):
    made = World("Lisbon", "951101234567")
    rows = {model.__name__: row for model, row in made.rows.items()}
    for model, name in (
        ("Contact", LONG),
        ("Broadcast", f"{HEBREW} {LONG}"[:100]),
        ("Sequence", f"{HEBREW} {LONG}"[:100]),
        ("Tag", HEBREW),
    ):
        rows[model].name = name
        rows[model].save(update_fields=["name"])
    return made


@pytest.fixture(scope="module")
def addresses(world):
    rows = {f"{model._meta.app_label}_{model._meta.model_name}": row for model, row in world.rows.items()}
    return pages(rows)


def about(world):
    """Lists of what belongs to a row with a long name, and who did what to it."""
    rows = {model.__name__: row for model, row in world.rows.items()}
    contact, sequence = rows["Contact"], rows["Sequence"]
    return [
        f"/admin/messaging/message/?contact={contact.pk}",
        f"/admin/sequences/enrollment/?sequence={sequence.pk}",
        f"/admin/sequences/enrollment/?contact={contact.pk}",
        f"/admin/sequences/sequence/{sequence.pk}/history/",
    ]


def test_every_page_fits_and_is_accessible(open_window, world, addresses):
    """All of axe's rules on a phone in the dark; the other looks differ from it in contrast and in width."""
    lists = sorted(name for name in addresses if name.endswith("_changelist") and not name.startswith(FOREIGN))
    chosen = [addresses[name] for name in (*lists, *FORMS) if name in addresses]
    chosen += ["/admin/", "/admin/account/", "/admin/system/", *about(world)]
    assert len(chosen) > 30
    window = open_window(somebody(is_superuser=True), phone=True, dark=True)

    window.go("/admin/organizations/organization/choose/")
    window.page.get_by_role("button", name=re.compile("^Lisbon")).click()
    for address in chosen:
        window.go(address)
        window.fits()
        window.is_accessible()
        window.page.evaluate("() => document.documentElement.classList.remove('dark')")
        window.is_accessible("color-contrast")
        window.page.set_viewport_size(WIDE)
        window.fits()
        window.page.set_viewport_size(PHONE)


def test_a_long_name_leaves_room_for_what_stands_beside_it(open_window, world):
    window = open_window(somebody(is_superuser=True))
    window.go("/admin/organizations/organization/choose/")
    window.page.get_by_role("button", name=re.compile("^Lisbon")).click()
    window.go("/admin/contacts/contact/")

    name = window.page.locator("#result_list tbody th", has_text=LONG).bounding_box()
    assert name["width"] < 500
