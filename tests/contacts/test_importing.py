import csv
import json
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command

from contacts import consent, importing
from contacts.csv_files import open_csv
from contacts.import_rows import Columns
from contacts.models import ConsentChange, Contact, ContactEvent, ContactTag, Import, ImportRemark, Tag
from kaanha.lib.errors import Refusal
from tests.contacts.threads import at_once
from tests.factories import EPOCH, ContactFactory, OrganizationFactory, TagFactory, UserFactory

LATER = EPOCH + timedelta(hours=1)
HEADER = "phone,name,email,tags,optedIn\n"
ASHA = '+91 98765 43210,Asha Sample,asha@example.com,"newsletter, VIP",true\n'


@pytest.fixture
def organization(db):
    return OrganizationFactory(slug="sample")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "people.csv"


@pytest.fixture
def load(organization, path):
    """Imports a file of this content."""

    def load(content: str | bytes, *, at=EPOCH, mapping=None, into=organization, **options) -> importing.Summary:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        file = open_csv(path, column=(mapping or {}).get("phone", "phone"))
        return importing.run(into, file, at=at, columns=Columns.of(file.header, mapping or {}), **options)

    return load


def counts(summary) -> tuple[int, ...]:
    """Created, updated, unchanged, rejected, and those with a warning."""
    found = summary.counts()
    assert sum(found[name] for name in ("created", "updated", "unchanged", "rejected")) == found["total"]
    return tuple(found[name] for name in ("created", "updated", "unchanged", "rejected", "warnings"))


def reasons(summary) -> dict[int, str]:
    return {rejection["line"]: rejection["reason"] for rejection in summary.rejections}


def tags_of(contact) -> set[str]:
    return set(ContactTag.objects.filter(contact=contact).values_list("tag__name", flat=True))


def events() -> list[tuple]:
    return list(ContactEvent.objects.order_by("id").values_list("kind", "contact__phone", "tag__name", "source", "at"))


def everything() -> list:
    """All that an import may write."""
    return [
        list(model.objects.order_by("pk").values_list())
        for model in (Contact, ConsentChange, ContactEvent, ContactTag, Tag)
    ]


class TestNewContacts:
    def test_a_new_number_becomes_a_contact_with_consent_tags_and_events(self, load, organization):
        user = UserFactory()
        summary = load(HEADER + ASHA, by=user)

        assert counts(summary) == (1, 0, 0, 0, 0)
        assert summary.tags == {"newsletter": 1, "VIP": 1}
        contact = Contact.objects.get()
        assert (contact.organization, contact.phone, contact.country) == (organization, "+919876543210", "IN")
        assert (contact.name, contact.email) == ("Asha Sample", "asha@example.com")
        assert (contact.opted_in, contact.opted_in_at, contact.opt_in_source) == (True, EPOCH, "import")
        assert contact.opt_in_proof == "import people.csv line 2"
        assert (contact.opted_out_at, contact.opt_out_source, contact.created_at) == (None, "", EPOCH)
        change = ConsentChange.objects.get()
        assert (change.opted_in, change.source, change.proof) == (True, "import", "import people.csv line 2")
        assert (change.at, change.by, change.contact) == (EPOCH, user, contact)
        assert tags_of(contact) == {"newsletter", "VIP"}
        assert [events()[0], set(events()[1:])] == [
            ("created", "+919876543210", None, "import", EPOCH),
            {("tag_added", "+919876543210", name, "import", EPOCH) for name in ("newsletter", "VIP")},
        ]

    @pytest.mark.parametrize(
        ("word", "opted_in", "opted_out_at", "changes"),
        [("", False, None, 0), ("false", False, EPOCH, 1), ("No", False, EPOCH, 1), ("0", False, EPOCH, 1)]
        + [(word, True, None, 1) for word in ("true", "TRUE", "yes", "1")],
    )
    def test_opted_in_may_be_true_false_or_left_open(self, load, word, opted_in, opted_out_at, changes):
        load(f"phone,optedIn\n+919876543210,{word}\n")

        contact = Contact.objects.get()
        assert (contact.opted_in, contact.opted_out_at) == (opted_in, opted_out_at)
        assert ConsentChange.objects.count() == changes

    def test_other_columns_become_attributes(self, load):
        load("City,phone,order number,empty,\nPune,+919876543210,A-7,,x\n")

        assert Contact.objects.get().attributes == {"City": "Pune", "order number": "A-7"}

    def test_columns_may_be_in_any_order_and_case_or_have_other_names(self, load):
        summary = load(
            "Full Name,OPTEDIN,Mobile No,Groups\nAsha,true,+919876543210,vip\n",
            mapping={"phone": "mobile no", "name": "Full Name", "tags": "Groups"},
        )

        assert counts(summary) == (1, 0, 0, 0, 0)
        contact = Contact.objects.get()
        assert (contact.name, contact.opted_in, contact.attributes) == ("Asha", True, {})
        assert tags_of(contact) == {"vip"}

    def test_the_same_number_may_be_in_another_organization(self, load):
        other = OrganizationFactory()
        load(HEADER + ASHA, into=other)
        before = list(Contact.objects.of(other).values())

        assert counts(load(HEADER + ASHA)) == (1, 0, 0, 0, 0)

        assert list(Contact.objects.of(other).values()) == before
        assert Tag.objects.of(other).count() == 2
        assert Contact.objects.count() == 2


