"""Contacts by hand: added, edited, tagged, opted in and out, deleted and brought back, imported."""

from datetime import timedelta

import pytest
from django.utils import timezone

from contacts import consent, tagging
from contacts.models import ConsentChange, Contact, ContactEvent, ContactTag, Tag
from kaanha.messaging.models import InboundMessage
from kaanha.organizations.list_rows import PLACE
from kaanha.organizations.models import Role
from kaanha.organizations.templatetags import owned_list
from tests.factories import (
    ContactFactory,
    MessageFactory,
    OrganizationFactory,
    PhoneNumberFactory,
    TagFactory,
)
from tests.people import said, signed_in, text

pytestmark = pytest.mark.django_db
LIST = "/admin/contacts/contact/"
SINCE_LONG = timezone.now() - timedelta(days=30)


@pytest.fixture
def shop():
    return OrganizationFactory(timezone="Asia/Kolkata")


@pytest.fixture
def agent(shop):
    return signed_in(shop, Role.AGENT)


def page(contact, name="change"):
    return f"{LIST}{contact.pk}/{name}/"


def form(**fields):
    return {"phone": "+91 98765 43210", "name": "Asha", "email": "", "new_tags": "", **fields}


def edit(contact, **fields):
    return form(**{"phone": contact.phone, "name": contact.name, **rows(contact.attributes), **fields})


def tag_names(contact):
    return sorted(ContactTag.objects.filter(contact=contact).values_list("tag__name", flat=True))


def test_a_contact_is_added_with_its_event_its_tags_and_its_consent(agent, shop):
    vip = TagFactory(organization=shop, name="vip")
    agent.post(f"{LIST}add/", form(held_tags=[vip.pk], new_tags="Pune, vip", opted_in="on", proof="paper form 7"))

    contact = Contact.objects.get()
    assert (contact.organization, contact.phone, contact.country) == (shop, "+919876543210", "IN")
    assert tag_names(contact) == ["Pune", "vip"]
    assert (contact.opted_in, contact.opt_in_source, contact.opt_in_proof) == (True, "operator", "paper form 7")
    assert ConsentChange.objects.get().by is not None
    events = ContactEvent.objects.order_by("pk").values_list("kind", "source")
    assert list(events) == [("created", "operator"), ("tag_added", "operator"), ("tag_added", "operator")]


def test_nobody_is_opted_in_without_a_proof(agent):
    assert "Say when and where they agreed" in text(agent.post(f"{LIST}add/", form(opted_in="on")))
    assert not Contact.objects.exists()


def test_a_number_that_is_none_is_refused_with_its_reason(agent):
    shown = text(agent.post(f"{LIST}add/", form(phone="98765")))

    assert "'98765' has no country code. Put + and the country code in front" in shown
    assert not Contact.objects.exists()


def test_a_number_that_a_contact_has_is_refused(agent, shop):
    ContactFactory(organization=shop, phone="+919876543210", name="Bela")

    assert "+919876543210 belongs to the contact Bela already." in text(agent.post(f"{LIST}add/", form()))
    assert Contact.objects.count() == 1


def test_adding_a_deleted_number_brings_the_contact_back_without_a_new_event(agent, shop):
    gone = ContactFactory(organization=shop, phone="+919876543210", name="Bela", deleted_at=SINCE_LONG)
    agent.post(f"{LIST}add/", form(name="Bela Rao"))

    gone.refresh_from_db()
    assert (gone.deleted_at, gone.name) == (None, "Bela Rao")
    assert not ContactEvent.objects.exists()


def test_the_same_number_in_another_organization_is_another_contact(agent, shop):
    ContactFactory(phone="+919876543210")
    agent.post(f"{LIST}add/", form())

    assert Contact.objects.filter(organization=shop).count() == 1


def test_editing_writes_only_what_was_typed(agent, shop):
    contact = ContactFactory(organization=shop, name="Asha")
    shown = agent.get(page(contact))
    consent.opt_out([contact.pk], source="inbound", proof="wamid.1", at=timezone.now())
    agent.post(page(contact), edit(contact, name="Asha Rao"))

    contact.refresh_from_db()
    assert shown.status_code == 200
    assert (contact.name, contact.opted_in, contact.opt_out_source) == ("Asha Rao", False, "inbound")


