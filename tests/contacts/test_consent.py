from datetime import timedelta

import pytest
from django.db import transaction

from contacts import consent
from contacts.consent import Word
from contacts.models import ConsentChange, ConsentSource, Contact, ContactEvent
from tests.contacts.threads import at_once
from tests.factories import EPOCH, ContactFactory, OrganizationFactory, UserFactory

LATER = EPOCH + timedelta(hours=1)
INBOUND, OPERATOR, IMPORT, API = ConsentSource


def summary(contact: Contact) -> tuple:
    contact.refresh_from_db()
    return contact.opted_in, contact.opted_in_at, contact.opt_in_source, contact.opted_out_at, contact.opt_out_source


def history(contact: Contact) -> list[tuple]:
    changes = ConsentChange.objects.filter(contact=contact).order_by("id")
    return list(changes.values_list("opted_in", "source", "proof", "at"))


def events() -> list[tuple]:
    told = ContactEvent.objects.order_by("id")
    return list(told.values_list("organization_id", "kind", "contact_id", "tag_id", "source", "at", "handled_at"))


def never_asked(**fields):
    return ContactFactory(opted_in=False, **fields)


@pytest.mark.parametrize("word", ["STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "QUIT", "END", "sToP"])
def test_stop_and_its_kin_ask_to_be_left_alone(word):
    assert consent.meaning_of(word, OrganizationFactory.build()) is Word.OPT_OUT


@pytest.mark.parametrize("word", ["START", "SUBSCRIBE", "UNSTOP", "Start"])
def test_start_and_its_kin_ask_to_come_back(word):
    assert consent.meaning_of(word, OrganizationFactory.build()) is Word.OPT_IN


@pytest.mark.parametrize(
    "text", [" stop \n", "Stop.", "STOP!!", "\u200bSTOP\ufeff", "“STOP”", "*stop*", "ＳＴＯＰ", "'Stop'.", "stop\ufe0f"]
)
def test_what_surrounds_the_word_does_not_matter(text):
    assert consent.meaning_of(text, OrganizationFactory.build()) is Word.OPT_OUT


@pytest.mark.parametrize(
    "text",
    ["", ".", "stop it", "please stop", "STOP?", "bus stop", "non-stop", "stop stop", "🛑", "st op", "ends", "restart"],
)
def test_only_the_whole_message_counts(text):
    organization = OrganizationFactory.build(opt_out_words=["", "."], opt_in_words=[" "])

    assert consent.meaning_of(text, organization) is None


def test_an_organization_adds_words_of_its_own():
    organization = OrganizationFactory.build(opt_out_words=["रोकें", "No más", "go"], opt_in_words=["JA", "stop", "go"])

    assert consent.meaning_of("रोकें", organization) is Word.OPT_OUT
    assert consent.meaning_of("no  MÁS!", organization) is Word.OPT_OUT
    assert consent.meaning_of("ja", organization) is Word.OPT_IN
    assert consent.meaning_of("stop", organization) is Word.OPT_OUT
    assert consent.meaning_of("go", organization) is Word.OPT_OUT
    assert consent.meaning_of("ja", OrganizationFactory.build()) is None


@pytest.mark.django_db
class TestOptIn:
    def test_it_is_recorded_with_source_and_proof(self):
        user, contact, other = UserFactory(), never_asked(), never_asked()

        assert consent.opt_in([contact.pk], source=OPERATOR, proof="signed form", at=EPOCH, by=user) == [contact.pk]

        assert summary(contact) == (True, EPOCH, "operator", None, "")
        assert contact.opt_in_proof == "signed form"
        assert history(contact) == [(True, "operator", "signed form", EPOCH)]
        change = ConsentChange.objects.get()
        assert (change.by, change.organization) == (user, contact.organization)
        assert summary(other) == (False, None, "", None, "")

    def test_twice_is_once(self):
        contact = never_asked()
        consent.opt_in([contact.pk], source=OPERATOR, proof="first", at=EPOCH)

        assert consent.opt_in([contact.pk, contact.pk], source=API, proof="second", at=LATER) == []

        assert summary(contact) == (True, EPOCH, "operator", None, "")
        assert history(contact) == [(True, "operator", "first", EPOCH)]

    def test_each_contact_may_have_its_own_proof(self):
        one, two = never_asked(), never_asked()

        changed = consent.opt_in(
            [two.pk, one.pk], source=INBOUND, proof={one.pk: "wamid.1", two.pk: "wamid.2"}, at=EPOCH
        )

        assert changed == [one.pk, two.pk]
        assert [history(one), history(two)] == [
            [(True, "inbound", "wamid.1", EPOCH)],
            [(True, "inbound", "wamid.2", EPOCH)],
        ]

    def test_a_proof_too_long_for_its_column_is_cut(self):
        contact = never_asked()

        consent.opt_in([contact.pk], source=API, proof="x" * 300, at=EPOCH)

        contact.refresh_from_db()
        assert contact.opt_in_proof == "x" * 256

    @pytest.mark.parametrize("source", [IMPORT, OPERATOR, API])
    def test_nobody_is_opted_in_against_their_own_word(self, source):
        contact = ContactFactory()
        consent.opt_out([contact.pk], source=INBOUND, proof="wamid.stop", at=EPOCH)

        assert consent.opt_in([contact.pk], source=source, proof="list", at=LATER) == []

        assert summary(contact) == (False, None, "", EPOCH, "inbound")

    def test_their_own_start_brings_them_back(self):
        contact = ContactFactory()
        consent.opt_out([contact.pk], source=INBOUND, proof="wamid.stop", at=EPOCH)

        assert consent.opt_in([contact.pk], source=INBOUND, proof="wamid.start", at=LATER) == [contact.pk]

        assert summary(contact) == (True, LATER, "inbound", None, "")

    def test_an_operator_may_when_it_is_meant(self):
        contact = ContactFactory()
        consent.opt_out([contact.pk], source=INBOUND, proof="wamid.stop", at=EPOCH)

        changed = consent.opt_in([contact.pk], source=OPERATOR, proof="call", at=LATER, against_their_word=True)

        assert changed == [contact.pk]
        assert summary(contact) == (True, LATER, "operator", None, "")

    def test_an_import_can_not_even_mean_it(self):
        with pytest.raises(ValueError, match="never"):
            consent.opt_in([], source=IMPORT, proof="list", at=EPOCH, against_their_word=True)

    @pytest.mark.parametrize("source", [IMPORT, OPERATOR, API])
    def test_what_others_withdrew_an_import_may_give_back(self, source):
        contact = ContactFactory()
        consent.opt_out([contact.pk], source=source, proof="list", at=EPOCH)

        assert consent.opt_in([contact.pk], source=IMPORT, proof="list", at=LATER) == [contact.pk]

    def test_a_start_that_comes_late_does_not_undo_a_newer_stop(self):
        contact = ContactFactory()
        consent.opt_out([contact.pk], source=INBOUND, proof="wamid.stop", at=LATER)

        assert consent.opt_in([contact.pk], source=INBOUND, proof="wamid.start", at=EPOCH) == []

        assert summary(contact)[0] is False


@pytest.mark.django_db
class TestOptInByWriting:
    def test_who_was_never_asked_is_opted_in(self):
        contact = never_asked()

        assert consent.opt_in_by_writing({contact.pk: ("wamid.1", EPOCH)}) == [contact.pk]
        assert history(contact) == [(True, "inbound", "wamid.1", EPOCH)]

    def test_who_is_out_stays_out_whoever_said_so(self):
        contacts = [ContactFactory() for _ in ConsentSource]
        for contact, source in zip(contacts, ConsentSource, strict=True):
            consent.opt_out([contact.pk], source=source, proof="", at=EPOCH)

        assert consent.opt_in_by_writing({contact.pk: ("wamid.1", LATER) for contact in contacts}) == []


@pytest.mark.django_db
class TestOptOut:
    def test_it_is_recorded_and_the_earlier_consent_stays_readable(self):
        contact = never_asked()
        consent.opt_in([contact.pk], source=IMPORT, proof="import a.csv line 2", at=EPOCH)

        assert consent.opt_out([contact.pk], source=INBOUND, proof="wamid.stop", at=LATER) == [contact.pk]

        assert summary(contact) == (False, EPOCH, "import", LATER, "inbound")
        assert history(contact)[1:] == [(False, "inbound", "wamid.stop", LATER)]

    def test_twice_is_once(self):
        contact = ContactFactory()
        consent.opt_out([contact.pk], source=INBOUND, proof="wamid.1", at=EPOCH)

        assert consent.opt_out([contact.pk], source=INBOUND, proof="wamid.2", at=LATER) == []
        assert consent.opt_out([contact.pk], source=IMPORT, proof="list", at=LATER) == []

        assert history(contact) == [(False, "inbound", "wamid.1", EPOCH)]

    def test_somebody_who_never_opted_in_may_opt_out(self):
        contact = never_asked()

        assert consent.opt_out([contact.pk], source=IMPORT, proof="list", at=EPOCH) == [contact.pk]
        assert summary(contact) == (False, None, "", EPOCH, "import")

    def test_their_own_word_takes_the_place_of_ours(self):
        contact = ContactFactory()
        consent.opt_out([contact.pk], source=OPERATOR, proof="", at=EPOCH)

        assert consent.opt_out([contact.pk], source=INBOUND, proof="wamid.stop", at=LATER) == [contact.pk]
        assert consent.opt_in([contact.pk], source=IMPORT, proof="list", at=LATER) == []

    @pytest.mark.parametrize("source", ConsentSource)
    def test_an_event_tells_of_it_whoever_said_so(self, source):
        one, two, other = ContactFactory(), ContactFactory(), ContactFactory()

        consent.opt_out([two.pk, one.pk], source=source, proof="", at=EPOCH)

        assert events() == [
            (one.organization_id, "opted_out", one.pk, None, source, EPOCH, None),
            (two.organization_id, "opted_out", two.pk, None, source, EPOCH, None),
        ]
        assert other.pk not in ContactEvent.objects.values_list("contact_id", flat=True)

    def test_an_event_tells_of_somebody_who_was_never_asked(self):
        contact = never_asked()

        consent.opt_out([contact.pk], source=IMPORT, proof="", at=EPOCH)

        assert [kind for _, kind, *_ in events()] == ["opted_out"]

    def test_no_event_tells_of_who_was_out_before_even_where_their_own_word_replaces_ours(self):
        contact = ContactFactory()
        consent.opt_out([contact.pk], source=OPERATOR, proof="", at=EPOCH)
        before = events()

        consent.opt_out([contact.pk], source=IMPORT, proof="", at=LATER)
        consent.opt_out([contact.pk], source=INBOUND, proof="wamid.stop", at=LATER)

        assert events() == before
        assert len(history(contact)) == 2

    def test_every_opt_out_has_its_event_when_they_had_come_back(self):
        contact = ContactFactory()
        consent.opt_out([contact.pk], source=INBOUND, proof="wamid.1", at=EPOCH)
        consent.opt_in([contact.pk], source=INBOUND, proof="wamid.2", at=EPOCH)
        consent.opt_out([contact.pk], source=INBOUND, proof="wamid.3", at=LATER)

        assert [(kind, at) for _, kind, _, _, _, at, _ in events()] == [("opted_out", EPOCH), ("opted_out", LATER)]

    def test_an_event_is_undone_with_what_it_tells(self):
        contact = ContactFactory()

        with transaction.atomic():
            consent.opt_out([contact.pk], source=API, proof="", at=EPOCH)
            consent.delete([contact.pk], at=EPOCH)
            transaction.set_rollback(True)

        assert events() == []

    def test_it_costs_the_same_however_many(self, django_assert_num_queries):
        contacts = [ContactFactory().pk for _ in range(5)]

        # savepoint; lock, look, write, who listens; whose they are, the audit log; release
        with django_assert_num_queries(8):
            assert consent.opt_out(contacts, source=API, proof="", at=EPOCH) == contacts


@pytest.mark.django_db
class TestMarketing:
    def test_stopping_marketing_leaves_consent_alone(self):
        contact, other = ContactFactory(), ContactFactory()

        assert consent.stop_marketing([contact.pk], at=EPOCH) == [contact.pk]

        contact.refresh_from_db()
        other.refresh_from_db()
        assert (contact.opted_in, contact.marketing_opted_out_at) == (True, EPOCH)
        assert other.marketing_opted_out_at is None
        assert ConsentChange.objects.count() == 0

    def test_a_second_stop_only_moves_the_moment_forward(self):
        contact = ContactFactory()
        for at in (LATER, EPOCH):
            consent.stop_marketing([contact.pk], at=at)

        contact.refresh_from_db()
        assert contact.marketing_opted_out_at == LATER

    def test_an_older_resume_does_not_undo_a_newer_stop(self):
        contact = ContactFactory()
        consent.stop_marketing([contact.pk], at=LATER)

        assert consent.resume_marketing([contact.pk], at=EPOCH) == []
        contact.refresh_from_db()
        assert contact.marketing_opted_out_at == LATER

        assert consent.resume_marketing([contact.pk], at=LATER) == [contact.pk]
        contact.refresh_from_db()
        assert contact.marketing_opted_out_at is None

    @pytest.mark.parametrize("stopped_before", [True, False])
    def test_an_older_stop_does_not_undo_a_newer_resume(self, stopped_before):
        contact = ContactFactory()
        if stopped_before:
            consent.stop_marketing([contact.pk], at=EPOCH)
        consent.resume_marketing([contact.pk], at=LATER)

        assert consent.stop_marketing([contact.pk], at=EPOCH) == []
        contact.refresh_from_db()
        assert (contact.marketing_opted_out_at, contact.marketing_switched_at) == (None, LATER)

        assert consent.stop_marketing([contact.pk], at=LATER) == [contact.pk]

    def test_each_may_have_stopped_at_a_moment_of_their_own(self):
        one, two = ContactFactory(), ContactFactory()
        consent.resume_marketing([one.pk], at=LATER)

        assert consent.stop_marketing([two.pk, one.pk], at={one.pk: EPOCH, two.pk: EPOCH}) == [two.pk]

        one.refresh_from_db()
        two.refresh_from_db()
        assert (one.marketing_opted_out_at, two.marketing_opted_out_at) == (None, EPOCH)


@pytest.mark.django_db
def test_deleting_marks_and_reviving_brings_back_with_history():
    contact, other = ContactFactory(), ContactFactory()
    consent.opt_out([contact.pk], source=INBOUND, proof="wamid.stop", at=EPOCH)

    assert consent.delete([contact.pk], at=EPOCH) == [contact.pk]
    assert consent.delete([contact.pk], at=LATER) == []
    contact.refresh_from_db()
    assert contact.deleted_at == EPOCH

    assert consent.revive([contact.pk, other.pk], at=LATER) == [contact.pk]
    contact.refresh_from_db()
    assert (contact.deleted_at, contact.opt_out_source) == (None, "inbound")
    assert len(history(contact)) == 1


@pytest.mark.django_db
def test_an_event_tells_once_of_every_contact_that_was_deleted(django_assert_num_queries):
    one, two, gone = ContactFactory(), ContactFactory(), ContactFactory(deleted_at=EPOCH)

    # savepoint; lock, write; whose they are, the audit log; release
    with django_assert_num_queries(6):
        assert consent.delete([two.pk, gone.pk, one.pk], at=EPOCH) == [one.pk, two.pk]
    assert consent.delete([one.pk], at=LATER, source=API) == []

    assert events() == [
        (one.organization_id, "deleted", one.pk, None, "operator", EPOCH, None),
        (two.organization_id, "deleted", two.pk, None, "operator", EPOCH, None),
    ]
    consent.revive([one.pk], at=LATER)
    consent.delete([one.pk], at=LATER, source=API)
    assert events()[2:] == [(one.organization_id, "deleted", one.pk, None, "api", LATER, None)]


@pytest.mark.django_db(transaction=True)
def test_two_at_once_delete_a_contact_with_one_event():
    contacts = [ContactFactory().pk for _ in range(20)]

    deleted = at_once(
        lambda: consent.delete(contacts, at=EPOCH),
        lambda: consent.delete(reversed(contacts), at=EPOCH),
    )

    assert sorted(deleted, key=len) == [[], contacts]
    assert [contact for _, _, contact, *_ in events()] == contacts


@pytest.mark.django_db(transaction=True)
def test_two_at_once_opt_a_contact_out_with_one_event():
    contacts = [ContactFactory().pk for _ in range(20)]

    at_once(
        lambda: consent.opt_out(contacts, source=API, proof="", at=EPOCH),
        lambda: consent.opt_out(reversed(contacts), source=INBOUND, proof="", at=EPOCH),
    )

    assert [contact for _, _, contact, *_ in events()] == contacts


@pytest.mark.django_db(transaction=True)
def test_two_at_once_write_one_line_of_history():
    contacts = [never_asked().pk for _ in range(20)]

    changed = at_once(
        lambda: consent.opt_in(contacts, source=API, proof="one", at=EPOCH),
        lambda: consent.opt_in(reversed(contacts), source=API, proof="two", at=EPOCH),
    )

    assert sorted(changed, key=len) == [[], contacts]
    assert ConsentChange.objects.count() == 20
