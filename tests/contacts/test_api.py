"""Contacts and tags in the API."""

from datetime import UTC, datetime
from threading import Barrier, Thread
from urllib.parse import urlencode

import pytest
from django.db import connection

from contacts import consent, tagging
from contacts.models import ConsentChange, ConsentSource, Contact, ContactEvent, ContactTag, Tag
from kaanha.organizations.models import Role
from kaanha.webhooks.models import Event
from tests.callers import Caller, error
from tests.factories import ContactFactory, EndpointFactory, OrganizationFactory, TagFactory

pytestmark = pytest.mark.django_db

AT = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
PHONE = "+919876543210"


@pytest.fixture
def organization():
    return OrganizationFactory()


@pytest.fixture
def caller(organization):
    return Caller(organization).ready()


@pytest.fixture
def asha(organization):
    return ContactFactory(organization=organization, name="Asha Rao", phone=PHONE)


def tag_on(contact, *names):
    tags = [TagFactory(organization=contact.organization, name=name) for name in names]
    tagging.add(contact.organization, [contact.pk], [tag.pk for tag in tags], source=ConsentSource.OPERATOR, at=AT)
    return tags


def of(contact, more=""):
    return f"/api/contacts/{contact.public_id}{more}"


def fields(response):
    assert error(response) == (422, "invalid")
    return set(response.json()["error"]["fields"])


def names(response):
    assert response.status_code == 200, response.json()
    return [row["name"] for row in response.json()["data"]]


# --- list --------------------------------------------------------------------------------------------------------


def test_the_list_has_the_newest_first_without_the_deleted_and_the_foreign(organization, caller):
    for name in ("A", "B", "C"):
        ContactFactory(organization=organization, name=name)
    ContactFactory(organization=organization, deleted_at=AT)
    ContactFactory()

    answer = caller.get("/api/contacts?limit=2")

    assert names(answer) == ["C", "B"]
    assert (answer.json()["total"], answer.json()["page"], answer.json()["limit"]) == (3, 1, 2)
    assert names(caller.get("/api/contacts?limit=2&page=2")) == ["A"]
    assert names(caller.get(f"/api/contacts?limit=2&cursor={answer.json()['nextCursor']}")) == ["A"]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("asha", ["Asha Rao"]),
        ("rao ash", ["Asha Rao"]),
        ("%2B91 98765", ["Asha Rao"]),
        ("9198765", ["Asha Rao"]),
        ("43210", []),
        ("%25", []),
        ("_", []),
        ("nobody", []),
        ("", ["Ben", "Asha Rao"]),
    ],
)
def test_searching_by_name_or_phone(organization, caller, asha, search, found):
    ContactFactory(organization=organization, name="Ben", phone="+14155550100")

    assert names(caller.get(f"/api/contacts?search={search}")) == found


def test_the_contacts_of_a_tag_by_its_name_or_id(organization, caller, asha):
    ContactFactory(organization=organization, name="Ben")
    [tag] = tag_on(asha, "VIP")

    for text in ("VIP", "vip", tag.public_id):
        assert names(caller.get(f"/api/contacts?tag={text}")) == ["Asha Rao"]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("rao", ["Asha Rao"]),
        ("SHA", ["Asha Rao", "Asha Verma"]),
        ("asha ver", ["Asha Verma"]),
        ("v a", ["Asha Verma"]),
        ("ra", ["Asha Rao"]),
        ("lucía", ["Lucía 100%_O'Brien"]),
        ("LUCÍA", ["Lucía 100%_O'Brien"]),
        ("lucia", []),
        ("0%_o'b", ["Lucía 100%_O'Brien"]),
        ("%%%", []),
        ("___", []),
        ("वर्मा", ["आशा वर्मा"]),
        ("小明明", ["王小明明"]),
        ("小明", ["王小明明"]),
        ("🙂🙂🙂", []),
        ("rao asha nobody", []),
    ],
)
@pytest.mark.parametrize("often", [1, 50], ids=["a common name", "a rare one"])
def test_a_search_finds_every_word_anywhere_in_the_name(organization, caller, search, found, often, monkeypatch):
    monkeypatch.setattr("contacts.models.OFTEN", often)
    for name in ("Asha Rao", "Asha Verma", "Lucía 100%_O'Brien", "आशा वर्मा", "王小明明", "Al", ""):
        ContactFactory(organization=organization, name=name)
    ContactFactory(name="Asha Rao")

    page = caller.get(f"/api/contacts?{urlencode({'search': search})}").json()

    assert sorted(one["name"] for one in page["data"]) == sorted(found)
    assert page["total"] == len(found)