def rows(attributes):
    return {"attributes-name": [*attributes], "attributes-value": [str(value) for value in attributes.values()]}


def test_attributes_are_rows_of_names_and_values(agent, shop):
    before = {"city": "Delhi", "visits": 3, "vip": True, "old": "x", "gone": None, "sizes": ["S"]}
    contact = ContactFactory(organization=shop, attributes=before)
    shown = agent.get(page(contact)).content.decode()
    for value in ("Delhi", "3", "true", "[&quot;S&quot;]"):
        assert f'value="{value}"' in shown

    said = {
        "city": " Pune ",
        "visits": "3",
        "vip": "true",
        "gone": "",
        "sizes": '["S"]',
        "first  order": "=A-1",
        "": "",
    }
    agent.post(page(contact), edit(contact, **rows(said)))

    contact.refresh_from_db()
    assert contact.attributes == {
        "city": "Pune", "visits": 3, "vip": True, "gone": None, "sizes": ["S"], "first order": "=A-1",
    }  # fmt: skip
    agent.post(page(contact), edit(contact, **rows({"visits": "4"})))
    contact.refresh_from_db()
    assert contact.attributes == {"visits": "4"}


@pytest.mark.parametrize(
    ("names", "values", "sentence"),
    [
        (["city", "city"], ["Pune", "Delhi"], "There are two rows for city. Keep one of them."),
        ([""], ["Pune"], "The value “Pune” has no name. Name it, or empty its row."),
    ],
)
def test_rows_that_say_nothing_clear_are_asked_about_and_kept_on_the_page(agent, shop, names, values, sentence):
    contact = ContactFactory(organization=shop, attributes={"city": "Goa"})

    shown = agent.post(page(contact), edit(contact, **{"attributes-name": names, "attributes-value": values}))

    assert sentence in text(shown)
    assert all(f'value="{value}"' in shown.content.decode() for value in values)
    contact.refresh_from_db()
    assert contact.attributes == {"city": "Goa"}


def test_a_tag_comes_off_the_selected_contacts_alone(agent, shop):
    tag, other = TagFactory(organization=shop, name="vip"), TagFactory(organization=shop)
    chosen, kept = ContactFactory.create_batch(2, organization=shop)
    for contact in (chosen, kept):
        contact.tags.set([tag, other], through_defaults={"added_at": contact.created_at})
    bare = ContactFactory(organization=shop)
    selected = {"action": "remove_tag", "_selected_action": [chosen.pk, bare.pk]}
    assert "2 contacts are selected." in text(agent.post("/admin/contacts/contact/", selected))

    answer = agent.post("/admin/contacts/contact/", {**selected, "apply": "1", "tag": tag.pk}, follow=True)

    assert "The tag vip is taken off 1 contacts that had it." in text(answer)
    assert list(chosen.tags.all()) == [other]
    assert set(kept.tags.all()) == {tag, other}
    foreign = {**selected, "apply": "1", "tag": TagFactory().pk}
    assert "valid choice" in text(agent.post("/admin/contacts/contact/", foreign))


def test_editing_takes_off_only_tags_that_the_page_showed(agent, shop):
    contact = ContactFactory(organization=shop)
    shown, kept = TagFactory(organization=shop, name="shown"), TagFactory(organization=shop, name="kept")
    tagging.add(shop, [contact.pk], [shown.pk, kept.pk], source="api", at=SINCE_LONG)
    agent.post(page(contact), edit(contact, held_tags=[kept.pk]))

    assert tag_names(contact) == ["kept"]
    assert ContactTag.objects.get(tag=kept).added_at == SINCE_LONG


def test_a_changed_number_is_stored_in_international_form(agent, shop):
    contact = ContactFactory(organization=shop, wa_id="5491100000000")
    agent.post(page(contact), edit(contact, phone="+34 600 123 456"))

    contact.refresh_from_db()
    assert (contact.phone, contact.country, contact.wa_id) == ("+34600123456", "ES", None)


