"""Requests that are too large, that hold what no database keeps, or that ask a list for what it doesn't offer."""

import tracemalloc

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from contacts import uploads
from contacts.models import Contact, Import
from kaanha.webhooks.models import Endpoint
from tests.callers import Caller, error
from tests.factories import ContactFactory, EndpointFactory, MembershipFactory, MetaAppFactory, OrganizationFactory
from tests.people import browser_of, signed_in, text

pytestmark = pytest.mark.django_db

HUGE = 60 * 1024 * 1024
UPLOAD = "/admin/contacts/import/add/"


class Endless:
    """A body that says how long it is, and remembers how much of it was read."""

    def __init__(self):
        self.read_bytes = 0

    def read(self, size=-1):
        size = HUGE if size < 0 else size
        self.read_bytes += size
        return b" " * size

    readline = read


def sent(browser, address, *, content_type, length=HUGE, **headers):
    """The answer to a POST of so many bytes, and how many of them were read."""
    body = Endless()
    stated = {"CONTENT_LENGTH": str(length), "CONTENT_TYPE": content_type, "wsgi.input": body, **headers}
    return browser.generic("POST", address, **stated), body.read_bytes


def test_a_huge_body_to_the_api_is_refused_without_being_read():
    caller = Caller(OrganizationFactory())
    key = {"HTTP_AUTHORIZATION": f"Bearer {caller.text}"}
    tracemalloc.start()
    answer, read = sent(Client(), "/api/contacts", content_type="application/json", **key)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert error(answer) == (413, "too_large")
    assert read <= 1024 * 1024 + 1
    assert most < 10 * 1024 * 1024


def test_a_huge_body_without_a_key_is_not_read_at_all():
    answer, read = sent(Client(), "/api/contacts", content_type="application/json")

    assert (error(answer), read) == ((401, "unauthorized"), 0)


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
@pytest.mark.parametrize("address", ["/admin/login/", UPLOAD, "/admin/contacts/contact/add/", "/nothing"])
def test_a_huge_form_is_refused_before_anybody_reads_it_whoever_sends_it(address, content_type):
    for browser in (Client(), signed_in(OrganizationFactory())):
        answer, read = sent(browser, address, content_type=content_type)

        assert (answer.status_code, read) == (413, 0)
        assert "Too much at once" in text(answer)
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


def test_a_huge_callback_is_refused_before_it_is_read():
    answer, read = sent(Client(), f"/callbacks/{MetaAppFactory().callback_key}", content_type="application/json")

    assert (answer.status_code, read) == (413, 0)


def test_a_form_of_too_many_fields_is_refused_in_a_sentence():
    owner = signed_in(OrganizationFactory())
    answer = owner.post("/admin/contacts/tag/add/", {f"f{n}": "" for n in range(2_001)})

    assert answer.status_code == 413
    assert "2,000 fields" in text(answer)


def test_a_file_up_to_the_limit_comes_through():
    shop = OrganizationFactory()
    rows = b"phone,name\n+919812345678,Asha\n" + b"\n" * 3_000_000  # more than a form may have
    answer = signed_in(shop).post(UPLOAD, {"file": SimpleUploadedFile("a.csv", rows)})

    kept = Import.objects.get(organization=shop)
    assert answer.url == f"/admin/contacts/import/{kept.pk}/change/"
    assert uploads.take_waiting(now=timezone.now()) == 1
    kept.refresh_from_db()
    assert kept.created == 1


@pytest.mark.parametrize("name", ["é" * 200 + ".csv", "../../etc/passwd.csv", "a\nb.csv", "C:\\temp\\people.csv"])
def test_a_file_may_have_any_name(name):
    shop = OrganizationFactory()
    signed_in(shop).post(UPLOAD, {"file": SimpleUploadedFile(name, b"phone\n+919812345678\n")})

    kept = Import.objects.get(organization=shop).file_name
    assert kept.endswith(".csv")
    assert not {"/", "\\", "\n"} & set(kept)
    assert len(kept.encode()) <= 200