def test_a_changed_name_is_found_as_it_is_now(organization, caller, asha):
    Contact.objects.filter(pk=asha.pk).update(name="Meera Iyer")

    assert caller.get("/api/contacts?search=asha").json()["total"] == 0
    assert caller.get("/api/contacts?search=meera").json()["total"] == 1


def test_the_total_by_tag_leaves_out_the_deleted_and_heeds_the_search(organization, caller):
    tag = TagFactory(organization=organization, name="VIP")
    other = TagFactory(organization=organization, name="other")
    kept = [ContactFactory(organization=organization, name=name) for name in ("Asha", "Ravi", "Meera")]
    gone, apart = ContactFactory(organization=organization), ContactFactory(organization=organization, name="Asha")
    keys = [contact.pk for contact in (*kept, gone)]
    tagging.add(organization, keys, [tag.pk], source=ConsentSource.OPERATOR, at=AT)
    tagging.add(organization, [apart.pk, gone.pk], [other.pk], source=ConsentSource.OPERATOR, at=AT)
    Contact.objects.filter(pk=gone.pk).update(deleted_at=AT)

    def total(query):
        page = caller.get(f"/api/contacts?{query}").json()
        assert page["total"] == len(page["data"])
        return page["total"]

    assert (total("tag=vip"), total("tag=other"), total("tag=vip&search=asha"), total("")) == (3, 1, 1, 4)


def test_an_unknown_tag_is_missing_and_so_is_a_foreign_one(caller):
    foreign = TagFactory(name="theirs")

    for text in ("nothing", "theirs", foreign.public_id):
        assert error(caller.get(f"/api/contacts?tag={text}")) == (404, "tag_not_found")


@pytest.mark.parametrize(
    "query",
    ["page=0", "page=-1", "page=x", "limit=100000", "limit=0", "search=%00", "tag=", "tag=%00", "cursor=x", "q=x"],
)
def test_what_a_list_can_not_be_asked(caller, query):
    assert fields(caller.get(f"/api/contacts?{query}")) == {query.partition("=")[0]}


def test_the_list_costs_the_same_however_many(organization, caller, django_assert_num_queries):
    for _ in range(3):
        tag_on(ContactFactory(organization=organization), f"tag {_}")

    # the key, the number, the contacts, their tags
    with django_assert_num_queries(4):
        caller.get("/api/contacts")
    # and the tag, and whether many are called so
    with django_assert_num_queries(6):
        caller.get("/api/contacts?tag=tag 1&search=asha")


# --- create ------------------------------------------------------------------------------------------------------


def test_a_contact_is_created_with_everything(organization, caller):
    body = {
        "phone": "+91 98765 43210",
        "name": "Asha Rao",
        "email": "asha@example.com",
        "attributes": {"city": "Pune", "none": None},
        "tags": ["VIP", "vip", "  new   here "],
        "optedIn": True,
        "optInProof": "order A-1",
    }

    response = caller.post("/api/contacts", body)

    assert response.status_code == 201
    contact = Contact.objects.get()
    told = response.json()
    assert told.pop("createdAt")
    assert told.pop("updatedAt")
    assert told.pop("optedInAt")
    assert told == {
        "id": contact.public_id,
        "phone": PHONE,
        "name": "Asha Rao",
        "email": "asha@example.com",
        "attributes": {"city": "Pune"},
        "tags": ["new here", "VIP"],
        "optedIn": True,
        "optInSource": "api",
        "optInProof": "order A-1",
        "optedOutAt": None,
        "optOutSource": None,
    }
    assert (contact.organization, contact.country) == (organization, "IN")
    assert ContactEvent.objects.filter(kind="created").count() == 1
    assert ContactEvent.objects.filter(kind="tag_added", source="api").count() == 2


