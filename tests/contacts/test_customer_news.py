"""What customers' webhooks are told of contacts, from every door that they come in by."""

from datetime import UTC, datetime, timedelta

import pytest

from contacts import adding, arriving, consent, editing, importing, tagging
from contacts.csv_files import open_csv
from contacts.import_rows import Columns
from contacts.models import AutoTagRule, ConsentSource, Contact
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


def test_tags_put_on_and_taken_off_in_bulk_are_told_once_for_each_contact_that_changed(organization):
    vip, lead = TagFactory.create_batch(2, organization=organization)
    had, one, two = (ContactFactory(organization=organization) for _ in range(3))
    keys, tags = [had.pk, one.pk, two.pk], [vip.pk, lead.pk]
    tagging.add(organization, [had.pk], tags, source=ConsentSource.API, at=AT)
    told()

    tagging.add(organization, keys, tags, source=ConsentSource.API, at=AT)
    names = Event.objects.filter(data__phone=two.phone).get().data["tags"]
    assert names == sorted([vip.name, lead.name])
    assert told() == [("contact.updated", one.phone), ("contact.updated", two.phone)]

    tagging.remove(organization, keys, [vip.pk], at=LATER)
    assert told() == [("contact.updated", one.phone) for one in (had, one, two)]
    tagging.remove(organization, keys, [vip.pk], at=LATER)
    assert told() == []


def test_tags_in_bulk_cost_one_question_more_where_nobody_listens(django_assert_num_queries):
    organization = OrganizationFactory()
    tag = TagFactory(organization=organization)
    keys = [ContactFactory(organization=organization).pk for _ in range(5)]

    # a savepoint and its release, the tags, who listens
    with django_assert_num_queries(4):
        tagging.add(organization, keys, [tag.pk], source=ConsentSource.API, at=AT)
    with django_assert_num_queries(4):
        tagging.remove(organization, keys, [tag.pk], at=AT)


def test_an_import_tells_of_tags_and_attributes_that_changed_once_for_each_row(organization, tmp_path):
    for digit in range(3):
        ContactFactory(organization=organization, phone=f"+91987654321{digit}", name="Same")
    path = tmp_path / "contacts.csv"
    path.write_text(
        "phone,name,tags,city\n+919876543210,,vip,\n+919876543211,,,Pune\n+919876543212,,,\n+919876543213,New,vip,Pune\n"
    )
    file = open_csv(path, column="phone")

    importing.run(organization, file, at=AT, columns=Columns.of(file.header, {}))

    created = Event.objects.get(kind="contact.created").data
    assert (created["tags"], created["attributes"]) == (["vip"], {"city": "Pune"})
    assert sorted(told()) == [
        ("contact.created", "+919876543213"),
        ("contact.updated", "+919876543210"),
        ("contact.updated", "+919876543211"),
    ]


def test_a_contact_made_with_tags_is_told_once_and_with_them(organization):
    said = {"phone": "+919876543210", "tags": ["vip"], "attributes": {"city": "Pune"}, "opted_in": True}

    editing.create(organization, {**said, "opt_in_proof": "form 7"}, at=AT)

    created, agreed = Event.objects.order_by("pk")
    assert (created.kind, created.data["tags"], created.data["attributes"]) == (
        "contact.created",
        ["vip"],
        {"city": "Pune"},
    )
    assert (agreed.kind, agreed.data["optedIn"]) == ("contact.opted_in", True)


def test_a_tag_that_a_rule_puts_on_is_told(organization):
    contact = ContactFactory(organization=organization)
    AutoTagRule.objects.create(
        organization=organization, text="price", match="contains", tag=TagFactory(organization=organization)
    )

    tagging.auto_tag(organization, [(contact.pk, "what is the price?")], at=AT)

    assert told() == [("contact.updated", contact.phone)]


def test_tags_changed_by_hand_are_told_once(organization):
    contact = ContactFactory(organization=organization, name="Before")
    kept, off = TagFactory.create_batch(2, organization=organization)
    tagging.add(organization, [contact.pk], [kept.pk, off.pk], source=ConsentSource.API, at=AT)
    told()
    owner = signed_in(organization)
    typed = {"phone": contact.phone, "email": "", "attributes": "{}", "held_tags": [kept.pk]}

    owner.post(f"/admin/contacts/contact/{contact.pk}/change/", {**typed, "name": "After", "new_tags": "vip"})

    assert Event.objects.get().data["tags"] == sorted([kept.name, "vip"])
    assert told() == [("contact.updated", contact.phone)]
