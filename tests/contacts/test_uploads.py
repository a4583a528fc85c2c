"""Imports in the background: kept, taken once by whoever is there, gone on with after a crash, and told about."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from contacts import importing, uploads
from contacts.import_admin import ImportAdmin
from contacts.models import ConsentChange, Contact, ContactEvent, Import, ImportFile, ImportPiece
from kaanha.lib.errors import Refusal
from kaanha.organizations.models import AuditEntry, Role
from tests.factories import OrganizationFactory, UserFactory
from tests.people import signed_in, text

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)
CSV = "phone,name,optedIn,city\n+919876543210,Asha,true,Pune\nnonsense,=Bela,true\n"


@pytest.fixture
def shop():
    return OrganizationFactory(name="Shop", timezone="Asia/Kolkata")


@pytest.fixture
def agent(shop):
    return signed_in(shop, Role.AGENT)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(importing, "CHUNK", 2)


def people(count, first=0):
    return "phone,name,optedIn\n" + "".join(f"+9198765{n:05},Person {n},true\n" for n in range(first, first + count))


def kept(shop, content=CSV, **options):
    told = {"by": None, "at": NOW} | options
    return uploads.keep(shop, "people.csv", [content.encode()], **told)


def counts(upload):
    upload.refresh_from_db()
    return {name: getattr(upload, name) for name in ("total", *importing.OUTCOMES)}


def broken_after(monkeypatch, chunks, error):
    """The import breaks off in the transaction of the chunk after so many."""
    taken, left = importing._note, [chunks]

    def note(*args):
        taken(*args)
        left[0] -= 1
        if left[0] < 0:
            raise error

    monkeypatch.setattr(importing, "_note", note)


# --- taking ------------------------------------------------------------------------------------------------------


def test_a_kept_file_writes_nothing_until_it_is_taken_and_is_forgotten_then(shop):
    by = UserFactory()
    upload = kept(shop, by=by)
    assert not Contact.objects.exists()
    assert uploads.waiting(now=NOW) == [upload.pk]

    assert uploads.take(upload.pk, now=NOW)

    assert counts(upload) == {"total": 2, "created": 1, "updated": 0, "unchanged": 0, "rejected": 1}
    assert (upload.finished_at is not None, upload.problem, upload.by) == (True, "", by)
    assert (Contact.objects.get().name, Contact.objects.get().attributes) == ("Asha", {"city": "Pune"})
    assert ConsentChange.objects.get().by == by
    assert not ImportFile.objects.exists()
    assert not ImportPiece.objects.exists()
    assert uploads.waiting(now=NOW) == []
    assert not uploads.take(upload.pk, now=NOW)


def test_a_check_writes_no_contact_and_its_file_stays_for_the_import(shop):
    check = kept(shop, dry_run=True)
    assert uploads.take_waiting(now=NOW) == 1
    assert counts(check) == {"total": 2, "created": 1, "updated": 0, "unchanged": 0, "rejected": 1}
    assert not Contact.objects.exists()
    assert not AuditEntry.objects.exists()

    upload = uploads.again(check, by=None, at=NOW)
    assert uploads.take_waiting(now=NOW) == 1

    assert (counts(upload), upload.dry_run) == (counts(check), False)
    assert Contact.objects.count() == 1
    uploads.drop_files(now=timezone.now() + uploads.KEPT + timedelta(minutes=1))
    assert not ImportFile.objects.exists()
    with pytest.raises(Refusal, match="Upload it once more"):
        uploads.again(check, by=None, at=NOW)


def test_a_file_of_several_pieces_comes_back_as_it_was(shop, monkeypatch):
    monkeypatch.setattr(uploads, "PIECE", 7)
    upload = kept(shop, people(5))
    assert ImportPiece.objects.count() > 10

    uploads.take(upload.pk, now=NOW)

    assert counts(upload)["created"] == 5


# --- crashes -----------------------------------------------------------------------------------------------------


def test_after_a_crash_another_worker_goes_on_where_it_broke_off(shop, small_chunks, monkeypatch):
    """A repeated number is still known to stand in a row that the dead worker took."""
    content = people(5) + "+919876500000,Again,true\n"
    upload = kept(shop, content)
    with monkeypatch.context() as patch:
        broken_after(patch, 1, SystemExit())
        with pytest.raises(SystemExit):
            uploads.take(upload.pk, now=timezone.now())
    assert counts(upload)["total"] == 2
    assert Contact.objects.count() == 2
    assert not uploads.take(upload.pk, now=timezone.now())  # it is leased

    assert uploads.take(upload.pk, now=timezone.now() + uploads.LEASE + timedelta(seconds=5))

    assert counts(upload) == {"total": 6, "created": 5, "updated": 0, "unchanged": 0, "rejected": 1}
    assert [remark.line for remark in upload.remarks.all()] == [7]
    assert "The same number as in line 2" in upload.remarks.get().reason
    assert (Contact.objects.count(), ContactEvent.objects.count(), ConsentChange.objects.count()) == (5, 5, 5)


def test_who_lost_the_lease_writes_no_more_rows(shop, small_chunks, monkeypatch):
    upload = kept(shop, people(6))
    taken, seen = importing._note, []

    def note(*args):
        taken(*args)
        seen.append(1)
        if len(seen) == 2:  # another worker has taken it over
            ImportFile.objects.update(token=1)

    monkeypatch.setattr(importing, "_note", note)

    assert not uploads.take(upload.pk, now=NOW)

    assert counts(upload)["total"] == Contact.objects.count() == 2
    assert ImportFile.objects.get().token != 1  # undone with the chunk
    assert upload.finished_at is None


def test_a_fault_is_tried_three_times_and_then_told(shop, small_chunks, monkeypatch):
    upload = kept(shop, people(4))
    broken_after(monkeypatch, 1, ZeroDivisionError())
    later = timezone.now()
    for turn in range(3):
        assert uploads.take(upload.pk, now=later) == (turn == 2)
        later = timezone.now() + (turn + 1) * 10 * uploads.LEASE

    assert counts(upload)["total"] == 2
    assert upload.problem == uploads.BROKEN
    assert upload.finished_at is not None
    assert uploads.waiting(now=later) == []


def test_a_closed_organization_takes_no_rows(shop):
    upload = kept(shop)
    shop.closed_at = NOW
    shop.save(update_fields=["closed_at"])

    assert uploads.take(upload.pk, now=NOW)

    upload.refresh_from_db()
    assert "closed" in upload.problem
    assert not Contact.objects.exists()
    with pytest.raises(Refusal):
        kept(shop)


def test_a_stopped_import_keeps_what_it_took_and_takes_no_more(shop, small_chunks, monkeypatch):
    upload = kept(shop, people(6))
    with monkeypatch.context() as patch:
        broken_after(patch, 1, SystemExit())
        with pytest.raises(SystemExit):
            uploads.take(upload.pk, now=NOW)

    uploads.stop(upload, at=NOW)

    upload.refresh_from_db()
    assert (upload.finished_at, upload.problem) == (NOW, uploads.STOPPED)
    assert not uploads.take(upload.pk, now=timezone.now() + 2 * uploads.LEASE)
    assert Contact.objects.count() == 2
    with pytest.raises(Refusal, match="ended already"):
        uploads.stop(upload, at=NOW)
    uploads.drop_files(now=timezone.now())
    assert not ImportFile.objects.exists()


# --- in the admin ------------------------------------------------------------------------------------------------


def upload_by(browser, content=CSV, **fields):
    file = SimpleUploadedFile("people.csv", content.encode(), content_type="text/csv")
    return browser.post("/admin/contacts/import/add/", {"file": file, "default_country": "", **fields})


def page(upload, name="change"):
    return f"/admin/contacts/import/{upload.pk}/{name}/"


def test_a_file_is_uploaded_watched_and_reported(agent, shop):
    answer = upload_by(agent)

    done = Import.objects.get()
    assert answer.url == page(done)
    assert "The file waits for a worker" in text(agent.get(answer.url))
    assert "hx-trigger" in agent.get(page(done, "progress")).content.decode()
    uploads.take_waiting(now=timezone.now())

    shown = agent.get(page(done, "progress"))
    assert "hx-trigger" not in shown.content.decode()
    assert "Imported people.csv: 2 rows. 1 Created 0 Updated 0 Unchanged 1 Rejected 0 Warnings" in text(shown)
    assert "3 rejected" in text(shown)
    assert "nonsense" in text(shown)
    done.refresh_from_db()
    assert (done.organization, done.by is not None) == (shop, True)
    assert AuditEntry.objects.get(action="contacts.imported").object_label == str(done)


def test_rejected_rows_are_downloaded_mended_and_uploaded_again(agent):
    upload_by(agent)
    uploads.take_waiting(now=timezone.now())
    done = Import.objects.get()

    content = agent.get(page(done, "rejected")).getvalue().decode("utf-8-sig")

    header, row = content.splitlines()
    assert header == "phone,name,optedIn,city,Why it was rejected"
    assert row.startswith("nonsense,'=Bela,true,,")
    assert AuditEntry.objects.get(action="export.downloaded").details == {"what": "rejected rows"}
    upload_by(agent, content.replace("nonsense", "+919876543219"))
    uploads.take_waiting(now=timezone.now())
    mended = Contact.objects.get(phone="+919876543219")
    assert mended.attributes == {}  # the reason is no attribute


def test_a_check_leads_to_the_import(agent):
    upload_by(agent, _check="1")
    uploads.take_waiting(now=timezone.now())
    check = Import.objects.get()
    shown = text(agent.get(page(check)))
    assert "Checked people.csv: 2 rows. Nothing was written." in shown
    assert "Import it now …" in shown
    assert "The 2 rows of people.csv are imported" in text(agent.get(page(check, "import-checked")))

    answer = agent.post(page(check, "import-checked"))

    made = Import.objects.exclude(pk=check.pk).get()
    assert answer.url == page(made)
    uploads.take_waiting(now=timezone.now())
    assert Contact.objects.count() == 1


def test_an_import_is_stopped_by_hand(agent):
    upload_by(agent)
    done = Import.objects.get()
    assert "0 rows are taken so far and stay." in text(agent.get(page(done, "stop")))

    agent.post(page(done, "stop"))

    shown = text(agent.get(page(done)))
    assert uploads.STOPPED in shown.replace("&#x27;", "'").replace("&#39;", "'")
    assert "Stop …" not in shown


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("name,email\nAsha,a@example.test\n", "phone"),
        ("", "empty"),
        ("PK\x03\x04rest", "Excel workbook"),
        ("phone,name,name\n", "appears twice"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_at_its_field(agent, content, sentence):
    shown = upload_by(agent, content)

    assert shown.status_code == 200
    assert sentence in text(shown)
    assert not Import.objects.exists()


def test_an_unknown_country_is_refused(agent):
    assert "There is no country XX." in text(upload_by(agent, default_country="xx"))


def test_an_import_by_command_says_how_it_goes_on(agent, shop):
    left = Import.objects.create(organization=shop, file_name="people.csv", started_at=NOW, total=5_000)

    assert "A command has taken 5,000 rows so far. If it was interrupted" in text(agent.get(page(left)))


def test_an_import_that_ends_while_its_page_is_made_says_so(agent, monkeypatch):
    """It ends in one transaction with its file. Read before, and the file after, it looked like a command's."""
    upload_by(agent)
    upload = Import.objects.get()
    found = ImportAdmin.found

    def found_before_the_end(self, request, key):
        stale = found(self, request, key)
        uploads.take_waiting(now=timezone.now())
        return stale

    monkeypatch.setattr(ImportAdmin, "found", found_before_the_end)

    assert "Imported people.csv" in text(agent.get(page(upload, "progress")))


def test_progress_costs_the_same_however_many_rows(agent, django_assert_max_num_queries):
    def looked(rows):
        upload_by(agent, people(rows, first=1_000 * rows))
        uploads.take_waiting(now=timezone.now())
        with django_assert_max_num_queries(10) as captured:
            agent.get(page(Import.objects.latest("pk"), "progress"))
        return len(captured)

    assert looked(1) == looked(9)