def test_a_phone_alone_is_enough_and_nobody_is_opted_in_by_it(caller):
    told = caller.post("/api/contacts", {"phone": PHONE}).json()

    assert (told["phone"], told["name"], told["optedIn"], told["tags"]) == (PHONE, "", False, [])
    assert ConsentChange.objects.count() == 0


def test_a_number_that_a_contact_has(caller, asha):
    assert error(caller.post("/api/contacts", {"phone": "0091 9876543210"})) == (409, "contact_already")
    assert Contact.objects.count() == 1


def test_a_deleted_number_comes_back_with_its_history(organization, caller, asha):
    tag_on(asha, "VIP")
    Contact.objects.filter(pk=asha.pk).update(attributes={"city": "Pune"})
    consent.delete([asha.pk], at=AT)

    response = caller.post("/api/contacts", {"phone": PHONE, "email": "asha@example.com", "attributes": {"size": "M"}})

    told = response.json()
    assert (response.status_code, told["id"], told["name"]) == (201, asha.public_id, "Asha Rao")
    assert (told["email"], told["attributes"]) == ("asha@example.com", {"city": "Pune", "size": "M"})
    assert (told["tags"], told["optedIn"]) == (["VIP"], True)
    assert not ContactEvent.objects.filter(kind="created").exists()


def test_who_wrote_to_stop_is_not_opted_in_by_being_created_again(caller, asha):
    consent.opt_out([asha.pk], source=ConsentSource.INBOUND, proof="wamid.1", at=AT)
    consent.delete([asha.pk], at=AT)

    response = caller.post("/api/contacts", {"phone": PHONE, "name": "X", "optedIn": True, "optInProof": "order A-1"})

    assert error(response) == (409, "opted_out_by_contact")
    asha.refresh_from_db()
    assert (asha.opted_in, asha.name, asha.deleted_at) == (False, "Asha Rao", AT)  # nothing of it


@pytest.mark.parametrize(
    ("body", "at_fault"),
    [
        ({}, {"phone"}),
        ({"phone": None}, {"phone"}),
        ({"phone": 919876543210}, {"phone"}),
        ({"phone": "hello"}, {"phone"}),
        ({"phone": "+91" + "9" * 400}, {"phone"}),
        ({"phone": PHONE, "name": 7}, {"name"}),
        ({"phone": PHONE, "name": "x" * 201}, {"name"}),
        ({"phone": PHONE, "email": "x"}, {"email"}),
        ({"phone": PHONE, "email": ["a@example.com"]}, {"email"}),
        ({"phone": PHONE, "email": "a@" + "b" * 300 + ".example"}, {"email"}),
        ({"phone": PHONE, "attributes": []}, {"attributes"}),
        ({"phone": PHONE, "attributes": None}, {"attributes"}),
        ({"phone": PHONE, "attributes": {"a": 1}}, {"attributes"}),
        ({"phone": PHONE, "attributes": {"a": {"b": "c"}}}, {"attributes"}),
        ({"phone": PHONE, "attributes": {"": "c"}}, {"attributes"}),
        ({"phone": PHONE, "attributes": {"a{0}": 1}}, {"attributes"}),
        ({"phone": PHONE, "attributes": {"a": "x" * 1001}}, {"attributes"}),
        ({"phone": PHONE, "attributes": {f"{n}": "x" for n in range(101)}}, {"attributes"}),
        ({"phone": PHONE, "tags": "VIP"}, {"tags"}),
        ({"phone": PHONE, "tags": {"a": 1}}, {"tags"}),
        ({"phone": PHONE, "tags": [" "]}, {"tags.0"}),
        ({"phone": PHONE, "tags": ["a", None]}, {"tags.1"}),
        ({"phone": PHONE, "tags": ["x" * 101]}, {"tags.0"}),
        ({"phone": PHONE, "tags": ["x"] * 101}, {"tags"}),
        ({"phone": PHONE, "optedIn": "true"}, {"optedIn"}),
        ({"phone": PHONE, "optedIn": 1}, {"optedIn"}),
        ({"phone": PHONE, "optedIn": None}, {"optedIn"}),
        ({"phone": PHONE, "optedIn": True}, {"optInProof"}),
        ({"phone": PHONE, "optedIn": True, "optInProof": ""}, {"optInProof"}),
        ({"phone": PHONE, "optedIn": True, "optInProof": "x" * 257}, {"optInProof"}),
        ({"phone": PHONE, "opted_in": True}, {"opted_in"}),
        ({"phone": "x", "name": 7}, {"phone", "name"}),
    ],
)
def test_what_is_no_contact_is_refused_with_its_place(caller, body, at_fault):
    assert fields(caller.post("/api/contacts", body)) == at_fault
    assert Contact.objects.count() == 0
    assert Tag.objects.count() == 0


