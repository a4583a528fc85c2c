"""`POST /api/sequences/enroll`: one contact or a list, each enrolled once or rejected with a reason."""

from datetime import UTC, datetime

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contacts.models import Contact, ContactTag
from kaanha.lib import public_ids
from kaanha.organizations.models import Role
from sequences.enrolling import SENTENCES
from sequences.models import Enrollment, Sequence, Status, Step
from tests.callers import Caller, error
from tests.contacts.threads import at_once
from tests.factories import ContactFactory, OrganizationFactory, PhoneNumberFactory, TagFactory

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
ADDRESS = "/api/sequences/enroll"
NEVER = 10**12

pytestmark = pytest.mark.django_db


def published(organization, status=Status.ACTIVE, **columns):
    """A sequence with a revision of one delay."""
    sequence = Sequence.objects.create(
        organization=organization,
        name="Welcome",
        status=status,
        phone_number=PhoneNumberFactory(organization=organization),
        **columns,
    )
    revision = sequence.revisions.create(
        organization=organization, number=1, tree=[], phone_number=sequence.phone_number, published_at=NOW
    )
    Step.objects.create(
        revision=revision, key="wait", place="1", position=0, kind=Step.Kind.DELAY, spec={"delay": {"days": 1}}
    )
    return sequence


@pytest.fixture
def organization():
    return OrganizationFactory()


@pytest.fixture
def sequence(organization):
    return published(organization)


@pytest.fixture
def api(organization):
    return Caller(organization)


def contact_of(organization, **columns):
    return ContactFactory(organization=organization, **columns)


def enrolled(sequence):
    return list(Enrollment.objects.filter(sequence=sequence).order_by("contact").values_list("contact", flat=True))


def rejected(given, code, contact=None):
    known = {"contactId": contact.public_id} if contact else {}
    return {"contact": given, "status": "rejected", "code": code, "message": SENTENCES[code], **known}


# --- one contact -------------------------------------------------------------------------------------------------


@time_machine.travel(NOW, tick=False)
@pytest.mark.parametrize("address", [ADDRESS, f"{ADDRESS}/"])
def test_a_contact_is_enrolled_by_its_id(organization, sequence, api, address):
    contact = contact_of(organization)

    response = api.post(address, {"sequenceId": sequence.public_id, "contactId": contact.public_id})

    enrollment = Enrollment.objects.get()
    assert response.status_code == 201
    assert response.json() == {
        "status": "enrolled",
        "enrollmentId": enrollment.public_id,
        "contactId": contact.public_id,
        "sequenceId": sequence.public_id,
    }
    assert (enrollment.sequence, enrollment.contact, enrollment.source) == (sequence, contact, "api")
    assert enrollment.enrolled_at == NOW


@pytest.mark.parametrize("written", ["+919876543210", "+91 98765-43210", " 00919876543210", "919876543210"])
def test_a_contact_is_enrolled_by_its_phone_however_it_is_written(organization, sequence, api, written):
    contact = contact_of(organization, phone="+919876543210")

    response = api.post(ADDRESS, {"sequenceId": sequence.public_id, "phone": written})

    assert (response.status_code, response.json()["contactId"]) == (201, contact.public_id)
    assert enrolled(sequence) == [contact.pk]


def test_null_is_as_good_as_nothing(organization, sequence, api):
    contact = contact_of(organization)
    body = {"sequenceId": sequence.public_id, "contactId": contact.public_id, "phone": None, "contacts": None}

    assert api.post(ADDRESS, body).status_code == 201


def test_a_second_time_is_a_conflict(organization, sequence, api):
    contact = contact_of(organization, phone="+919876543210")
    body = {"sequenceId": sequence.public_id, "contactId": contact.public_id}
    api.post(ADDRESS, body)

    again = api.post(ADDRESS, body)

    assert error(again) == (409, "already_enrolled")
    assert again.json()["error"]["message"] == SENTENCES["already_enrolled"]
    assert error(api.post(ADDRESS, {"sequenceId": sequence.public_id, "phone": contact.phone})) == error(again)
    assert enrolled(sequence) == [contact.pk]