def test_a_change_to_somebody_elses_number_is_refused(agent, shop):
    contact = ContactFactory(organization=shop)
    other = ContactFactory(organization=shop, name="Bela", deleted_at=SINCE_LONG)

    assert "belongs to a deleted contact already" in text(agent.post(page(contact), edit(contact, phone=other.phone)))


def test_opting_out_asks_first_and_notes_who_did_it(agent, shop):
    contact = ContactFactory(organization=shop, name="Asha")
    assert "Asha gets no messages any more" in text(agent.get(page(contact, "opt-out")))
    assert not ConsentChange.objects.exists()

    done = agent.post(page(contact, "opt-out"), {"proof": "asked on the phone"})
    contact.refresh_from_db()
    change = ConsentChange.objects.get()
    assert said(done) == ["Asha is opted out."]
    assert (contact.opted_in, contact.opt_out_source) == (False, "operator")
    assert (change.opted_in, change.proof, change.by is not None) == (False, "asked on the phone", True)


def test_opting_in_needs_a_proof(agent, shop):
    contact = ContactFactory(organization=shop, opted_in=False)
    agent.post(page(contact, "opt-in"), {"proof": ""})
    contact.refresh_from_db()
    assert not contact.opted_in

    agent.post(page(contact, "opt-in"), {"proof": "paper form"})
    contact.refresh_from_db()
    assert (contact.opted_in, contact.opt_in_proof) == (True, "paper form")


def test_who_wrote_stop_comes_back_only_with_a_second_confirmation(agent, shop):
    contact = ContactFactory(organization=shop)
    consent.opt_out([contact.pk], source="inbound", proof="wamid.1", at=SINCE_LONG)

    agent.post(page(contact, "opt-in"), {"proof": "paper form"})
    contact.refresh_from_db()
    assert not contact.opted_in

    agent.post(page(contact, "opt-in"), {"proof": "asked in the shop", "against_their_word": "on"})
    contact.refresh_from_db()
    assert contact.opted_in


def test_adding_somebody_back_who_wrote_stop_leaves_them_out_and_says_so(agent, shop):
    contact = ContactFactory(organization=shop, phone="+919876543210")
    consent.opt_out([contact.pk], source="inbound", proof="wamid.1", at=SINCE_LONG)
    consent.delete([contact.pk], at=SINCE_LONG)

    answer = agent.post(f"{LIST}add/", form(opted_in="on", proof="paper form"))
    contact.refresh_from_db()
    assert (contact.deleted_at, contact.opted_in) == (None, False)
    assert "Asha stays opted out: they wrote to us to stop." in said(answer)


def test_deleting_keeps_the_row_and_takes_it_off_the_list(agent, shop):
    contact = ContactFactory(organization=shop, name="Asha")
    assert "The history stays" in text(agent.get(page(contact, "delete-contact")))
    agent.post(page(contact, "delete-contact"))

    contact.refresh_from_db()
    assert contact.deleted_at is not None
    agent.get(LIST)  # takes the message with it
    assert "Asha" not in text(agent.get(LIST))
    assert "Asha" in text(agent.get(f"{LIST}?deleted=yes"))
    assert agent.post(page(contact, "delete"), {"post": "yes"}).status_code == 403

    agent.post(page(contact, "bring-back"))
    contact.refresh_from_db()
    assert contact.deleted_at is None


def test_the_list_is_searched_by_name_and_by_the_beginning_of_a_number(agent, shop):
    ContactFactory(organization=shop, name="Asha Rao", phone="+919800000101")
    ContactFactory(organization=shop, name="Lucía Gómez", phone="+34600123456")

    def listed(query):
        shown = text(agent.get(LIST, {"q": query}))
        return [name for name in ("Asha Rao", "Lucía Gómez") if name in shown]

    assert listed("rao") == ["Asha Rao"]
    assert listed("GÓMEZ") == ["Lucía Gómez"]
    assert listed("+34 600") == ["Lucía Gómez"]
    assert listed("0034600") == ["Lucía Gómez"]
    assert listed("600123") == []
    assert listed("nobody") == []