@pytest.mark.parametrize("body", [None, [], "x", 7, [[]], True])
def test_a_body_that_is_no_object(caller, body):
    assert error(caller.post("/api/contacts", body)) == (422, "invalid")


def test_another_organizations_tag_id_creates_nothing(caller):
    foreign = TagFactory()

    response = caller.post("/api/contacts", {"phone": PHONE, "tags": ["VIP", foreign.public_id]})

    assert error(response) == (404, "tag_not_found")
    assert (Contact.objects.count(), Tag.objects.count()) == (0, 1)


# --- one contact -------------------------------------------------------------------------------------------------


def test_a_contact_is_read_with_two_queries_besides_the_key(caller, asha, django_assert_num_queries):
    tag_on(asha, "b", "a")

    with django_assert_num_queries(3):
        response = caller.get(of(asha))

    assert response.json()["tags"] == ["a", "b"]
    assert response.headers["ETag"]


@pytest.mark.parametrize(
    ("method", "more", "body"),
    [
        ("get", "", None),
        ("patch", "", {"name": "X"}),
        ("delete", "", None),
        ("post", "/tags", {"tags": ["X"]}),
        ("delete", "/tags/VIP", None),
        ("post", "/consent", {"optedIn": False}),
        ("get", "/timeline", None),
    ],
)
def test_foreign_and_deleted_contacts_are_missing(organization, caller, method, more, body):
    TagFactory(organization=organization, name="VIP")
    foreign, deleted = ContactFactory(), ContactFactory(organization=organization, deleted_at=AT)

    for public_id in (foreign.public_id, deleted.public_id, "ct_x", "%00", "x" * 3_000):
        arguments = () if body is None else (body,)
        response = getattr(caller, method)(f"/api/contacts/{public_id}{more}", *arguments)
        assert error(response) == (404, "contact_not_found")

    foreign.refresh_from_db()
    assert (foreign.name, foreign.opted_in, foreign.deleted_at) == ("Asha Example", True, None)
    assert not ContactTag.objects.exists()


def test_changing_what_is_sent_and_nothing_else(caller, asha):
    Contact.objects.filter(pk=asha.pk).update(attributes={"city": "Pune", "size": "M"}, email="asha@example.com")

    told = caller.patch(of(asha), {"name": "Asha", "attributes": {"city": None, "color": "red"}}).json()

    assert (told["name"], told["email"], told["phone"]) == ("Asha", "asha@example.com", PHONE)
    assert told["attributes"] == {"size": "M", "color": "red"}
    assert caller.patch(of(asha), {"email": "", "name": ""}).json()["email"] == ""


@pytest.mark.parametrize(
    "body",
    [{"phone": PHONE}, {"tags": []}, {"optedIn": True}, {"name": None}, {"email": "x"}, {"attributes": {"a": 1}}, []],
)
def test_what_can_not_be_changed_so(caller, asha, body):
    assert error(caller.patch(of(asha), body)) == (422, "invalid")


def test_attributes_do_not_become_too_many(caller, asha):
    Contact.objects.filter(pk=asha.pk).update(attributes={f"{n}": "x" for n in range(100)})

    assert error(caller.patch(of(asha), {"attributes": {"more": "x"}})) == (422, "too_many_attributes")
    assert caller.patch(of(asha), {"attributes": {"0": None, "more": "x"}}).status_code == 200