def test_who_has_not_opted_in_is_not_enrolled(organization, sequence, api):
    contact = contact_of(organization, opted_in=False)

    response = api.post(ADDRESS, {"sequenceId": sequence.public_id, "contactId": contact.public_id})

    assert error(response) == (422, "not_opted_in")
    assert enrolled(sequence) == []


def test_who_holds_the_exit_tag_is_not_enrolled(organization, api):
    contact, tag = contact_of(organization), TagFactory(organization=organization)
    ContactTag.objects.create(contact=contact, tag=tag, added_at=NOW)
    sequence = published(organization, exit_tag=tag)

    response = api.post(ADDRESS, {"sequenceId": sequence.public_id, "contactId": contact.public_id})

    assert error(response) == (422, "exit_tag")
    assert enrolled(sequence) == []


@pytest.mark.parametrize("status", [Status.DRAFT, Status.PAUSED, Status.ARCHIVED])
def test_a_sequence_that_is_not_active_takes_nobody(organization, api, status):
    sequence, contact = published(organization, status), contact_of(organization)

    for whom in ({"contactId": contact.public_id}, {"contacts": [contact.public_id]}, {"contacts": ["nonsense"]}):
        response = api.post(ADDRESS, {"sequenceId": sequence.public_id, **whom})
        assert error(response) == (409, "sequence_not_active")

    assert enrolled(sequence) == []


@pytest.mark.parametrize("phone", ["98765", "+91 98765", "not a phone", "+999123456789", "+" * 100_000])
def test_a_phone_that_can_not_be_read_says_why(sequence, api, phone):
    response = api.post(ADDRESS, {"sequenceId": sequence.public_id, "phone": phone})

    assert error(response) == (422, "invalid_phone")


def test_a_contact_that_is_missing_deleted_or_anothers_is_equally_unknown(organization, sequence, api):
    foreign, deleted = ContactFactory(phone="+919876543210"), contact_of(organization, deleted_at=NOW)
    answers = [
        api.post(ADDRESS, {"sequenceId": sequence.public_id, **whom})
        for whom in (
            {"contactId": foreign.public_id},
            {"contactId": deleted.public_id},
            {"contactId": public_ids.encode("ct", NEVER)},
            {"contactId": sequence.public_id},
            {"contactId": str(foreign.pk)},
            {"contactId": "ct_" + "a" * 22 + "ﬃ" * 4},
            {"contactId": "ct_🙂"},
            {"phone": foreign.phone},
            {"phone": deleted.phone},
            {"phone": "+919876500000"},
        )
    ]

    assert {error(answer) for answer in answers} == {(404, "contact_not_found")}
    assert len({answer.content for answer in answers}) == 1
    assert not Enrollment.objects.exists()


def test_a_sequence_that_is_missing_or_anothers_is_equally_unknown(organization, api):
    foreign, contact = published(OrganizationFactory()), contact_of(organization)
    answers = [
        api.post(ADDRESS, {"sequenceId": sequence, **whom})
        for sequence in (foreign.public_id, public_ids.encode("seq", NEVER), contact.public_id, str(foreign.pk), "seq_")
        for whom in ({"contactId": contact.public_id}, {"contacts": [contact.public_id]}, {"phone": "not a phone"})
    ]

    assert {error(answer) for answer in answers} == {(404, "sequence_not_found")}
    assert len({answer.content for answer in answers}) == 1
    assert not Enrollment.objects.exists()


# --- a list ------------------------------------------------------------------------------------------------------


