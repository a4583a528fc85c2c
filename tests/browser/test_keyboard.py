"""Without a mouse."""

import re
import threading

from django.db import transaction
from django.utils import timezone
from playwright.sync_api import expect

from broadcasts.models import Broadcast
from kaanha.webhooks.models import Delivery, Event, Status
from tests.browser.conftest import PATIENCE
from tests.factories import EndpointFactory
from tests.receivers import OK, Receiver


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


def test_the_palette_gives_the_focus_back_when_it_is_closed(open_window, product):
    window = open_window(product.shop("Closed").member())
    window.go("/admin/contacts/contact/")
    filters = window.tab_to("button[data-filters]")

    window.page.keyboard.press("Control+k")
    expect(window.page.locator("#search-input-command")).to_be_focused()
    window.page.keyboard.type("qqqq")
    window.says("Nothing is called so")
    window.page.keyboard.press("Escape")
    window.page.keyboard.press("Escape")
    expect(filters).to_be_focused()


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


def test_a_failed_delivery_is_replayed_by_keyboard_alone(open_window, product):
    shop = product.shop("Hooks")
    window = open_window(shop.member())
    arrived = threading.Event()

    def fine(connection):
        connection.sendall(OK)
        arrived.set()

    with Receiver(says=fine) as receiver:
        endpoint = EndpointFactory(organization=shop.organization, url=receiver.url)
        with transaction.atomic():  # before a worker sees it
            event = Event.record(shop.organization, "broadcast.completed", {"name": "Sale"}, at=timezone.now())
            Delivery.objects.filter(endpoint=endpoint).update(status=Status.FAILED, attempts=1, next_attempt_at=None)

        window.go("/admin/webhooks/delivery/?status__exact=failed")
        window.tab_to("#result_list a:text-is('Replay')")
        window.page.keyboard.press("Enter")
        window.says("It is sent again, with the event id that it had.")
        assert receiver.requests == []
        window.tab_to("#main button:text-is('Replay')")
        window.page.keyboard.press("Enter")

        window.says("It is sent again.")
        assert arrived.wait(PATIENCE / 1000)
        assert [request.headers["X-Kaanha-Event-Id"] for request in receiver.requests] == [event.public_id]


def test_the_connection_is_tested_by_keyboard_alone(open_window, product):
    shop = product.shop("Plugged")
    window = open_window(shop.member())

    window.go(f"/admin/whatsapp/businessaccount/{shop.number.account_id}/change/")
    window.tab_to("#main a:text-is('Set-up and test')")
    window.page.keyboard.press("Enter")
    expect(window.page.locator("form .k-lines li")).to_have_count(1)  # the callbacks, before anything is asked
    window.tab_to("#main button:text-is('Test connection')")
    window.page.keyboard.press("Enter")

    # Meta knows the token, and knows nothing of this account.
    window.says("Meta accepts it, and it has both permissions.")
    window.says(f"WhatsApp account {shop.number.account.waba_id}: Meta says that")


def test_a_list_is_filtered_by_keyboard_alone(open_window, product):
    shop = product.shop("Sieve")
    shop.people("newsletter", ["Asha"])
    window = open_window(shop.member())
    button, filters = (window.page.locator(name) for name in ("[data-filters]", "#changelist-filter"))

    window.go("/admin/contacts/contact/")
    window.tab_to("[data-filters]")
    window.page.keyboard.press("Enter")
    expect(filters).to_be_focused()
    expect(button).to_have_attribute("aria-expanded", "true")
    window.page.keyboard.press("Escape")
    expect(filters).to_be_hidden()
    expect(button).to_be_focused()
    window.page.keyboard.press("Enter")
    expect(filters).to_be_focused()
    window.tab_to("#changelist-filter button:text-is('Apply Filters')")
    window.page.keyboard.press("Enter")

    window.page.wait_for_url(re.compile(r"/contact/\?"))
    window.says("Asha", within="#result_list")