def test_a_version_that_is_not_the_current_one_changes_nothing(caller, asha):
    first = caller.get(of(asha)).headers["ETag"]
    second = caller.patch(of(asha), {"name": "B"}, headers={"If-Match": first}).headers["ETag"]

    for version in (first, '"x"', "x", f"W/{second}"):
        response = caller.patch(of(asha), {"name": "C"}, headers={"If-Match": version})
        assert error(response) == (412, "edited_meanwhile")
        assert error(caller.delete(of(asha), headers={"If-Match": version})) == (412, "edited_meanwhile")
    asha.refresh_from_db()
    assert (asha.name, asha.deleted_at, first != second) == ("B", None, True)

    assert caller.patch(of(asha), {"name": "D"}, headers={"If-Match": f'"x", {second}'}).status_code == 200
    assert caller.delete(of(asha), headers={"If-Match": "*"}).status_code == 204


def test_a_change_is_told_to_webhooks_and_what_changes_nothing_is_not(organization, caller, asha):
    EndpointFactory(organization=organization)

    caller.patch(of(asha), {"name": asha.name})
    caller.patch(of(asha), {"name": "B"})

    event = Event.objects.get()
    assert (event.kind, event.data["name"], event.data["contactId"]) == ("contact.updated", "B", asha.public_id)


def test_a_change_that_changes_nothing_keeps_the_version(caller, asha):
    version = caller.get(of(asha)).headers["ETag"]

    assert caller.patch(of(asha), {"name": asha.name}).headers["ETag"] == version