def test_a_list_has_a_result_for_each_in_its_order(organization, sequence, api):
    first, second = contact_of(organization), contact_of(organization, phone="+919876543210")
    silent = contact_of(organization, opted_in=False)
    inside = contact_of(organization)
    api.post(ADDRESS, {"sequenceId": sequence.public_id, "contactId": inside.public_id})
    foreign, deleted = ContactFactory(), contact_of(organization, deleted_at=NOW)

    response = api.post(
        ADDRESS,
        {
            "sequenceId": sequence.public_id,
            "contacts": [
                {"phone": "+91 98765 43210"},
                silent.phone,
                first.public_id,
                {"id": inside.public_id},
                foreign.public_id,
                {"phone": deleted.phone},
                "+919876500000",
            ],
        },
    )

    of = {one.contact_id: one.public_id for one in Enrollment.objects.filter(sequence=sequence)}
    assert response.status_code == 200
    assert response.json() == {
        "sequenceId": sequence.public_id,
        "enrolled": 2,
        "rejected": 5,
        "results": [
            {
                "contact": {"phone": "+91 98765 43210"},
                "contactId": second.public_id,
                "status": "enrolled",
                "enrollmentId": of[second.pk],
            },
            rejected(silent.phone, "not_opted_in", silent),
            {
                "contact": first.public_id,
                "contactId": first.public_id,
                "status": "enrolled",
                "enrollmentId": of[first.pk],
            },
            rejected({"id": inside.public_id}, "already_enrolled", inside),
            rejected(foreign.public_id, "contact_not_found"),
            rejected({"phone": deleted.phone}, "contact_not_found"),
            rejected("+919876500000", "contact_not_found"),
        ],
    }
    assert enrolled(sequence) == sorted([first.pk, second.pk, inside.pk])


def test_whoever_is_named_twice_is_enrolled_once(organization, sequence, api):
    contact = contact_of(organization, phone="+919876543210")
    named = [contact.public_id, contact.public_id, {"phone": "+919876543210"}, "919876543210"]

    told = api.post(ADDRESS, {"sequenceId": sequence.public_id, "contacts": named}).json()

    assert (told["enrolled"], told["rejected"]) == (1, 3)
    assert [result["status"] for result in told["results"]] == ["enrolled", "rejected", "rejected", "rejected"]
    assert told["results"][1:] == [rejected(name, "already_enrolled", contact) for name in named[1:]]
    assert enrolled(sequence) == [contact.pk]


def test_a_phone_in_the_list_that_can_not_be_read_stops_nobody_else(organization, sequence, api):
    contact = contact_of(organization)

    told = api.post(ADDRESS, {"sequenceId": sequence.public_id, "contacts": ["98765", "", contact.phone]}).json()

    assert [result.get("code") for result in told["results"]] == ["invalid_phone", "invalid_phone", None]
    assert told["results"][0] == {
        "contact": "98765",
        "status": "rejected",
        "code": "invalid_phone",
        "message": "'98765' has no country code. Put + and the country code in front, such as +91 for India.",
    }
    assert enrolled(sequence) == [contact.pk]


def test_a_list_of_nobody_we_know_is_answered_like_every_list(sequence, api):
    told = api.post(ADDRESS, {"sequenceId": sequence.public_id, "contacts": ["nonsense", "ct_nonsense"]}).json()

    assert [result["code"] for result in told["results"]] == ["invalid_phone", "contact_not_found"]


def test_a_thousand_cost_as_many_queries_as_one(organization, sequence, api):
    ContactFactory.create_batch(2, organization=organization)
    Contact.objects.bulk_create(
        Contact(organization=organization, phone=f"+91900000{number:04}", opted_in=True) for number in range(999)
    )
    one, *others = Contact.objects.order_by("pk")
    api.get(ADDRESS)  # notes that the key was used

    def cost(contacts):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            answer = api.post(ADDRESS, {"sequenceId": sequence.public_id, "contacts": contacts})
        assert answer.json()["enrolled"] == len(contacts)
        return [query["sql"].split()[0] for query in queries]

    few = cost([one.phone])
    many = cost([person.public_id if person.pk % 2 else person.phone for person in others])

    assert len(others) == 1_000
    assert many == few
    assert few[:3] == ["SELECT", "SELECT", "SELECT"]  # the key with its organization, the sequence, the phones
    assert len(few) <= 13  # the rest is the law's


# --- what is asked -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "whom", [{}, {"contactId": "ct_x", "phone": "+919876543210"}, {"phone": "+919876543210", "contacts": ["ct_x"]}]
)
def test_exactly_one_way_of_naming_is_taken(sequence, api, whom):
    response = api.post(ADDRESS, {"sequenceId": sequence.public_id, **whom})

    assert error(response) == (422, "invalid")
    assert response.json()["error"] == {
        "code": "invalid",
        "message": "Send exactly one of contactId, phone and contacts.",
    }


