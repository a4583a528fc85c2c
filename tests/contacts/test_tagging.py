from datetime import timedelta

import pytest

from contacts import tagging
from contacts.models import AutoTagRule, ContactEvent, ContactTag, Tag
from kaanha.lib.errors import Refusal
from tests.contacts.threads import at_once
from tests.factories import EPOCH, ContactFactory, OrganizationFactory, TagFactory

LATER = EPOCH + timedelta(hours=1)


@pytest.fixture
def organization(db):
    return OrganizationFactory()


def held(contact) -> set[str]:
    return set(ContactTag.objects.filter(contact=contact).values_list("tag__name", flat=True))


def events() -> list[tuple]:
    found = ContactEvent.objects.order_by("id")
    return list(found.values_list("organization_id", "kind", "contact_id", "tag_id", "source", "at", "handled_at"))


class TestNamed:
    def test_it_finds_and_creates_whatever_the_case(self, organization):
        vip = TagFactory(organization=organization, name="VIP")
        elsewhere = TagFactory(name="newsletter")

        found = tagging.named(organization, ["vip", "Newsletter", "NEWSLETTER", " summer  event ", "", "  "])

        assert set(found) == {"vip", "Newsletter", "NEWSLETTER", " summer  event "}
        assert found["vip"] == vip
        assert found["Newsletter"] == found["NEWSLETTER"] != elsewhere
        assert found[" summer  event "].name == "summer event"
        assert Tag.objects.of(organization).count() == 3

    def test_twice_creates_nothing(self, organization):
        first = tagging.named(organization, ["Éclair", "İstanbul", "ß"])

        assert tagging.named(organization, ["éclair", "İstanbul", "ß"]) == {
            "éclair": first["Éclair"],
            "İstanbul": first["İstanbul"],
            "ß": first["ß"],
        }

    def test_a_name_too_long_is_refused_and_nothing_created(self, organization):
        with pytest.raises(Refusal, match="longer than 100 letters"):
            tagging.named(organization, ["fine", "x" * 101])

        assert Tag.objects.count() == 0

    def test_known_names_cost_two_queries(self, organization, django_assert_num_queries):
        names = [f"tag {n}" for n in range(50)]
        tagging.named(organization, names)

        with django_assert_num_queries(2):
            assert len(tagging.named(organization, names)) == 50


class TestAdd:
    def test_every_tag_is_put_on_every_contact_with_an_event_for_each(self, organization):
        one, two = ContactFactory(organization=organization), ContactFactory(organization=organization)
        vip, lead = TagFactory(organization=organization), TagFactory(organization=organization)

        assert tagging.add(organization, [one.pk, two.pk], [vip.pk, lead.pk], source="api", at=EPOCH) == 4

        assert events() == [
            (organization.pk, "tag_added", contact.pk, tag.pk, "api", EPOCH, None)
            for contact in (one, two)
            for tag in (vip, lead)
        ]
        assert set(ContactTag.objects.values_list("added_at", flat=True)) == {EPOCH}

    def test_what_is_held_already_fires_nothing(self, organization):
        contact, tag = ContactFactory(organization=organization), TagFactory(organization=organization)
        tagging.add(organization, [contact.pk], [tag.pk], source="api", at=EPOCH)

        assert tagging.add(organization, [contact.pk, contact.pk], [tag.pk], source="import", at=LATER) == 0

        assert len(events()) == 1
        assert ContactTag.objects.get().added_at == EPOCH

    def test_another_organizations_contacts_and_tags_are_out_of_reach(self, organization):
        contact, tag = ContactFactory(organization=organization), TagFactory(organization=organization)
        stranger, foreign_tag = ContactFactory(), TagFactory()

        assert tagging.add(organization, [stranger.pk], [tag.pk], source="api", at=EPOCH) == 0
        assert tagging.add(organization, [contact.pk], [foreign_tag.pk], source="api", at=EPOCH) == 0
        assert tagging.add(organization, [stranger.pk], [foreign_tag.pk], source="api", at=EPOCH) == 0

        assert ContactTag.objects.count() == 0
        assert events() == []

    def test_it_is_one_statement_and_one_that_asks_who_listens(self, organization, django_assert_num_queries):
        contacts = [ContactFactory(organization=organization).pk for _ in range(5)]
        tag = TagFactory(organization=organization)

        # a savepoint and its release; the tags with their events; who listens
        with django_assert_num_queries(4):
            assert tagging.add(organization, contacts, [tag.pk], source="api", at=EPOCH) == 5

    def test_nothing_costs_nothing(self, organization, django_assert_num_queries):
        with django_assert_num_queries(0):
            assert tagging.add(organization, [], [1], source="api", at=EPOCH) == 0


