from datetime import timedelta

import pytest

from contacts import consent, tagging
from contacts.arriving import Person, welcome
from contacts.models import ConsentChange, ConsentSource, Contact, ContactEvent, ContactTag
from tests.contacts.threads import at_once
from tests.factories import EPOCH, ContactFactory, OrganizationFactory, TagFactory

LATER = EPOCH + timedelta(hours=1)


@pytest.fixture
def organization(db):
    return OrganizationFactory()


def writes(
    wa_id: str | None = "919876543210", *, user_id: str | None = None, name="Asha", wamid="wamid.1", at=EPOCH
) -> Person:
    return Person(wa_id=wa_id, user_id=user_id, name=name, wamid=wamid, at=at)


def only(organization) -> Contact:
    return Contact.objects.of(organization).get()


def events() -> list[tuple]:
    return list(
        ContactEvent.objects.order_by("id").values_list("organization_id", "kind", "contact_id", "source", "at")
    )


def history(contact) -> list[tuple]:
    changes = ConsentChange.objects.filter(contact=contact).order_by("id")
    return list(changes.values_list("organization_id", "opted_in", "source", "proof", "at"))


class TestUnknownSenders:
    def test_a_stranger_becomes_a_contact_opted_in_by_the_message(self, organization):
        found = welcome(organization, [writes(user_id="IN.1", name="आशा")])

        contact = only(organization)
        assert found == {"wamid.1": contact.pk}
        assert (contact.phone, contact.country, contact.wa_id) == ("+919876543210", "IN", None)
        assert (contact.user_id, contact.name, contact.created_at) == ("IN.1", "आशा", EPOCH)
        assert (contact.opted_in, contact.opted_in_at) == (True, EPOCH)
        assert (contact.opt_in_source, contact.opt_in_proof) == ("inbound", "wamid.1")
        assert history(contact) == [(organization.pk, True, "inbound", "wamid.1", EPOCH)]
        assert events() == [(organization.pk, "created", contact.pk, "inbound", EPOCH)]

    def test_a_person_who_hides_the_number_is_known_by_user_id(self, organization):
        found = welcome(organization, [writes(None, user_id="IN.1")])

        contact = only(organization)
        assert found == {"wamid.1": contact.pk}
        assert (contact.phone, contact.country, contact.user_id) == (None, "", "IN.1")

    def test_several_messages_of_one_person_are_one_contact_proven_by_the_first(self, organization):
        found = welcome(
            organization,
            [
                writes(wamid="wamid.2", at=LATER, user_id="IN.1"),
                writes(wamid="wamid.1", at=EPOCH),
                writes(None, wamid="wamid.3", at=LATER, user_id="IN.1"),
            ],
        )

        contact = only(organization)
        assert found == {f"wamid.{n}": contact.pk for n in (1, 2, 3)}
        assert (contact.opt_in_proof, contact.user_id) == ("wamid.1", "IN.1")
        assert len(events()) == len(history(contact)) == 1
        assert Contact.objects.count() == 1

    def test_without_any_usable_id_nobody_is_created(self, organization):
        found = welcome(
            organization,
            [writes(None), writes("", wamid="wamid.2"), writes("12ab", wamid="wamid.3"), writes("1" * 16, wamid="w.4")],
        )

        assert found == {}
        assert Contact.objects.count() == 0

    def test_a_name_that_does_not_fit_is_cut(self, organization):
        welcome(organization, [writes(name="\0" + "n" * 300)])

        assert only(organization).name == "n" * 200

    def test_the_same_person_may_be_a_contact_of_several_organizations(self, organization):
        other = OrganizationFactory()
        elsewhere = welcome(other, [writes(user_id="IN.1")])
        here = welcome(organization, [writes(user_id="IN.1")])

        assert here != elsewhere
        assert (only(organization).phone, only(other).phone) == ("+919876543210", "+919876543210")

    def test_mexican_and_brazilian_ids_become_the_numbers_that_people_import(self, organization):
        welcome(organization, [writes("5215512345678"), writes("551187654321", wamid="wamid.2")])

        assert list(Contact.objects.order_by("phone").values_list("phone", "wa_id", "country")) == [
            ("+525512345678", "5215512345678", "MX"),
            ("+5511987654321", "551187654321", "BR"),
        ]

    def test_the_cost_does_not_grow_with_the_number_of_senders(self, organization, django_assert_num_queries):
        people = [writes(f"9198765432{n:02}", wamid=f"wamid.{n}", user_id=f"IN.{n}") for n in range(30)]

        # savepoint; find, create, who listens, find; release
        with django_assert_num_queries(6):
            assert len(welcome(organization, people)) == 30
        # savepoint; find; release
        with django_assert_num_queries(3):
            assert len(welcome(organization, people)) == 30