class TestAgain:
    def test_a_file_imported_twice_changes_nothing_the_second_time(self, load):
        content = HEADER + ASHA + "+447700900123,No Consent,,,\n+447700900124,Out,bad email,vip,false\n" + ASHA
        assert counts(load(content)) == (3, 0, 0, 1, 2)
        before = everything()

        assert counts(load(content, at=LATER)) == (0, 0, 3, 1, 2)

        assert everything() == before

    def test_what_differs_is_updated_and_empty_cells_erase_nothing(self, load):
        load("phone,name,email,city,shoe\n+919876543210,Asha,asha@example.com,Pune,42\n")

        summary = load("phone,name,email,city,hat\n+919876543210,Asha New,,Delhi,7\n", at=LATER)

        assert counts(summary) == (0, 1, 0, 0, 0)
        contact = Contact.objects.get()
        assert (contact.name, contact.email, contact.updated_at) == ("Asha New", "asha@example.com", LATER)
        assert contact.attributes == {"city": "Delhi", "shoe": "42", "hat": "7"}
        assert events() == [("created", "+919876543210", None, "import", EPOCH)]

    def test_tags_are_added_never_taken_off(self, load, organization):
        load(HEADER + ASHA)

        assert counts(load("phone,tags\n+919876543210,\n")) == (0, 0, 1, 0, 0)
        assert counts(load('phone,tags\n+919876543210,"vip,Newsletter"\n')) == (0, 0, 1, 0, 0)
        summary = load('phone,tags\n+919876543210,"vip, lead"\n', at=LATER)

        assert (counts(summary), summary.tags) == ((0, 1, 0, 0, 0), {"lead": 1})
        assert tags_of(Contact.objects.get()) == {"newsletter", "VIP", "lead"}
        assert events()[-1] == ("tag_added", "+919876543210", "lead", "import", LATER)

    def test_a_deleted_contact_comes_back_and_is_not_new(self, load, organization):
        contact = ContactFactory(organization=organization, phone="+919876543210", name="Old", deleted_at=EPOCH)

        assert counts(load("phone,name\n+919876543210,\n", at=LATER)) == (0, 1, 0, 0, 0)

        contact.refresh_from_db()
        assert (contact.deleted_at, contact.name, events()) == (None, "Old", [])


