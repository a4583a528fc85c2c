"""Before one is in: signing in, the lock, the second factor. On a phone, in the dark."""

import pytest
from django.utils import timezone

from tests.organizations.doors import PASSWORD, equipped, person


@pytest.fixture
def window(open_window):
    return open_window(phone=True, dark=True)


def give(window, user, password):
    window.page.locator("[name=username]").fill(user.email)
    window.page.locator("[name=password]").fill(password)
    with window.page.expect_navigation():
        window.page.locator("form button[type=submit]").click()


def looks_right(window):
    window.fits()
    window.is_accessible()


def test_signing_in_leads_to_the_page_that_was_wanted(window):
    user = person()

    window.go("/admin/contacts/tag/")
    looks_right(window)
    give(window, user, "wrong")
    window.says("Please enter the correct")
    looks_right(window)
    give(window, user, PASSWORD)

    window.page.wait_for_url("**/admin/contacts/tag/")


def test_too_many_wrong_passwords_lock_and_say_for_how_long(window):
    user = person()
    window.refused = {429}

    window.go("/admin/login/")
    for _ in range(5):
        give(window, user, "wrong")
    window.says("Signing in is locked for now")
    window.says("try again in 30 minutes")
    looks_right(window)


def test_a_second_factor_is_asked_for_and_let_in_with(window):
    user = person()
    _, codes = equipped(user, now=timezone.now())

    window.go("/admin/login/")
    give(window, user, PASSWORD)
    window.says(f"Signing in as {user.email}")
    looks_right(window)
    window.page.get_by_role("link", name="Use a backup code").click()
    looks_right(window)
    window.page.locator("[name=code]").fill(codes[0])
    window.page.get_by_role("button", name="Go on").click()

    window.page.wait_for_url("**/admin/")