class TestKnownSenders:
    def test_an_imported_contact_is_found_and_nothing_is_created(self, organization):
        contact = ContactFactory(organization=organization, phone="+919876543210", name="Asha Example")
        ContactFactory(phone="+919876543210")

        assert welcome(organization, [writes(name="asha ✨")]) == {"wamid.1": contact.pk}

        contact.refresh_from_db()
        assert contact.name == "Asha Example"
        assert events() == []
        assert history(contact) == []

    @pytest.mark.parametrize(
        ("stored", "wa_id"),
        [
            ("+525512345678", "5215512345678"),
            ("+5511987654321", "551187654321"),
            ("+5491112345678", "5491112345678"),
            ("+541112345678", "5491112345678"),
        ],
    )
    def test_a_number_that_whatsapp_spells_differently_is_found(self, organization, stored, wa_id):
        contact = ContactFactory(organization=organization, phone=stored)

        assert welcome(organization, [writes(wa_id)]) == {"wamid.1": contact.pk}

        contact.refresh_from_db()
        assert contact.phone == stored
        assert contact.wa_id == (None if stored == f"+{wa_id}" else wa_id)

    def test_a_wa_id_learned_from_sending_is_found(self, organization):
        contact = ContactFactory(organization=organization, phone="+15550001111", wa_id="15550002222")

        assert welcome(organization, [writes("15550002222")]) == {"wamid.1": contact.pk}

        contact.refresh_from_db()
        assert (contact.phone, contact.wa_id) == ("+15550001111", "15550002222")

    def test_who_was_never_asked_is_opted_in_by_writing(self, organization):
        contact = ContactFactory(organization=organization, phone="+919876543210", opted_in=False)

        welcome(organization, [writes(wamid="wamid.2", at=LATER), writes(wamid="wamid.1", at=EPOCH)])

        contact.refresh_from_db()
        assert (contact.opted_in, contact.opt_in_source, contact.opt_in_proof) == (True, "inbound", "wamid.1")
        assert history(contact) == [(organization.pk, True, "inbound", "wamid.1", EPOCH)]
        assert events() == []

    @pytest.mark.parametrize("source", ConsentSource)
    def test_who_opted_out_stays_out(self, organization, source):
        contact = ContactFactory(organization=organization, phone="+919876543210")
        consent.opt_out([contact.pk], source=source, proof="", at=EPOCH)

        welcome(organization, [writes(at=LATER)])

        contact.refresh_from_db()
        assert (contact.opted_in, len(history(contact))) == (False, 1)

    def test_the_deleted_come_back_and_are_not_new(self, organization):
        contact = ContactFactory(organization=organization, phone="+919876543210", deleted_at=EPOCH)

        assert welcome(organization, [writes(at=LATER)]) == {"wamid.1": contact.pk}

        contact.refresh_from_db()
        assert (contact.deleted_at, contact.opted_in) == (None, True)
        assert events() == []

    def test_a_deleted_contact_who_opted_out_comes_back_opted_out(self, organization):
        contact = ContactFactory(organization=organization, phone="+919876543210", deleted_at=EPOCH)
        consent.opt_out([contact.pk], source="inbound", proof="", at=EPOCH)

        welcome(organization, [writes(at=LATER)])

        contact.refresh_from_db()
        assert (contact.deleted_at, contact.opted_in) == (None, False)

    def test_a_missing_name_is_taken_from_the_profile(self, organization):
        contact = ContactFactory(organization=organization, phone="+919876543210", name="")

        welcome(organization, [writes(name="Asha")])

        contact.refresh_from_db()
        assert contact.name == "Asha"


