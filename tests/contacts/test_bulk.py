"""Large selections: written down at once, changed portion by portion, gone on with after a crash, and told about."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError, connections
from django.utils import timezone

from contacts import bulk, tagging
from contacts.admin import ContactAdmin
from contacts.models import BulkChange, BulkPortion, ConsentChange, Contact, ContactEvent, ContactTag
from kaanha.lib.errors import Refusal
from kaanha.organizations.models import AuditEntry, Role
from kaanha.organizations.owned_admin import CappedPaginator
from tests.factories import ContactFactory, OrganizationFactory, TagFactory, UserFactory
from tests.people import said, signed_in, superuser, text

NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)
LIST = "/admin/contacts/contact/"
PAGES = "/admin/contacts/bulkchange/"
Act = BulkChange.Act


@pytest.fixture(autouse=True)
def small_portions(monkeypatch):
    monkeypatch.setattr(bulk, "PORTION", 2)
    monkeypatch.setattr(bulk, "AT_ONCE", 3)


@pytest.fixture
def shop(db):
    return OrganizationFactory(name="Shop")


@pytest.fixture
def people(shop):
    return ContactFactory.create_batch(5, organization=shop, opted_in=True)


@pytest.fixture
def agent(shop):
    return signed_in(shop, Role.AGENT)


def asked(shop, act=Act.OPT_OUT, people=None, **wished):
    contacts = Contact.objects.of(shop) if people is None else people
    return bulk.ask(bulk.Wish(act, wished.pop("by", None), **wished), shop, contacts, at=NOW)


def work():
    return bulk.work(until=timezone.now() + timedelta(hours=1))


def state(change):
    change.refresh_from_db()
    return change.total, change.done, change.changed, change.finished_at is not None, change.problem


def test_opts_out_whoever_was_selected_when_it_was_asked_for(shop, people):
    clerk = UserFactory()
    ContactFactory(opted_in=True)
    out = people[0]
    out.opted_in, out.opted_out_at = False, NOW
    out.save()

    change = asked(shop, proof="the store closed", by=clerk)
    newcomer = ContactFactory(organization=shop, opted_in=True)

    assert state(change) == (5, 0, 0, False, "")
    assert work() == 3
    assert state(change) == (5, 5, 4, True, "")
    assert set(Contact.objects.filter(opted_in=True)) == {newcomer, Contact.objects.exclude(organization=shop).get()}
    changes = ConsentChange.objects.filter(organization=shop)
    assert {(one.contact_id, one.by, one.proof) for one in changes} == {
        (person.pk, clerk, "the store closed") for person in people[1:]
    }
    assert not BulkPortion.objects.exists()
    assert work() == 0


def test_tags_go_on_and_off(shop, people):
    tag, other = TagFactory(organization=shop), TagFactory(organization=shop)
    tagging.add(shop, [people[0].pk], [tag.pk, other.pk], source="api", at=NOW)

    on = asked(shop, Act.ADD_TAG, tag=tag)
    work()

    assert state(on) == (5, 5, 4, True, "")
    assert ContactEvent.objects.filter(kind="tag_added", tag=tag).count() == 5

    off = asked(shop, Act.REMOVE_TAG, tag=tag)
    work()

    assert state(off) == (5, 5, 5, True, "")
    assert list(ContactTag.objects.values_list("tag", flat=True)) == [other.pk]


def test_is_in_the_audit_log_once_with_who_asked_and_for_how_many(shop, people):
    change = asked(shop)
    work()

    entry = AuditEntry.objects.get()
    assert (entry.action, entry.object_label, entry.details) == ("contacts.changed_in_bulk", "Opt out", {"contacts": 5})
    assert entry.object_id == change.public_id


def test_a_portion_is_done_wholly_or_not_at_all(shop, people, monkeypatch):
    change = asked(shop)
    taken = bulk.consent.opt_out
    failing = [False, True]

    def opt_out(contacts, **told):
        changed = taken(contacts, **told)
        if failing.pop(0):
            raise OperationalError("PostgreSQL is away")
        return changed

    monkeypatch.setattr(bulk.consent, "opt_out", opt_out)
    with pytest.raises(OperationalError):
        work()

    assert state(change) == (5, 2, 2, False, "")
    assert Contact.objects.filter(opted_in=True).count() == 3

    monkeypatch.setattr(bulk.consent, "opt_out", taken)
    assert work() == 2
    assert state(change) == (5, 5, 5, True, "")
    assert ConsentChange.objects.count() == 5


def test_a_fault_ends_it_in_words_and_keeps_nobody_else_waiting(shop, people, monkeypatch, caplog):
    broken, tag = asked(shop), TagFactory(organization=shop)
    whole = asked(shop, Act.ADD_TAG, tag=tag)
    monkeypatch.setattr(bulk.consent, "opt_out", lambda *_, **__: 1 // 0)

    work()

    assert state(broken) == (5, 0, 0, True, bulk.BROKEN)
    assert state(whole) == (5, 5, 5, True, "")
    assert "broke off" in caplog.text


def test_a_tag_that_is_gone_and_a_closed_organization_end_it(shop, people):
    tag = TagFactory(organization=shop)
    untaggable = asked(shop, Act.ADD_TAG, tag=tag)
    tag.delete()
    work()
    assert state(untaggable) == (5, 0, 0, True, bulk.TAG_GONE)

    closed = asked(shop)
    shop.closed_at = NOW
    shop.save()
    work()
    assert state(closed)[:4] == (5, 0, 0, True)
    assert "closed" in closed.problem
    with pytest.raises(Refusal, match="closed"):
        asked(shop)


def test_takes_turns_so_that_nobody_waits_for_a_million_of_others(shop, people):
    other = OrganizationFactory()
    ContactFactory.create_batch(3, organization=other, opted_in=True)
    first, second = asked(shop), asked(other)

    bulk._carry_on()
    bulk._carry_on()

    assert (state(first)[1], state(second)[1]) == (2, 2)


def test_stopping_leaves_the_rest_as_it_is(shop, people):
    change = asked(shop)
    bulk._carry_on()

    bulk.stop(change, at=NOW)

    assert work() == 0
    assert state(change) == (5, 2, 2, True, bulk.STOPPED)
    assert Contact.objects.filter(opted_in=True).count() == 3
    with pytest.raises(Refusal, match="ended already"):
        bulk.stop(change, at=NOW)


@pytest.mark.django_db(transaction=True)
def test_a_change_that_somebody_does_is_left_to_him(people, shop):
    change = asked(shop)
    other = connections.create_connection("default")
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SELECT FROM contacts_bulkchange WHERE id = %s FOR UPDATE", [change.pk])

        assert work() == 0
        other.rollback()
        assert work() == 3
    finally:
        other.close()
    assert state(change)[1] == 5


# --- in the admin -------------------------------------------------------------------------------------------------


def select_all(people, action="opt_out_selected", **form):
    return {"action": action, "_selected_action": [people[0].pk], "select_across": "1", "apply": "1", **form}


def test_a_large_selection_leads_to_its_progress(agent, shop, people):
    ContactFactory(opted_in=True)
    tag = TagFactory(organization=shop, name="VIP")

    answer = agent.post(LIST, select_all(people, "add_tag", tag=tag.pk))

    change = BulkChange.objects.get()
    assert answer["Location"] == f"{PAGES}{change.pk}/change/"
    page = agent.get(answer["Location"]).content.decode()
    assert "5 contacts are being changed." in page
    assert "It waits for a worker" in page
    assert f'hx-get="{PAGES}{change.pk}/progress/"' in page

    bulk._carry_on()
    assert "2 of 5 contacts are done, 40 %" in text(agent.get(f"{PAGES}{change.pk}/progress/"))

    work()
    done = agent.get(f"{PAGES}{change.pk}/progress/").content.decode()
    assert "All 5 contacts are done" in done
    assert "hx-get" not in done
    assert "Add a tag: VIP" in text(agent.get(PAGES))


def test_the_list_offers_all_that_match_and_no_number_that_ends_at_its_cap(agent, people, monkeypatch):
    monkeypatch.setattr(ContactAdmin, "list_per_page", 2)
    assert "Select all 5 contacts" in text(agent.get(LIST))

    monkeypatch.setattr(CappedPaginator, "CAP", 4)
    assert "Select all contacts that match" in text(agent.get(LIST))


def test_the_list_is_counted_as_far_as_people_go(agent, people, monkeypatch):
    monkeypatch.setattr(ContactAdmin, "list_per_page", 1)
    monkeypatch.setattr(CappedPaginator, "PAGES", 2)

    def counted(page):
        shown = text(agent.get(f"{LIST}?p={page}"))
        return next(words for words in ("2+ contacts", "3+ contacts", "5 contacts") if words in shown)

    assert [counted(page) for page in (1, 2, 5)] == ["2+ contacts", "3+ contacts", "5 contacts"]
    assert "search or filter" not in text(agent.get(LIST))
    # in the header, which knows no "+"
    assert "2 results" not in text(agent.get(f"{LIST}?consent=in"))
    assert "5 results" in text(agent.get(f"{LIST}?consent=in&p=5"))


def test_a_small_selection_is_changed_at_once(agent, people):
    chosen = {"action": "opt_out_selected", "_selected_action": [one.pk for one in people[:3]], "apply": "1"}

    answer = agent.post(LIST, chosen)

    assert said(answer) == ["3 contacts are opted out now that weren't before."]
    assert not BulkChange.objects.exists()


def test_what_the_filters_leave_out_is_not_changed(agent, shop, people):
    kept = people[0]
    kept.opted_in = False
    kept.save()

    agent.post(f"{LIST}?consent=in", select_all(people[1:]))
    work()

    assert state(BulkChange.objects.get())[:3] == (4, 4, 4)
    assert not ConsentChange.objects.filter(contact=kept).exists()


def test_stops_on_the_word_of_who_may(agent, shop, people):
    change = asked(shop)
    bulk._carry_on()
    stop = f"{PAGES}{change.pk}/stop/"

    assert "2 contacts are done and stay so. The other 3 are left" in text(agent.get(stop))
    signed_in(shop, Role.VIEWER).post(stop)
    assert change.portions.count() == 2
    agent.post(stop)

    assert state(change)[3:] == (True, bulk.STOPPED)
    page = text(agent.get(f"{PAGES}{change.pk}/change/"))
    assert "3 Not done" in page
    assert "Stop …" not in page


def test_a_superuser_chooses_the_organization_first(people):
    ContactFactory()  # of another organization

    answer = superuser().post(LIST, select_all(people))

    assert answer["Location"] == "/admin/organizations/organization/choose/"
    assert not BulkChange.objects.exists()


def test_looking_at_the_progress_costs_the_same_for_any_number(agent, shop, people, django_assert_max_num_queries):
    change = asked(shop, by=UserFactory())
    url = f"{PAGES}{change.pk}/progress/"
    text(agent.get(url))

    with django_assert_max_num_queries(7):  # session, user, membership and organization included
        text(agent.get(url))