def test_the_list_is_filtered_by_consent_and_tag(agent, shop):
    tag = TagFactory(organization=shop)
    holder = ContactFactory(organization=shop, name="Holder")
    ContactFactory(organization=shop, name="Outsider", opted_in=False, opted_out_at=SINCE_LONG)
    ContactFactory(organization=shop, name="Newcomer", opted_in=False)
    tagging.add(shop, [holder.pk], [tag.pk], source="api", at=SINCE_LONG)

    def listed(**query):
        shown = text(agent.get(LIST, query))
        return [name for name in ("Holder", "Outsider", "Newcomer") if name in shown]

    assert listed(consent="in") == ["Holder"]
    assert listed(consent="out") == ["Outsider"]
    assert listed(consent="never") == ["Newcomer"]
    assert listed(tag=tag.pk) == ["Holder"]
    assert listed(tag=TagFactory().pk) == []
    assert listed(tag="no number") == []


def test_the_tag_filter_offers_every_tag_and_keeps_the_chosen_one(agent, shop):
    plain, odd = TagFactory(organization=shop, name="vip"), TagFactory(organization=shop, name="<b>A & B")

    page = agent.get(LIST, {"tag": odd.pk}).content.decode()

    assert f'<option value="{plain.pk}">vip</option>' in page
    assert f'<option value="{odd.pk}" selected>&lt;b&gt;A &amp; B</option>' in page


def test_every_row_has_its_own_checkbox_and_labels(agent, shop):
    rows = ContactFactory.create_batch(2, organization=shop)

    page = agent.get(LIST).content.decode()

    for row in rows:
        assert page.count(f'name="_selected_action" value="{row.pk}"') == 1
    assert PLACE not in page
    assert page.count('data-label="Consent"') == 2


def test_headers_are_made_once_for_each_list(agent, shop, monkeypatch):
    ContactFactory.create_batch(3, organization=shop)
    made, making = [], owned_list.result_headers
    monkeypatch.setattr(owned_list, "result_headers", lambda changes: made.append(changes) or making(changes))

    pages = [agent.get(LIST, {"o": order}).content.decode() for order in ("1", "-1")]

    assert len(made) == 2
    assert ["o=-1" in page for page in pages] == [True, False]


def test_the_list_costs_the_same_however_many_contacts(agent, shop, django_assert_num_queries):
    tags = TagFactory.create_batch(3, organization=shop)

    def fill(how_many):
        made = ContactFactory.create_batch(how_many, organization=shop)
        keys = [contact.pk for contact in made]
        tagging.add(shop, keys, [tag.pk for tag in tags], source="api", at=SINCE_LONG)

    fill(1)
    # session, user, membership; tags to filter by; contacts counted and read; their tags
    with django_assert_num_queries(7):
        agent.get(LIST)
    fill(6)
    with django_assert_num_queries(7):
        agent.get(LIST)


def test_a_tag_is_put_on_the_selected_contacts(agent, shop):
    tag = TagFactory(organization=shop, name="vip")
    chosen, other = ContactFactory(organization=shop), ContactFactory(organization=shop)
    foreign = ContactFactory()
    selected = {"action": "add_tag", "_selected_action": [chosen.pk, foreign.pk]}

    asked = agent.post(LIST, selected)
    assert "2 contacts are selected." in text(asked)
    assert not ContactTag.objects.exists()

    answer = agent.post(LIST, {**selected, "apply": "1", "tag": tag.pk})
    assert said(answer) == ["1 contacts have the tag vip now that didn't have it before."]
    assert list(ContactTag.objects.values_list("contact_id", flat=True)) == [chosen.pk]
    assert ContactEvent.objects.get().contact_id == chosen.pk
    assert tag_names(other) == []


def test_a_tag_of_another_organization_cannot_be_put_on(agent, shop):
    contact = ContactFactory(organization=shop)
    chosen = {"action": "add_tag", "_selected_action": [contact.pk], "apply": "1", "tag": TagFactory().pk}

    assert "Select a valid choice" in text(agent.post(LIST, chosen))
    assert not ContactTag.objects.exists()