class TestConsent:
    def imported(self, load, word) -> tuple[Contact, importing.Summary]:
        known = Contact.objects.get()
        summary = load(f"phone,optedIn\n{known.phone},{word}\n", at=LATER)
        known.refresh_from_db()
        return known, summary

    def test_who_was_never_asked_may_be_opted_in(self, load, organization):
        ContactFactory(organization=organization, opted_in=False)

        contact, summary = self.imported(load, "true")

        assert counts(summary) == (0, 1, 0, 0, 0)
        assert (contact.opted_in, contact.opted_in_at) == (True, LATER)
        assert contact.opt_in_proof == "import people.csv line 2"

    def test_false_opts_out(self, load, organization):
        ContactFactory(organization=organization)

        contact, summary = self.imported(load, "false")

        assert counts(summary) == (0, 1, 0, 0, 0)
        assert (contact.opted_in, contact.opted_out_at, contact.opt_out_source) == (False, LATER, "import")
        assert ConsentChange.objects.get().proof == "import people.csv line 2"
        assert events() == [("opted_out", contact.phone, None, "import", LATER)]

    def test_who_opted_out_themselves_stays_out_with_a_warning(self, load, organization):
        known = ContactFactory(organization=organization)
        consent.opt_out([known.pk], source="inbound", proof="wamid.stop", at=EPOCH)

        contact, summary = self.imported(load, "true")

        assert counts(summary) == (0, 0, 1, 0, 1)
        assert (contact.opted_in, contact.opt_out_source, contact.opted_out_at) == (False, "inbound", EPOCH)
        remark = ImportRemark.objects.get()
        assert (remark.rejected, remark.line, remark.row) == (False, 2, [contact.phone, "true"])
        assert remark.reason == "The contact stays opted out: they said so themselves."

    @pytest.mark.parametrize("source", ["import", "operator", "api"])
    def test_what_others_withdrew_can_be_given_back(self, load, organization, source):
        known = ContactFactory(organization=organization)
        consent.opt_out([known.pk], source=source, proof="", at=EPOCH)

        contact, summary = self.imported(load, "true")

        assert (counts(summary), contact.opted_in) == ((0, 1, 0, 0, 0), True)

    @pytest.mark.parametrize(("opted_in", "word"), [(True, ""), (True, "true"), (False, "")])
    def test_otherwise_nothing_changes(self, load, organization, opted_in, word):
        ContactFactory(organization=organization, opted_in=opted_in)

        contact, summary = self.imported(load, word)

        assert (counts(summary), contact.opted_in) == ((0, 0, 1, 0, 0), opted_in)
        assert ConsentChange.objects.count() == 0


