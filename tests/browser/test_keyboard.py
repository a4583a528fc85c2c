"""Without a mouse."""

import re

from playwright.sync_api import expect

from broadcasts.models import Broadcast


def test_a_broadcast_is_written_and_reviewed_by_keyboard_alone(open_window, product):
    shop = product.shop("Typists")
    shop.people("newsletter", ["Asha", "Ravi"])
    window = open_window(shop.member())
    keys = window.page.keyboard

    window.go("/admin/broadcasts/broadcast/add/")
    window.tab_to("#id_name")
    keys.type("Typed")
    window.tab_to("#id_template")
    keys.type("season")
    window.says("The season has changed", within=".k-bubble")
    window.tab_to("#id_tags + .select2 .select2-search__field")
    keys.type("newsletter")
    expect(window.page.locator(".select2-results__option--highlighted")).to_have_text("newsletter")
    keys.press("Enter")
    window.tab_to("button[name=_review]")
    keys.press("Enter")

    window.page.wait_for_url(re.compile("/review/"))
    window.says("2people receive it")
    window.tab_to("#main a:text-is('Continue')")
    keys.press("Enter")
    window.page.wait_for_url(re.compile("/confirm/"))
    window.tab_to("button[name=_send]")
    assert Broadcast.objects.get(organization=shop.organization).status == "draft"


def test_the_palette_opens_its_first_result_on_enter(open_window, product):
    shop = product.shop("Finder")
    [asha] = shop.people("newsletter", ["Asha"])
    window = open_window(shop.member())

    window.go("/admin/")
    window.page.keyboard.press("Control+k")
    expect(window.page.locator("#search-input-command")).to_be_focused()
    window.page.keyboard.type("Asha")
    expect(window.page.locator("#command-results-list a").first).to_contain_text("Asha")
    window.page.keyboard.press("Enter")

    expect(window.page).to_have_url(re.compile(rf"/admin/contacts/contact/{asha.pk}/change/$"))