def test_the_selected_contacts_are_opted_out_once_confirmed(agent, shop):
    chosen = ContactFactory.create_batch(2, organization=shop)
    other = ContactFactory(organization=shop)
    selected = {"action": "opt_out_selected", "_selected_action": [contact.pk for contact in chosen]}
    agent.post(LIST, selected)
    assert Contact.objects.filter(opted_in=True).count() == 3

    agent.post(LIST, {**selected, "apply": "1", "proof": "asked us to"})
    assert list(Contact.objects.filter(opted_in=True)) == [other]
    assert ConsentChange.objects.count() == 2


def test_all_contacts_of_a_filtered_list_can_be_chosen_at_once(agent, shop):
    ContactFactory.create_batch(3, organization=shop, name="Asha")
    other, foreign = ContactFactory(organization=shop, name="Bela"), ContactFactory(name="Asha")
    everybody = {"action": "opt_out_selected", "_selected_action": [Contact.objects.first().pk], "select_across": "1"}

    assert "3 contacts are selected." in text(agent.post(f"{LIST}?q=Asha", everybody))
    agent.post(f"{LIST}?q=Asha", {**everybody, "apply": "1"})
    assert set(Contact.objects.filter(opted_in=True)) == {other, foreign}


def test_the_page_shows_what_was_sent_what_was_written_and_the_consent(shop):
    contact = ContactFactory(organization=shop, name="Asha")
    MessageFactory(
        organization=shop,
        contact=contact,
        template__name="sale",
        status="skipped",
        skip_reason="opted_out",
        due_at=None,
    )
    InboundMessage.objects.create(
        organization=shop,
        contact=contact,
        phone_number=PhoneNumberFactory(organization=shop),
        wamid="wamid.1",
        kind="text",
        text="When do you open?",
        payload={},
        written_at=SINCE_LONG,
    )
    consent.opt_out([contact.pk], source="inbound", proof="wamid.2", at=timezone.now())

    for role, sees_all in ((Role.OWNER, True), (Role.AGENT, False), (Role.VIEWER, True)):
        shown = text(signed_in(shop, role).get(page(contact)))
        assert "sale, for a broadcast Skipped Opted out" in shown
        assert "Wrote: When do you open?" in shown
        assert "Opted out: the contact wrote" in shown
        assert "The contact wrote wamid.2" in shown
        assert ("All messages" in shown) == sees_all


def test_a_viewer_reads_contacts_and_changes_nothing(shop):
    viewer, contact = signed_in(shop, Role.VIEWER), ContactFactory(organization=shop, name="Asha")

    assert "Asha" in text(viewer.get(LIST))
    assert "Opt out" not in text(viewer.get(page(contact)))
    for name in ("opt-in", "opt-out", "delete-contact", "bring-back"):
        assert viewer.post(page(contact, name), {"proof": "x"}).status_code == 403
    assert viewer.post(page(contact), edit(contact, name="B")).status_code == 403
    viewer.post(LIST, {"action": "opt_out_selected", "_selected_action": [contact.pk], "apply": "1"})
    contact.refresh_from_db()
    assert (contact.name, contact.opted_in) == ("Asha", True)


def test_tags_are_counted_up_to_a_limit_without_the_deleted(agent, shop, monkeypatch):
    monkeypatch.setattr("contacts.admin.HOLDERS", 3)
    few, many = TagFactory(organization=shop, name="few"), TagFactory(organization=shop, name="many")
    contacts = ContactFactory.create_batch(5, organization=shop)
    tagging.add(shop, [contact.pk for contact in contacts], [many.pk], source="api", at=SINCE_LONG)
    tagging.add(shop, [contact.pk for contact in contacts[:2]], [few.pk], source="api", at=SINCE_LONG)
    consent.delete([contacts[0].pk], at=SINCE_LONG)

    shown = text(agent.get("/admin/contacts/tag/"))
    assert "few 1 " in shown
    assert "many 3+ " in shown


def test_a_tag_that_differs_only_in_case_is_refused(agent, shop):
    TagFactory(organization=shop, name="vip")

    assert "There is a tag vip already" in text(agent.post("/admin/contacts/tag/add/", {"name": " VIP "}))
    agent.post("/admin/contacts/tag/add/", {"name": "  gold   card "})
    assert sorted(Tag.objects.values_list("name", flat=True)) == ["gold card", "vip"]
