"""What is done with people: enrolled from their page, uploaded from files that have mistakes."""

from pathlib import Path

from django.utils import timezone
from playwright.sync_api import expect

from contacts.models import Contact, Import
from kaanha.organizations.models import Role
from sequences import publishing
from sequences.models import Enrollment
from tests.factories import SequenceFactory

MISTAKEN = """phone,name,tags,optedIn
+4917011100160,Asha,newsletter,true
9.15551E+11,Spoiled,newsletter,true
,Nobody,newsletter,true
+4917011100260,Ravi,newsletter,true
"""


def welcome(shop):
    """An active sequence of one utility message."""
    step = {
        "id": "hello",
        "type": "message",
        "template": shop.templates["order_update"].public_id,
        "variables": {"body.1": {"field": "first_name"}, "body.2": {"text": "your order"}},
    }
    sequence = SequenceFactory(organization=shop.organization, phone_number=shop.number, name="Welcome", draft=[step])
    publishing.activate(sequence, now=timezone.now())
    return sequence


def test_somebody_is_enrolled_from_their_page_and_nobody_else(open_window, product):
    shop = product.shop("Enroller")
    [asha, _] = shop.people("customer", ["Asha", "Ravi"])
    sequence = welcome(shop)
    window = open_window(shop.member(Role.ADMIN))
    page = window.page

    window.go(f"/admin/contacts/contact/{asha.pk}/change/")
    window.says("This contact has been in no sequence.")
    window.click("Enroll in a sequence …")
    page.locator(".select2-selection").click()
    page.get_by_role("option", name="Welcome").click()
    window.click("Enroll")
    window.says("Asha is enrolled in Welcome: the first step is on its way.")

    expect(page.locator("tr", has_text="Welcome")).to_be_visible()
    assert list(Enrollment.objects.filter(sequence=sequence).values_list("contact", flat=True)) == [asha.pk]


def test_a_file_with_mistakes_is_checked_first_and_then_taken_without_them(open_window, product, tmp_path):
    shop = product.shop("Importer")
    file = tmp_path / "mistaken.csv"
    file.write_text(MISTAKEN)
    window = open_window(shop.member(Role.AGENT))
    page = window.page

    window.go("/admin/contacts/import/")
    page.locator("#header-inner a[href$='/add/']").click()
    page.get_by_label("CSV file").set_input_files(file)
    window.click("Only check the file")
    window.says("Checked mistaken.csv: 4 rows. Nothing was written.")
    rejected = page.locator("section", has_text="Rejected rows").locator("tbody tr")
    expect(rejected).to_have_count(2)
    expect(rejected.nth(0)).to_contain_text("its last digits are lost")
    assert not Contact.objects.of(shop.organization).exists()

    window.click("Import it now …")
    window.click("Import")
    window.says("Imported mistaken.csv: 4 rows.")
    assert set(Contact.objects.of(shop.organization).values_list("name", flat=True)) == {"Asha", "Ravi"}
    expect(rejected).to_have_count(2)
    with page.expect_download() as download:
        window.click("Download the rejected rows")
    lines = Path(download.value.path()).read_text("utf-8-sig").splitlines()
    assert lines[0].endswith(",Why it was rejected")
    assert len(lines) == 3


def test_what_is_uploaded_must_be_a_table_of_people(open_window, product, tmp_path):
    shop = product.shop("Mistaken")
    file = tmp_path / "notes.txt"
    file.write_text("dear diary\n")
    window = open_window(shop.member())

    window.go("/admin/contacts/import/add/")
    window.page.get_by_label("CSV file").set_input_files(file)
    window.click("Import")

    window.says("phone", within="#main")
    assert not Import.objects.of(shop.organization).exists()