class TestRejections:
    @pytest.mark.parametrize(
        ("row", "words"),
        [
            ("9876543210,Asha,,,", "no country code"),
            ("9.19877E+11,Asha,,,", "a spreadsheet has shortened"),
            (",Asha,,,", "The phone number is empty."),
            ("+447700900123,Asha,,,perhaps", "optedIn is 'perhaps'. Write true or false"),
            (f"+447700900123,{'n' * 201},,,", "The name has 201 letters; at most 200"),
            (f"+447700900123,Asha,,{'t' * 101},", "has more than 100 letters"),
            ("+447700900123,As\0ha,,,", "a zero byte"),
            ("+447700900123,Asha", "The row has 2 cells where the header has 5."),
            ("+447700900123,Asha,,vip,lead,true", "The row has 6 cells where the header has 5."),
            ('+447700900123,"Asha,,,', "never closes"),
        ],
    )
    def test_a_bad_row_is_rejected_in_words_and_stops_nobody(self, load, row, words):
        summary = load(f"{HEADER}{ASHA}{row}\n+919876543211,Ravi,,,\n")

        assert counts(summary)[:4] == (2, 0, 0, 1)
        assert list(reasons(summary)) == [3]
        assert words in reasons(summary)[3]
        assert list(Contact.objects.order_by("phone").values_list("name", flat=True)) == ["Asha Sample", "Ravi"]

    def test_bytes_that_are_not_utf_8_cost_their_row(self, load):
        content = "phone,name\n+919876543210,Zoë\n+919876543211,José\n".encode() + b"+919876543212,Zo\xeb\n"

        assert reasons(load(content)) == {4: "The row holds bytes that are not UTF-8. Save the file as CSV UTF-8."}
        assert ImportRemark.objects.get().row == ["+919876543212", "Zo\ufffd"]

    def test_a_row_with_a_bad_address_is_taken_without_it(self, load):
        summary = load(HEADER + "+919876543210,Asha,asha@,,true\n")

        assert counts(summary) == (1, 0, 0, 0, 1)
        assert Contact.objects.get().email == ""
        assert ImportRemark.objects.get().reason == "'asha@' is not an e-mail address; it was left out."

    def test_a_number_that_is_possible_but_not_valid_is_taken_with_a_warning(self, load):
        assert counts(load("phone\n+44 7700 900123\n")) == (1, 0, 0, 0, 1)
        assert "not in use in the numbering plan of GB" in ImportRemark.objects.get().reason

    def test_of_rows_with_one_number_the_first_wins(self, load):
        summary = load(
            "phone,name\n+91 98765 43210,First\n+44 7700 900123,Other\n00919876543210,Second\n(+91) 9876543210,Third\n"
        )

        assert counts(summary) == (2, 0, 0, 2, 1)
        assert reasons(summary) == dict.fromkeys((4, 5), "The same number as in line 2, which was taken.")
        assert Contact.objects.get(phone="+919876543210").name == "First"

    def test_a_rejected_row_leaves_its_number_to_a_later_one(self, load):
        summary = load("phone,optedIn\n+919876543210,perhaps\n+919876543210,true\n")

        assert (counts(summary), list(reasons(summary))) == ((1, 0, 0, 1, 0), [2])

    def test_duplicates_are_found_across_chunks(self, load, monkeypatch):
        monkeypatch.setattr(importing, "CHUNK", 2)
        numbers = [f"+9198765432{n:02}" for n in range(7)]

        summary = load("phone\n" + "\n".join([*numbers, numbers[0], numbers[6]]) + "\n")

        assert counts(summary) == (7, 0, 0, 2, 0)
        assert reasons(summary) == {
            9: "The same number as in line 2, which was taken.",
            10: "The same number as in line 8, which was taken.",
        }

    def test_only_the_first_hundred_rejections_are_listed(self, load):
        summary = load("phone\n" + "x\n" * 150)

        assert (counts(summary)[3], len(summary.rejections)) == (150, 100)
        assert ImportRemark.objects.count() == 150

    @pytest.mark.parametrize(
        ("header", "words"), [(b"phone,na\0me", "holds a zero byte"), (b"phone,na\xefve", "not UTF-8")]
    )
    def test_a_column_whose_name_is_no_text_is_refused(self, load, header, words):
        with pytest.raises(Refusal, match=words):
            load(header + "\n+919876543210,é\n+919876543211,é\n".encode())
        assert Contact.objects.count() == Import.objects.count() == 0

    def test_a_column_that_is_there_twice_or_mapped_to_nothing_is_refused(self, load):
        with pytest.raises(Refusal, match="'name' appears twice"):
            load("phone,name,NAME\n")
        with pytest.raises(Refusal, match="no column 'Full' for name; the file has: 'phone', 'name'"):
            load("phone,name\n", mapping={"name": "Full"})

    @pytest.mark.parametrize("mapping", [{"name": "phone"}, {"phone": "PHONE", "name": "Phone"}])
    def test_a_column_for_two_fields_is_refused(self, load, mapping):
        with pytest.raises(Refusal, match="The column 'phone' is taken for phone and for name: give each its own"):
            load("phone,name\n+919876543210,Asha\n", mapping=mapping)
        assert Contact.objects.count() == Import.objects.count() == 0


