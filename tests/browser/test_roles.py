"""Everybody sees what they may do, and nothing else."""

from playwright.sync_api import expect

from kaanha.organizations.models import Role
from tests.factories import BroadcastFactory


def test_a_viewer_reads_and_is_offered_nothing_that_sends(open_window, product):
    shop = product.shop("Readers")
    broadcast = BroadcastFactory(
        organization=shop.organization,
        phone_number=shop.number,
        template=shop.templates["season_greetings"],
        name="Plan",
        status="paused",
    )
    reader, writer = open_window(shop.member(Role.VIEWER)), open_window(shop.member(Role.ADMIN))

    for window, times in ((reader, 0), (writer, 1)):
        window.go("/admin/")
        expect(window.page.get_by_role("link", name="New broadcast")).to_have_count(times)
        window.go("/admin/broadcasts/broadcast/")
        expect(window.page.get_by_role("link", name="Plan")).to_have_count(1)
        expect(window.page.locator("#header-inner a[href$='/add/']")).to_have_count(times)
        window.go(f"/admin/broadcasts/broadcast/{broadcast.pk}/change/")
        window.says("Paused", within="#funnel")
        expect(window.page.get_by_role("link", name="Resume …")).to_have_count(times)
        expect(window.page.get_by_role("link", name="Cancel …")).to_have_count(times)

    reader.refused = {403}
    for page in ("add", f"{broadcast.pk}/resume", f"{broadcast.pk}/cancel"):
        reader.go(f"/admin/broadcasts/broadcast/{page}/")
        expect(reader.page.get_by_role("button")).to_have_count(0)


def test_an_agent_works_with_contacts_alone(open_window, product):
    shop = product.shop("Agents")
    [asha] = shop.people("customer", ["Asha"])
    window = open_window(shop.member(Role.AGENT))

    window.go("/admin/")
    links = window.page.locator("#nav-sidebar-apps a span:not(.material-symbols-outlined)")
    assert links.all_inner_texts() == ["Home", "Contacts", "Tags", "Imports", "Bulk changes"]

    window.go(f"/admin/contacts/contact/{asha.pk}/change/")
    expect(window.page.get_by_role("link", name="Opt out …")).to_have_count(1)
    expect(window.page.get_by_role("link", name="Enroll in a sequence …")).to_have_count(0)


def test_nobody_sees_the_contacts_of_others(open_window, product):
    ours, theirs = product.shop("Ours"), product.shop("Theirs")
    [asha], [ravi] = ours.people("customer", ["Asha of ours"]), theirs.people("customer", ["Ravi of theirs"])
    window = open_window(ours.member())

    window.go("/admin/contacts/contact/")
    window.says(asha.name, within="#result_list")
    expect(window.page.get_by_text(ravi.name)).to_have_count(0)
    window.refused = {404}
    window.go(f"/admin/contacts/contact/{ravi.pk}/change/")
    expect(window.page.get_by_text(ravi.name)).to_have_count(0)