class TestRemove:
    def test_a_tag_taken_off_and_put_on_again_fires_again(self, organization):
        contact, tag = ContactFactory(organization=organization), TagFactory(organization=organization)
        tagging.add(organization, [contact.pk], [tag.pk], source="api", at=EPOCH)

        assert tagging.remove(organization, [contact.pk], [tag.pk], at=EPOCH) == 1
        assert tagging.remove(organization, [contact.pk], [tag.pk], at=EPOCH) == 0
        assert held(contact) == set()
        assert len(events()) == 1

        assert tagging.add(organization, [contact.pk], [tag.pk], source="api", at=LATER) == 1
        assert len(events()) == 2

    def test_another_organization_can_not_take_it_off(self, organization):
        contact, tag = ContactFactory(organization=organization), TagFactory(organization=organization, name="vip")
        tagging.add(organization, [contact.pk], [tag.pk], source="api", at=EPOCH)

        assert tagging.remove(OrganizationFactory(), [contact.pk], [tag.pk], at=EPOCH) == 0
        assert held(contact) == {"vip"}


class TestAutoTag:
    def rule(self, organization, match, text, **fields):
        tag = TagFactory(organization=organization, name=f"{match} {text}")
        AutoTagRule.objects.create(organization=organization, match=match, text=text, tag=tag, **fields)

    def test_each_text_gets_the_tags_of_the_rules_it_meets(self, organization):
        self.rule(organization, "contains", "Price")
        self.rule(organization, "exact", "hi")
        self.rule(organization, "startsWith", "order")
        self.rule(organization, "contains", "a", active=False)
        self.rule(organization, "contains", "  ")
        self.rule(OrganizationFactory(), "contains", "hi")
        one, two = ContactFactory(organization=organization), ContactFactory(organization=organization)

        said = [(one.pk, "what's the PRICE?"), (one.pk, " Hi "), (two.pk, "Order 7, price?"), (two.pk, "hi there")]
        assert tagging.auto_tag(organization, said, at=EPOCH) == 4

        assert held(one) == {"contains Price", "exact hi"}
        assert held(two) == {"contains Price", "startsWith order"}
        assert {event[4] for event in events()} == {"inbound"}

    def test_without_rules_nothing_is_written(self, organization, django_assert_num_queries):
        with django_assert_num_queries(1):
            assert tagging.auto_tag(organization, [(1, "hi")], at=EPOCH) == 0


@pytest.mark.django_db(transaction=True)
def test_two_processes_creating_the_same_tags_share_them():
    organization = OrganizationFactory()
    names = [f"tag {n}" for n in range(30)]

    one, two = at_once(
        lambda: tagging.named(organization, names), lambda: tagging.named(organization, list(reversed(names)))
    )

    assert one == two
    assert Tag.objects.count() == 30


@pytest.mark.django_db(transaction=True)
def test_two_processes_adding_the_same_tags_fire_each_event_once():
    organization = OrganizationFactory()
    contacts = [ContactFactory(organization=organization).pk for _ in range(30)]
    tag = TagFactory(organization=organization)

    added = at_once(
        lambda: tagging.add(organization, contacts, [tag.pk], source="api", at=EPOCH),
        lambda: tagging.add(organization, contacts[::-1], [tag.pk], source="api", at=EPOCH),
    )

    assert sum(added) == 30
    assert len(events()) == 30
