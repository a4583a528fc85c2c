"""`make screenshots`: the README's pictures, of a store with the sample data. Each is looked at before it is kept."""

import json
import re

from django.core.management import call_command
from django.utils import timezone
from playwright.sync_api import expect

from broadcasts import launch
from broadcasts.models import Broadcast
from contacts.models import Tag
from kaanha.organizations.models import Role
from kaanha.servers import CHECKOUT
from kaanha.whatsapp.models import PhoneNumber
from sequences import publishing, tree_reading
from tests.browser.product import somebody, templates
from tests.factories import MembershipFactory, SequenceFactory, TemplateFactory

PICTURES = CHECKOUT / "docs" / "screenshots"
SAMPLES = CHECKOUT / "docs" / "samples"
LARGEST = 150_000  # bytes
_HUNDREDS = re.compile(r"^[1-9]\d\d$")
FORTY_A_SECOND = 40  # slow enough to be caught in the middle


def test_the_pictures_of_the_readme(open_window, product):
    shop = product.shop("Sample Store", slug="sample-store")
    owned = {"organization": shop.organization, "account": shop.number.account}
    for each in templates("autumn_sale", "cart_saved", "thank_you", "last_chance"):
        TemplateFactory(**each, **owned)
    PhoneNumber.objects.filter(pk=shop.number.pk).update(throughput=FORTY_A_SECOND)
    for name in ("contacts", "shoppers", "purchases"):
        call_command("import_contacts", "sample-store", str(SAMPLES / f"{name}.csv"), "--json", verbosity=0)
    tag = {one.name: one for one in Tag.objects.of(shop.organization)}
    user = MembershipFactory(
        organization=shop.organization, role=Role.OWNER, user=somebody(email="asha@sample-store.example")
    ).user
    window, phone = open_window(user), open_window(user, phone=True, dark=True)
    page = window.page

    def keep(name, where=window):
        where.page.mouse.move(0, 0)
        where.page.screenshot(path=PICTURES / f"{name}.png")
        assert (PICTURES / f"{name}.png").stat().st_size < LARGEST, name

    steps = (SAMPLES / "basket.json").read_text().replace('"seconds": 20', '"hours": 20')
    basket = SequenceFactory(
        organization=shop.organization,
        phone_number=shop.number,
        name="Saved cart",
        trigger="tag_added",
        trigger_tag=tag["cart"],
        draft=tree_reading.read(json.loads(steps), shop.organization),
    )
    window.go(f"/admin/sequences/sequence/{basket.pk}/change/")
    keep("steps")
    publishing.activate(basket, now=timezone.now())

    window.go("/admin/broadcasts/broadcast/add/")
    page.get_by_label("Name", exact=False).first.fill("Autumn sale")
    page.get_by_label("Template").select_option("autumn_sale (en_US)")
    page.get_by_label("Source of {{1}} in the body").select_option("First name")
    page.get_by_label("If {{1}} in the body is empty").fill("there")
    page.get_by_label("{{2}} in the body", exact=True).fill("30 November")
    window.says("30 November", within=".k-bubble")
    window.choose_tag("id_tags", "newsletter")
    page.get_by_label("Source of {{1}} in the body").scroll_into_view_if_needed()
    keep("broadcast")
    window.click("Preview recipients")
    expect(page.locator(".k-bubble").first).to_be_visible()
    keep("recipients")

    broadcast = Broadcast.objects.get(organization=shop.organization)
    launch.send(broadcast, now=timezone.now())
    for one in (window, phone):
        one.go(f"/admin/broadcasts/broadcast/{broadcast.pk}/change/")
    read = page.locator(".k-stage", has_text="of those delivered").locator("b")
    expect(read).to_have_text(_HUNDREDS)
    keep("live")
    phone.page.reload()
    keep("phone", phone)

    window.go("/admin/")
    keep("home")