@pytest.mark.parametrize(
    ("contacts", "sentence"),
    [
        ([], "The list is empty. Name 1 to 1,000 contacts."),
        (["ct_x"] * 1_001, "The list names 1,001 contacts. Send at most 1,000 in one request."),
        ("ct_x", "Write a list of 1 to 1,000 contacts."),
        ({"0": "ct_x"}, "Write a list of 1 to 1,000 contacts."),
        (7, "Write a list of 1 to 1,000 contacts."),
    ],
)
def test_a_list_has_one_to_a_thousand_contacts(sequence, api, contacts, sentence):
    response = api.post(ADDRESS, {"sequenceId": sequence.public_id, "contacts": contacts})

    assert error(response) == (422, "invalid")
    assert response.json()["error"]["message"] == f"contacts: {sentence}"
    assert response.json()["error"]["fields"] == {"contacts": [sentence]}


@pytest.mark.parametrize(
    "entry",
    [
        None,
        7,
        919876543210,
        True,
        [],
        ["ct_x"],
        {},
        {"id": 7},
        {"phone": None},
        {"id": "ct_x", "phone": "+91"},
        {"ID": "x"},
    ],
)
def test_an_entry_that_names_nobody_stops_the_request_with_its_place(organization, sequence, api, entry):
    contact = contact_of(organization)

    response = api.post(ADDRESS, {"sequenceId": sequence.public_id, "contacts": [contact.public_id, entry]})

    assert error(response) == (422, "invalid")
    assert response.json()["error"]["fields"] == {
        "contacts.1": ['Write an id, a phone, {"id": "ct_…"} or {"phone": "+91…"}.']
    }
    assert enrolled(sequence) == []


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["sequenceId"]),
        ({"sequenceId": None, "phone": "+919876543210"}, ["sequenceId"]),
        ({"sequenceId": 7, "contactId": 7, "phone": {}}, ["sequenceId", "contactId", "phone"]),
        ({"sequenceId": "seq_x", "contactID": "ct_x"}, ["contactID"]),
        ({"sequence_id": "seq_x", "phone": "+919876543210"}, ["sequence_id"]),
    ],
)
def test_members_that_do_not_fit_are_named(api, body, fields):
    response = api.post(ADDRESS, body)

    assert error(response) == (422, "invalid")
    assert list(response.json()["error"]["fields"]) == fields


@pytest.mark.parametrize("body", [b"[]", b"null", b'"x"', b"7", b""])
def test_a_body_that_is_no_object_is_refused(api, body):
    assert error(api.post(ADDRESS, body)) == (422, "invalid")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contacts=st.lists(JSON, max_size=4) | JSON, phone=st.none() | st.text() | JSON, known=st.booleans())
def test_nothing_that_is_sent_breaks_it(sequence, api, contacts, phone, known):
    whom = {"contacts": contacts} if phone is None else {"phone": phone}
    body = {"sequenceId": sequence.public_id if known else contacts, **whom}

    assert api.post(ADDRESS, body).status_code in (200, 400, 404, 422)


# --- who asks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "status"), [(Role.OWNER, 201), (Role.ADMIN, 201), (Role.AGENT, 403), (Role.VIEWER, 403)]
)
def test_enrolling_takes_a_role_that_may_change_campaigns(organization, sequence, role, status):
    body = {"sequenceId": sequence.public_id, "contactId": contact_of(organization).public_id}

    assert Caller(organization, role).post(ADDRESS, body).status_code == status
    assert len(enrolled(sequence)) == (1 if status == 201 else 0)


def test_reading_is_not_offered(api):
    assert error(api.get(ADDRESS)) == (405, "method_not_allowed")


# --- at the same moment ------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_of_twenty_requests_at_once_one_enrolls(organization, sequence, api):
    contact = contact_of(organization)
    body = {"sequenceId": sequence.public_id, "contactId": contact.public_id}

    def ask():
        return api.post(ADDRESS, body).status_code

    assert sorted(at_once(*[ask] * 20)) == [201] + [409] * 19
    assert enrolled(sequence) == [contact.pk]