class TestRecord:
    def test_the_import_is_kept_with_its_counts(self, load, organization):
        user = UserFactory()
        load(HEADER + ASHA + "x,,,,\n+44 7700 900123,,,,\n", by=user)

        upload = Import.objects.get()
        assert (upload.organization, upload.by, upload.file_name) == (organization, user, "people.csv")
        assert (upload.total, upload.created, upload.updated, upload.unchanged) == (3, 2, 0, 0)
        assert (upload.rejected, upload.warnings, upload.started_at) == (1, 1, EPOCH)
        assert upload.finished_at
        remarks = ImportRemark.objects.filter(upload=upload).order_by("line").values_list("line", "rejected")
        assert list(remarks) == [(3, True), (4, False)]

    def test_a_dry_run_reports_the_same_and_writes_nothing(self, load, organization, monkeypatch):
        monkeypatch.setattr(importing, "CHUNK", 2)
        known = ContactFactory(organization=organization, phone="+919876543211", name="Old", opted_in=False)
        content = HEADER + ASHA + f"{known.phone},New,,lead,true\nx,,,,\n+447700900123,,,,false\n" + ASHA
        before = everything()

        rehearsed = load(content, dry_run=True)
        assert everything() == before
        assert Import.objects.count() == ImportRemark.objects.count() == 0

        summary = load(content)
        assert counts(rehearsed) == counts(summary) == (2, 1, 0, 2, 1)
        assert {**rehearsed.as_json(), "dryRun": False} == summary.as_json()

    def test_the_cost_is_counted_in_chunks_not_in_rows(self, load, django_assert_max_num_queries):
        content = HEADER + "".join(f"+9198765{n:05},Name {n},,vip,true\n" for n in range(300))

        with django_assert_max_num_queries(40):
            load(content)

    def test_the_report_has_every_row_and_no_formulas(self, load, tmp_path):
        report = tmp_path / "report.csv"
        load('phone,name,note\n+91 98765 43210,=1+1,-2\n@x,+SUM(1),fine\n+91 98765 43210,"\tx",\n', report=report)

        with report.open(encoding="utf-8-sig", newline="") as stream:
            lines = list(csv.reader(stream))
        assert lines == [
            ["line", "outcome", "remark", "phone", "name", "note"],
            ["2", "created", "", "+91 98765 43210", "'=1+1", "'-2"],
            [
                "3",
                "rejected",
                "'@x' holds no phone number. Write it as +919876543210.",
                "'@x",
                "'+SUM(1)",
                "fine",
            ],
            ["4", "rejected", "The same number as in line 2, which was taken.", "+91 98765 43210", "'\tx", ""],
        ]
        assert Contact.objects.get().name == "=1+1"

    def test_a_report_that_can_not_be_written_is_refused_before_anything_is(self, load, path, tmp_path):
        with pytest.raises(Refusal, match="can't be written"):
            load(HEADER + ASHA, report=tmp_path / "nowhere" / "report.csv")
        with pytest.raises(Refusal, match="would overwrite"):
            load(HEADER + ASHA, report=path)
        assert Contact.objects.count() == Import.objects.count() == 0
        assert path.read_text() == HEADER + ASHA

    def test_a_report_that_finds_no_room_is_told_in_a_sentence(self, load):
        with pytest.raises(Refusal, match="/dev/full: No space left on device"):
            load(HEADER + ASHA, report=Path("/dev/full"))
        assert Contact.objects.count() == 1


