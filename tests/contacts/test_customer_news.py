"""What customers' webhooks are told of contacts, from every door that they come in by."""

from datetime import UTC, datetime, timedelta

import pytest

from contacts import adding, arriving, consent, importing
from contacts.csv_files import open_csv
from contacts.import_rows import Columns
from contacts.models import ConsentSource, Contact
from kaanha.webhooks.models import Delivery, Event
from tests.factories import ContactFactory, EndpointFactory, OrganizationFactory, TagFactory
from tests.people import signed_in

pytestmark = pytest.mark.django_db
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = AT + timedelta(hours=1)


@pytest.fixture
def organization():
    organization = OrganizationFactory()
    EndpointFactory(organization=organization)
    return organization


def told():
    """The kinds and phones that were told since the last look."""
    events = [(event.kind, event.data["phone"]) for event in Event.objects.order_by("pk")]
    Event.objects.all().delete()
    return events


def writes(number, wamid="wamid.1", name=""):
    return arriving.Person(number, None, name, wamid, AT)


def import_rows(organization, tmp_path, *lines, **options):
    path = tmp_path / "contacts.csv"
    path.write_text("\n".join(["phone,name,email,tags,optedIn", *lines]))
    file = open_csv(path, column="phone")
    columns = Columns.of(file.header, {})
    return importing.run(organization, file, at=AT, columns=columns, **options)


def test_a_contact_that_is_added_is_told_with_all_that_is_known(organization):
    contact = adding.add(organization, "+919876543210", name="Asha Example", email="asha@example.test", at=AT)

    event = Event.objects.get()
    assert (event.kind, event.organization_id, event.occurred_at) == ("contact.created", organization.pk, AT)
    assert event.data == {
        "contactId": contact.public_id,
        "phone": "+919876543210",
        "name": "Asha Example",
        "email": "asha@example.test",
        "tags": [],
        "attributes": {},
        "optedIn": False,
        "optInSource": "",
        "optInProof": "",
        "optedInAt": None,
        "optedOutAt": None,
    }
    assert Delivery.objects.count() == 1


def test_a_contact_that_comes_back_is_updated_not_created(organization):
    contact = adding.add(organization, "+919876543210", at=AT)
    consent.delete([contact.pk], at=AT)
    told()

    adding.add(organization, "+919876543210", at=LATER)

    assert told() == [("contact.updated", "+919876543210")]


def test_who_writes_first_is_created_and_who_tells_a_name_is_updated(organization):
    arriving.welcome(organization, [writes("919876543210")])
    assert told() == [("contact.created", "+919876543210")]

    arriving.welcome(organization, [writes("919876543210")])
    assert told() == []
    arriving.welcome(organization, [writes("919876543210", name="Asha")])
    assert told() == [("contact.updated", "+919876543210")]


def test_who_was_never_asked_and_writes_has_opted_in(organization):
    ContactFactory(organization=organization, phone="+919876543210", opted_in=False)

    arriving.welcome(organization, [writes("919876543210")])

    assert told() == [("contact.opted_in", "+919876543210")]


def test_consent_is_told_when_it_changes_and_only_then(organization):
    contact = ContactFactory(organization=organization)
    for act, kinds in (
        (consent.opt_in, []),
        (consent.opt_out, ["contact.opted_out"]),
        (consent.opt_out, []),
        (consent.opt_in, ["contact.opted_in"]),
    ):
        act([contact.pk], source=ConsentSource.OPERATOR, proof="", at=AT)
        assert [kind for kind, _ in told()] == kinds


def test_who_says_stop_after_an_operator_did_is_not_told_again(organization):
    contact = ContactFactory(organization=organization)
    consent.opt_out([contact.pk], source=ConsentSource.OPERATOR, proof="", at=AT)
    told()

    assert consent.opt_out([contact.pk], source=ConsentSource.INBOUND, proof="wamid.1", at=LATER) == [contact.pk]

    assert told() == []


def test_an_event_of_consent_says_what_holds_now(organization):
    contact = ContactFactory(organization=organization)
    contact.tags.add(TagFactory(organization=organization, name="vip"), through_defaults={"added_at": AT})
    consent.opt_out([contact.pk], source=ConsentSource.OPERATOR, proof="", at=AT)

    event = Event.objects.get()
    assert (event.data["optedIn"], event.data["optedOutAt"]) == (False, "2026-03-01T12:00:00Z")
    assert event.data["tags"] == ["vip"]


def test_an_import_tells_of_each_row_that_did_something(organization, tmp_path):
    ContactFactory(organization=organization, phone="+919876543211", name="Ravi")
    ContactFactory(organization=organization, phone="+919876543212", name="Same")
    ContactFactory(organization=organization, phone="+919876543213", name="")
    lines = (
        "+919876543210,New,,vip,true",
        "+919876543211,Other,,,",
        "+919876543212,Same,,,",
        "+919876543213,,,,false",
    )

    import_rows(organization, tmp_path, *lines)

    created = Event.objects.get(kind="contact.created")
    assert (created.data["tags"], created.data["optedIn"]) == (["vip"], True)
    assert sorted(told()) == [
        ("contact.created", "+919876543210"),
        ("contact.opted_out", "+919876543213"),
        ("contact.updated", "+919876543211"),
    ]
    import_rows(organization, tmp_path, *lines)
    assert told() == []


def test_a_dry_run_tells_nothing(organization, tmp_path):
    import_rows(organization, tmp_path, "+919876543210,New,,,true", dry_run=True)

    assert (Contact.objects.count(), told()) == (0, [])


def test_nobody_else_hears_of_a_contact(organization):
    stranger = OrganizationFactory()
    adding.add(stranger, "+919876543210", at=AT)

    assert not Event.objects.exists()


def test_a_change_by_hand_is_told(organization):
    contact = ContactFactory(organization=organization, name="Before")
    owner = signed_in(organization)
    address = f"/admin/contacts/contact/{contact.pk}/change/"
    typed = {"phone": contact.phone, "name": "After", "email": "", "new_tags": "", "attributes": "{}"}

    owner.post(address, typed)

    assert told() == [("contact.updated", contact.phone)]
    assert Contact.objects.get().name == "After"
