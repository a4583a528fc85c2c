"""From an empty organization to people who have read a message, and plans that are given up."""

import pytest
from playwright.sync_api import expect

from broadcasts.models import Broadcast, Status
from kaanha.organizations.models import Role
from tests.browser.product import somebody
from tests.factories import MembershipFactory, OrganizationFactory

NAMES = [f"Person {letter}" for letter in "ABCDEFGHIJK"]


@pytest.fixture
def people_file(tmp_path):
    """Eleven who agreed to be messaged, read fast; one who didn't."""
    rows = [f"+4917000{n:03}60,{name},newsletter,true" for n, name in enumerate(NAMES)]
    file = tmp_path / "people.csv"
    file.write_text("\n".join(["phone,name,tags,optedIn", *rows, "+491700099960,Person Z,newsletter,false"]))
    return file


def test_a_newcomer_connects_imports_and_sends_without_reading_anything(open_window, product, people_file):
    organization = OrganizationFactory(name="Corner shop")
    window = open_window(MembershipFactory(organization=organization, user=somebody()).user)
    page = window.page

    window.go("/admin/")
    page.get_by_role("link", name="Connect WhatsApp").click()
    page.get_by_label("WABA id").fill(product.meta.options.waba_id)
    page.get_by_label("Access token").fill(product.meta.options.access_token)
    page.get_by_label("App id").fill(product.meta.options.app_id)
    page.get_by_label("App secret").fill(product.meta.options.app_secret)
    with product.listing_one_number():
        window.click("Connect")
        window.says("Connected with 1 phone number.")
    told = page.locator(".k-secret").all_inner_texts()
    product.meta.subscribe(*told)

    window.go("/admin/")
    page.get_by_role("link", name="Sync templates").click()
    window.click("Sync now")
    window.says("Templates synced: ")

    window.go("/admin/")
    page.get_by_role("link", name="Import contacts").click()
    page.get_by_label("CSV file").set_input_files(people_file)
    window.click("Import")
    window.says("Imported people.csv: 12 rows.")

    window.go("/admin/")
    page.get_by_role("link", name="Send a broadcast").click()
    page.get_by_label("Name").fill("Autumn sale")
    page.get_by_label("Template").select_option("autumn_sale (en_US)")
    page.get_by_label("Source of {{1}} in the body").select_option("First name")
    page.get_by_label("If {{1}} in the body is empty").fill("there")
    page.get_by_label("{{2}} in the body", exact=True).fill("30 November")
    window.says("30 November", within=".k-bubble")
    window.choose_tag("id_tags", "newsletter")
    window.says("11 contacts with these tags have opted in.")
    window.says("Hi Person, our autumn sale ends on 30 November.", within=".k-bubble")
    window.click("Preview recipients")

    window.says("11people receive it")
    window.says("It takes less than a minute")
    window.says("not opted in")
    expect(page.locator("tbody tr")).to_have_count(10)
    window.says("Hi Person, our autumn sale ends on 30 November.", within=".k-bubble")
    assert product.meta.messages(template="autumn_sale") == []
    page.get_by_role("link", name="Send a test").click()
    page.get_by_label("To whom").fill("Person B")
    page.get_by_label("To whom").blur()
    window.says("As Person B would read it.")
    window.click("Send the test")
    window.says("The test to Person B is on its way.")
    window.click("Continue")
    window.click("Send now to 11 people")

    window.says("Completed", within="#funnel")
    read = page.locator(".k-stage", has_text="of those delivered").locator("b")
    expect(read).to_have_text("11")
    sent = product.meta.messages(template="autumn_sale")
    tested = "491700000160"
    assert sorted(message["to"] for message in sent) == sorted([tested, *(f"4917000{n:03}60" for n in range(11))])
    assert Broadcast.objects.get(organization=organization).status == Status.COMPLETED
    window.go("/admin/")
    expect(page.get_by_text("First steps")).to_have_count(0)


def test_a_broadcast_is_scheduled_paused_and_canceled(open_window, product):
    shop = product.shop("Planner")
    people = shop.people("newsletter", ["Asha", "Ravi"])
    window = open_window(shop.member(Role.ADMIN))
    page = window.page

    window.go("/admin/broadcasts/broadcast/add/")
    page.get_by_label("Name").fill("Far away")
    page.get_by_label("Template").select_option("season_greetings (en_US)")
    window.choose_tag("id_tags", "newsletter")
    page.locator("#id_scheduled_at_0").fill("2126-12-24")
    page.locator("#id_scheduled_at_1").fill("09:30")
    window.click("Preview recipients")
    window.click("Continue")
    window.says("Asia/Kolkata")
    window.click("Schedule for 24 Dec 2126, 09:30 IST")
    window.says("It goes out on 24 Dec 2126, 09:30 IST (Asia/Kolkata).", within="#funnel")

    window.click("Pause …")
    window.click("Pause", role="button")
    window.says("Paused", within="#funnel")
    window.click("Resume …")
    expect(page.get_by_label("Keep its time: 24 Dec 2126, 09:30 IST")).to_be_checked()
    window.click("Resume", role="button")
    window.says("It goes out on 24 Dec 2126, 09:30 IST (Asia/Kolkata).", within="#funnel")
    window.click("Cancel …")
    window.says("Nothing has been sent, and nothing will be.")
    window.click("Cancel the broadcast", role="button")

    window.says("Canceled", within="#funnel")
    expect(page.locator("#funnel").get_by_role("link", name="Cancel …")).to_have_count(0)
    assert Broadcast.objects.get(organization=shop.organization).status == Status.CANCELED
    assert product.received("season_greetings", people) == {}