@pytest.mark.django_db(transaction=True)
def test_of_two_who_edit_the_same_version_one_wins(organization, caller, asha):
    version, barrier, codes = caller.get(of(asha)).headers["ETag"], Barrier(2), []

    def edit(name):
        try:
            other = Caller(organization)
            barrier.wait()
            codes.append(other.patch(of(asha), {"name": name}, headers={"If-Match": version}).status_code)
        finally:
            connection.close()

    threads = [Thread(target=edit, args=[name]) for name in ("B", "C")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(codes) == [200, 412]


def test_deleting_marks(caller, asha):
    assert caller.delete(of(asha)).status_code == 204

    asha.refresh_from_db()
    assert asha.deleted_at is not None
    assert ContactEvent.objects.get().source == "api"
    assert error(caller.delete(of(asha))) == (404, "contact_not_found")


# --- tags of a contact -------------------------------------------------------------------------------------------


def test_tags_are_put_on_and_taken_off(organization, caller, asha):
    known = TagFactory(organization=organization, name="VIP")

    put = caller.post(of(asha, "/tags"), {"tags": ["vip", known.public_id, "a/b"]})
    again = caller.post(of(asha, "/tags"), {"tags": ["VIP"]})

    assert (put.status_code, put.json()["tags"], again.json()["tags"]) == (200, ["a/b", "VIP"], ["a/b", "VIP"])
    assert ContactEvent.objects.filter(kind="tag_added").count() == 2
    assert caller.delete(of(asha, "/tags/a%2Fb/")).json()["tags"] == ["VIP"]
    assert caller.delete(of(asha, f"/tags/{known.public_id}")).json()["tags"] == []
    assert caller.delete(of(asha, "/tags/vip")).json()["tags"] == []


@pytest.mark.parametrize("tag", ["nothing", "tag_x", "%00", "%F0%9F%99%82", "x" * 3_000])
def test_taking_off_a_tag_that_is_not_there(caller, asha, tag):
    assert error(caller.delete(of(asha, f"/tags/{tag}"))) == (404, "tag_not_found")


@pytest.mark.parametrize("body", [{}, {"tags": []}, {"tags": None}, {"tags": "VIP"}, {"tags": [1]}, {"tag": "VIP"}])
def test_what_names_no_tags(caller, asha, body):
    assert error(caller.post(of(asha, "/tags"), body)) == (422, "invalid")


def test_putting_on_many_tags_costs_as_many_queries_as_one(caller, asha, django_assert_max_num_queries):
    with django_assert_max_num_queries(11):
        caller.post(of(asha, "/tags"), {"tags": [f"tag {n}" for n in range(100)]})

    assert ContactTag.objects.count() == 100


# --- consent -----------------------------------------------------------------------------------------------------


def test_opting_out_and_in_again(caller, asha):
    out = caller.post(of(asha, "/consent"), {"optedIn": False, "proof": "asked on the phone"}).json()
    back = caller.post(of(asha, "/consent"), {"optedIn": True, "proof": "form 7"}).json()

    assert (out["optedIn"], out["optOutSource"]) == (False, "api")
    assert (back["optedIn"], back["optInSource"], back["optInProof"]) == (True, "api", "form 7")
    changes = ConsentChange.objects.order_by("pk").values_list("opted_in", "source", "proof")
    assert list(changes) == [(False, "api", "asked on the phone"), (True, "api", "form 7")]


def test_what_is_so_already_changes_nothing(caller, asha):
    assert caller.post(of(asha, "/consent"), {"optedIn": True, "proof": "form 7"}).status_code == 200
    assert not ConsentChange.objects.exists()


def test_who_wrote_to_stop_is_opted_in_only_against_their_word(caller, asha):
    consent.opt_out([asha.pk], source=ConsentSource.INBOUND, proof="wamid.1", at=AT)
    body = {"optedIn": True, "proof": "form 7"}

    assert error(caller.post(of(asha, "/consent"), body)) == (409, "opted_out_by_contact")
    asha.refresh_from_db()
    assert asha.opted_in is False
    assert caller.post(of(asha, "/consent"), {**body, "againstTheirWord": True}).json()["optedIn"] is True


@pytest.mark.parametrize(
    ("body", "at_fault"),
    [
        ({}, {"optedIn"}),
        ({"optedIn": "yes", "proof": "x"}, {"optedIn"}),
        ({"optedIn": None}, {"optedIn"}),
        ({"optedIn": True}, {"proof"}),
        ({"optedIn": True, "proof": "  "}, {"proof"}),
        ({"optedIn": True, "proof": 7}, {"proof"}),
        ({"optedIn": False, "source": "inbound"}, {"source"}),
        ({"optedIn": True, "proof": "x", "againstTheirWord": 1}, {"againstTheirWord"}),
    ],
)
def test_what_is_no_consent(caller, asha, body, at_fault):
    assert fields(caller.post(of(asha, "/consent"), body)) == at_fault


# --- tags --------------------------------------------------------------------------------------------------------


def test_tags_are_listed_by_name_with_their_contacts(organization, caller, asha, django_assert_num_queries):
    tag_on(asha, "b", "a")
    tag_on(ContactFactory(organization=organization, deleted_at=AT), "c")
    TagFactory(name="foreign")

    with django_assert_num_queries(4):
        answer = caller.get("/api/tags")

    assert [(row["name"], row["contacts"]) for row in answer.json()["data"]] == [("a", 1), ("b", 1), ("c", 0)]
    assert names(caller.get("/api/tags?search=B")) == ["b"]


def test_a_tag_is_created_read_and_renamed(caller, asha):
    made = caller.post("/api/tags", {"name": "  New   customer "})
    address = f"/api/tags/{made.json()['id']}"

    assert (made.status_code, made.json()["name"], made.json()["contacts"]) == (201, "New customer", 0)
    assert caller.get(address).json() == made.json()
    assert caller.patch(address, {"name": "new CUSTOMER"}).json()["name"] == "new CUSTOMER"
    assert Tag.objects.get().name == "new CUSTOMER"


def test_a_name_is_there_once(organization, caller):
    TagFactory(organization=organization, name="VIP")
    other = TagFactory(organization=organization, name="other")
    TagFactory(name="free")

    assert error(caller.post("/api/tags", {"name": "vip"})) == (409, "tag_already")
    assert error(caller.patch(f"/api/tags/{other.public_id}", {"name": "Vip"})) == (409, "tag_already")
    assert caller.post("/api/tags", {"name": "free"}).status_code == 201


def test_a_tag_of_another_version_is_not_renamed(organization, caller):
    address = f"/api/tags/{TagFactory(organization=organization, name='VIP').public_id}"
    version = caller.get(address).headers["ETag"]
    caller.patch(address, {"name": "Guest"})

    assert error(caller.patch(address, {"name": "X"}, headers={"If-Match": version})) == (412, "edited_meanwhile")
    assert error(caller.delete(address, headers={"If-Match": version})) == (412, "edited_meanwhile")
    assert Tag.objects.get().name == "Guest"


@pytest.mark.parametrize(
    "body", [{}, {"name": ""}, {"name": " "}, {"name": None}, {"name": 7}, {"name": "x" * 101}, []]
)
def test_what_is_no_tag(caller, body):
    assert error(caller.post("/api/tags", body)) == (422, "invalid")
    assert not Tag.objects.exists()


@pytest.mark.parametrize("method", ["get", "patch", "delete"])
def test_foreign_tags_are_missing(caller, method):
    foreign = TagFactory(name="theirs")
    body = ({"name": "X"},) if method == "patch" else ()

    for public_id in (foreign.public_id, "theirs", "%00", "tag_x"):
        assert error(getattr(caller, method)(f"/api/tags/{public_id}", *body)) == (404, "tag_not_found")
    foreign.refresh_from_db()
    assert foreign.name == "theirs"


# --- costs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("many", [1, 10])
@pytest.mark.parametrize(
    ("method", "address", "body", "queries"),
    [
        ("post", "/api/contacts", {"phone": "+14155550100", "name": "B", "tags": ["tag 0", "new"]}, 19),
        ("patch", "/api/contacts/{contact}", {"name": "B", "attributes": {"a": "b"}}, 10),
        ("delete", "/api/contacts/{contact}", None, 12),
        ("delete", "/api/contacts/{contact}/tags/tag 0", None, 8),
        ("post", "/api/contacts/{contact}/consent", {"optedIn": False}, 12),
        ("post", "/api/contacts/{contact}/consent", {"optedIn": True, "proof": "form 7"}, 9),
        ("post", "/api/tags", {"name": "new"}, 5),
        ("get", "/api/tags/{tag}", None, 3),
        ("patch", "/api/tags/{tag}", {"name": "new"}, 6),
        ("delete", "/api/tags/{tag}", None, 21),
    ],
)
def test_what_a_request_costs(
    organization, caller, asha, django_assert_num_queries, many, method, address, body, queries
):
    [tag, *_] = tag_on(asha, *(f"tag {n}" for n in range(many)))
    address = address.format(contact=asha.public_id, tag=tag.public_id)

    with django_assert_num_queries(queries):
        response = getattr(caller, method)(address, *([] if body is None else [body]))

    assert response.status_code < 300


# --- roles -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "may"), [(Role.OWNER, True), (Role.ADMIN, True), (Role.AGENT, True), (Role.VIEWER, False)]
)
def test_a_viewer_only_reads(organization, asha, role, may):
    caller = Caller(organization, role)
    tag = TagFactory(organization=organization, name="VIP")
    reads = ("/api/contacts", of(asha), of(asha, "/timeline"), "/api/tags", f"/api/tags/{tag.public_id}")
    changes = [
        caller.post("/api/contacts", {}),
        caller.patch(of(asha), {"name": "X"}),
        caller.post(of(asha, "/tags"), {"tags": ["VIP"]}),
        caller.delete(of(asha, "/tags/VIP")),
        caller.post(of(asha, "/consent"), {"optedIn": False}),
        caller.post("/api/tags", {"name": "new"}),
        caller.patch(f"/api/tags/{tag.public_id}", {"name": "Guest"}),
    ]

    assert [caller.get(address).status_code for address in reads] == [200] * 5
    assert [response.status_code for response in changes] == ([422, 200, 200, 200, 200, 201, 200] if may else [403] * 7)
    tag.refresh_from_db()
    assert tag.name == ("Guest" if may else "VIP")
    assert caller.delete(f"/api/tags/{tag.public_id}").status_code == (200 if may else 403)
    assert caller.delete(of(asha)).status_code == (204 if may else 403)