def test_a_workbook_with_the_name_of_a_csv_file_is_refused_by_its_content():
    shop = OrganizationFactory()
    workbook = SimpleUploadedFile("people.csv", b"PK\x03\x04rest", content_type="text/csv")
    answer = signed_in(shop).post(UPLOAD, {"file": workbook})

    assert "people.csv is an Excel workbook or a zip archive, not a CSV file." in text(answer)
    assert not Import.objects.exists()


# --- what no address may hold ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/callbacks/%00", 404),
        ("/admin/contacts/contact/%00/change/", 404),
        ("/admin/contacts/contact/?q=%00", 400),
        ("/admin/contacts/contact/?consent=%00", 400),
        ("/admin/broadcasts/broadcast/?status__exact=%00", 400),
        ("/admin/search/?s=%00", 400),
        ("/admin/search/?s=a&page=99", 200),  # there is one page
    ],
)
def test_nonsense_in_an_address_is_no_fault_of_ours(address, status):
    assert signed_in(OrganizationFactory()).get(address).status_code == status


def test_what_is_selected_in_a_list_is_a_row():
    shop = OrganizationFactory()
    owner, theirs = signed_in(shop), ContactFactory()
    address = "/admin/contacts/contact/"

    for nonsense in ("x", "\0", "-1"):
        assert owner.post(address, {"action": "add_tag", "_selected_action": nonsense}).status_code == 404
    opt_out = {"action": "opt_out_selected", "_selected_action": str(theirs.pk), "apply": "1", "proof": ""}
    owner.post(address, opt_out)
    owner.post(address, {**opt_out, "select_across": "1"})
    assert Contact.objects.get(pk=theirs.pk).opted_in


@pytest.mark.parametrize(
    "asked",
    [
        "contacts/contact/?organization__slug=other",
        "contacts/contact/?name__regex=(a%2B)%2B$",
        "contacts/contact/?phone__startswith=%2B91",
        "contacts/contact/?attributes__contains=x",
        "organizations/apikey/?digest__startswith=a",
        "organizations/membership/?user__password__startswith=argon2",
        "webhooks/endpoint/?secret__gt=a",
        "whatsapp/businessaccount/?app__secret__gt=a",
        "broadcasts/broadcast/?status__regex=.",
        "broadcasts/broadcast/?created_by__email__startswith=a",
        "broadcasts/broadcast/?_to_field=variables",
    ],
)
def test_a_list_answers_nothing_that_it_does_not_offer(asked):
    assert signed_in(OrganizationFactory()).get(f"/admin/{asked}").status_code == 400


@pytest.mark.parametrize(
    "asked",
    [
        "contacts/contact/?consent=in&deleted=yes&q=a&p=1&o=1",
        "organizations/membership/?role__exact=owner",
        "broadcasts/broadcast/?status__exact=draft&o=-1",
        "webhooks/delivery/?status__exact=failed",
    ],
)
def test_a_list_answers_what_it_offers(asked):
    assert signed_in(OrganizationFactory()).get(f"/admin/{asked}").status_code == 200


def test_pages_of_errors_are_for_people():
    agent = browser_of(MembershipFactory(role="agent", user__is_staff=True).user)
    agent.raise_request_exception = False

    assert "There is nothing here" in text(Client().get("/nothing"))
    assert "You may not do that" in text(agent.get("/admin/broadcasts/broadcast/"))
    assert "That request can’t be read" in text(Client().get("/admin/login/", headers={"host": "evil.example"}))


def test_the_page_of_a_fault_tells_nothing_of_it(monkeypatch, caplog):
    shop = OrganizationFactory()
    endpoint = EndpointFactory(organization=shop, secret="whsec_hush")
    owner = signed_in(shop)
    owner.raise_request_exception = False
    monkeypatch.setattr(Endpoint, "__str__", lambda self: self.no_such_thing)

    answer = owner.get(f"/admin/webhooks/endpoint/{endpoint.pk}/change/")

    assert answer.status_code == 500
    assert "it is our fault" in text(answer)
    assert "whsec_hush" not in answer.content.decode() + caplog.text