class TestUserIds:
    def test_the_user_id_is_kept_and_finds_the_contact_when_the_number_is_hidden(self, organization):
        contact = ContactFactory(organization=organization, phone="+919876543210")

        welcome(organization, [writes(user_id="IN.1")])

        assert welcome(organization, [writes(None, user_id="IN.1", wamid="wamid.2")]) == {"wamid.2": contact.pk}

    def test_a_number_shown_later_is_kept(self, organization):
        welcome(organization, [writes(None, user_id="IN.1")])

        welcome(organization, [writes(user_id="IN.1", wamid="wamid.2", at=LATER)])

        contact = only(organization)
        assert (contact.phone, contact.country, contact.user_id) == ("+919876543210", "IN", "IN.1")
        assert len(events()) == 1

    def test_a_new_user_id_takes_the_place_of_the_old_one(self, organization):
        contact = ContactFactory(organization=organization, phone="+919876543210", user_id="IN.old")

        welcome(organization, [writes(user_id="IN.new")])

        contact.refresh_from_db()
        assert contact.user_id == "IN.new"

    def test_a_user_id_of_somebody_with_another_number_stays_there(self, organization):
        contact = ContactFactory(organization=organization, phone="+919876543210")
        other = ContactFactory(organization=organization, phone="+447700900123", user_id="IN.1")

        assert welcome(organization, [writes(user_id="IN.1")]) == {"wamid.1": contact.pk}

        contact.refresh_from_db()
        other.refresh_from_db()
        assert (contact.user_id, other.user_id) == (None, "IN.1")

    def test_an_unknown_number_with_a_known_user_id_is_the_known_person(self, organization):
        contact = ContactFactory(organization=organization, phone="+447700900123", user_id="IN.1")

        assert welcome(organization, [writes(user_id="IN.1")]) == {"wamid.1": contact.pk}

        assert only(organization).phone == "+447700900123"

    def test_two_rows_that_turn_out_to_be_one_person_are_united_with_their_refusals(self, organization):
        contact = ContactFactory(organization=organization, phone="+919876543210")
        welcome(organization, [writes(None, user_id="IN.1", wamid="wamid.0")])
        twin = Contact.objects.get(user_id="IN.1")
        tag = TagFactory(organization=organization)
        tagging.add(organization, [twin.pk], [tag.pk], source="api", at=EPOCH)
        consent.opt_out([twin.pk], source="inbound", proof="wamid.stop", at=EPOCH)
        consent.stop_marketing([twin.pk], at=EPOCH)
        before = events()

        assert welcome(organization, [writes(user_id="IN.1", at=LATER)]) == {"wamid.1": contact.pk}

        contact.refresh_from_db()
        twin.refresh_from_db()
        assert (contact.user_id, contact.opted_in, contact.opt_out_source) == ("IN.1", False, "inbound")
        assert contact.marketing_opted_out_at == EPOCH
        assert (twin.user_id, twin.deleted_at) == (f"united:{twin.pk}", LATER)
        assert ContactTag.objects.filter(contact=contact, tag=tag).exists()
        # Nobody put the tag on now; the refusal went over, and the twin is no more.
        assert events()[len(before) :] == [
            (organization.pk, "opted_out", contact.pk, "inbound", EPOCH),
            (organization.pk, "deleted", twin.pk, "inbound", LATER),
        ]
        assert welcome(organization, [writes(None, user_id="IN.1", wamid="wamid.2")]) == {"wamid.2": contact.pk}

    def test_who_resumed_our_marketing_without_a_number_has_resumed_it_with_one(self, organization):
        contact = ContactFactory(organization=organization, phone="+919876543210")
        welcome(organization, [writes(None, user_id="IN.1", wamid="wamid.0")])
        consent.stop_marketing([contact.pk], at=EPOCH)
        consent.resume_marketing([Contact.objects.get(user_id="IN.1").pk], at=LATER)

        welcome(organization, [writes(user_id="IN.1", at=LATER)])

        contact.refresh_from_db()
        assert (contact.marketing_opted_out_at, contact.marketing_switched_at) == (None, LATER)


@pytest.mark.django_db(transaction=True)
def test_two_workers_with_the_same_strangers_create_each_once():
    organization = OrganizationFactory()
    people = [writes(f"9198765432{n:02}", user_id=f"IN.{n}", wamid=f"wamid.{n}") for n in range(40)]

    one, two = at_once(lambda: welcome(organization, people), lambda: welcome(organization, people[::-1]))

    assert one == two
    assert len(set(one.values())) == Contact.objects.count() == 40
    assert len(events()) == ConsentChange.objects.count() == 40


@pytest.mark.django_db(transaction=True)
def test_two_workers_learning_about_the_same_people_agree():
    organization = OrganizationFactory()
    for n in range(30):
        ContactFactory(organization=organization, phone=f"+9198765432{n:02}", opted_in=False, deleted_at=EPOCH)
    people = [writes(f"9198765432{n:02}", user_id=f"IN.{n}", wamid=f"wamid.{n}") for n in range(30)]

    one, two = at_once(lambda: welcome(organization, people), lambda: welcome(organization, people[::-1]))

    assert one == two
    assert ConsentChange.objects.count() == 30
    assert set(Contact.objects.values_list("user_id", flat=True)) == {f"IN.{n}" for n in range(30)}