class TestCommand:
    def run(self, *arguments) -> dict:
        out = StringIO()
        call_command("import_contacts", *map(str, arguments), "--json", stdout=out)
        return json.loads(out.getvalue())

    def test_it_answers_with_the_outcome(self, organization, path):
        path.write_text(HEADER + ASHA + "x,Ravi,,,\n")

        assert self.run("sample", path) == {
            "file": "people.csv",
            "total": 2,
            "created": 1,
            "updated": 0,
            "unchanged": 0,
            "rejected": 1,
            "warnings": 0,
            "rejections": [
                {
                    "line": 3,
                    "reason": "'x' holds no phone number. Write it as +919876543210.",
                    "row": ["x", "Ravi", "", "", ""],
                }
            ],
            "tags": {"VIP": 1, "newsletter": 1},
            "dryRun": False,
            "encoding": "utf-8",
            "delimiter": ",",
        }

    def test_it_tells_people(self, organization, path):
        path.write_text(HEADER + ASHA + "x,[bold]Ravi,,,\n" * 12)
        out = StringIO()

        call_command("import_contacts", "sample", str(path), "--dry-run", stdout=out)

        said = out.getvalue()
        assert "people.csv: dry run, nothing was written" in said
        assert "line 3: 'x' holds no phone number." in said
        assert "… and 2 more; --report FILE writes them all." in said

    def test_a_header_alone_is_fine_and_said(self, organization, path):
        path.write_text(HEADER)
        out = StringIO()

        call_command("import_contacts", "sample", str(path), stdout=out)

        assert "has a header but no rows" in out.getvalue()

    def test_its_options_reach_the_import(self, organization, path, tmp_path):
        path.write_bytes("Mobile No;Name\n98765 43210;Zoë\n".encode("cp1252"))
        report = tmp_path / "report.csv"

        options = ["--map", "phone=Mobile No", "NAME=Name", "--encoding", "cp1252", "--default-country", "in"]
        answer = self.run("sample", path, "--delimiter", ";", *options, "--report", report)

        assert (answer["created"], answer["delimiter"], answer["encoding"]) == (1, ";", "cp1252")
        assert Contact.objects.get().name == "Zoë"
        assert "2,created" in report.read_text(encoding="utf-8-sig")

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["nobody", "FILE"], "There is no organization 'nobody'"),
            (["sample", "FILE", "--default-country", "xx"], "There is no country 'xx'"),
            (["sample", "FILE", "--delimiter", "comma-ish"], "is not one character"),
            (["sample", "FILE", "--map", "phone"], "is not FIELD="),
            (["sample", "FILE", "--map", "mobile=x"], "with a field of these: phone, name, email, tags, optedIn"),
            (["sample", "FILE", "--map", "phone=x"], "has no column 'x'"),
        ],
    )
    def test_what_is_asked_wrong_is_refused_and_nothing_written(self, organization, path, arguments, words):
        path.write_text(HEADER + ASHA)

        with pytest.raises(Refusal, match=words):
            self.run(*[path if argument == "FILE" else argument for argument in arguments])

        assert Contact.objects.count() == Import.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_the_same_file_imported_twice_at_once_creates_everybody_once(tmp_path):
    organization = OrganizationFactory()
    path = tmp_path / "people.csv"
    path.write_text(HEADER + "".join(f'+9198765{n:05},Name {n},,"vip, lead",true\n' for n in range(500)))

    def load() -> tuple[int, ...]:
        file = open_csv(path, column="phone")
        return counts(importing.run(organization, file, at=EPOCH, columns=Columns.of(file.header, {})))

    one, two = at_once(load, load)

    assert one[0] + two[0] == 500
    assert (one[3], two[3]) == (0, 0)
    assert Contact.objects.count() == ConsentChange.objects.count() == 500
    assert ContactEvent.objects.count() == 1500
    assert Tag.objects.count() == 2


@pytest.mark.django_db
def test_a_tag_known_in_another_organization_stays_there(load, organization):
    elsewhere = TagFactory(name="vip")

    load("phone,tags\n+919876543210,vip\n")

    assert ContactTag.objects.get().tag != elsewhere


def test_what_an_import_starts_counts_from_when_its_rows_were_taken(load, organization, monkeypatch):
    """Its consent is worth what the file said when it began; the events of its rows are of later."""
    spans = iter([timedelta(), timedelta(seconds=71)])
    monkeypatch.setattr(importing, "_since", lambda started: next(spans))
    monkeypatch.setattr(importing, "CHUNK", 1)

    load("phone,tags,optedIn\n+919876543210,vip,true\n+919876543211,vip,true\n")

    events = ContactEvent.objects.order_by("pk").values_list("kind", "at")
    later = EPOCH + timedelta(seconds=71)
    assert list(events) == [("created", EPOCH), ("tag_added", EPOCH), ("created", later), ("tag_added", later)]
    assert set(Contact.objects.of(organization).values_list("opted_in_at", flat=True)) == {EPOCH}
