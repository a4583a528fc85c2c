"""The command palette: whom and what it finds, for whom, and by which index."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from contacts.models import Contact
from kaanha import palette
from kaanha.organizations.models import Membership, Role
from tests.factories import (
    BroadcastFactory,
    ContactFactory,
    MembershipFactory,
    OrganizationFactory,
    SequenceFactory,
    TemplateFactory,
)
from tests.people import signed_in, superuser, text

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop():
    """One of everything that is called Diwali."""
    organization = OrganizationFactory()
    fill(organization, "Diwali")
    return organization


def fill(organization, name):
    ContactFactory(organization=organization, name=f"{name} Rao")
    ContactFactory(organization=organization, name=f"Late {name}")
    ContactFactory(organization=organization, name=f"{name} Gone", deleted_at=timezone.now())
    BroadcastFactory(
        organization=organization, name=f"The {name} sale", template__name="plain", template__organization=organization
    )
    SequenceFactory(organization=organization, name=f"{name} basket")
    TemplateFactory(organization=organization, name=f"{name.lower()}_offer")


def found(browser, term):
    return [
        (one.title, one.description.partition(" ")[0])
        for one in browser.get("/admin/search/", {"s": term, "extended": "1"}).context["results"]
    ]


def test_it_finds_what_begins_or_is_called_so(shop):
    assert found(signed_in(shop), "diwali") == [
        ("Diwali Rao", "Contact"),
        ("The Diwali sale", "Broadcast"),
        ("Diwali basket", "Sequence"),
        ("diwali_offer (en_US)", "Template"),
    ]
    for one in signed_in(shop).get("/admin/search/?s=diwali").context["results"]:
        assert signed_in(shop).get(one.link, follow=True).status_code == 200
    assert "Nothing is called so" in text(signed_in(shop).get("/admin/search/?s=holi"))
    assert signed_in(shop).get("/admin/search/?s=%20").content == b""


def test_a_number_is_found_however_it_is_written(shop):
    ContactFactory(organization=shop, name="", phone="+919811122233")
    ContactFactory(phone="+919811122244")

    for term in ("+91 98111-222", "0091981112", "919811122233"):
        assert found(signed_in(shop), term) == [("+919811122233", "Contact")]
    assert found(signed_in(shop), "98111") == []


def test_signs_of_patterns_are_letters(shop):
    ContactFactory(organization=shop, name="100% Cotton")
    ContactFactory(organization=shop, name="100 Ways")

    assert found(signed_in(shop), "100% c") == [("100% Cotton", "Contact")]
    assert found(signed_in(shop), "__") == []
    assert found(signed_in(shop), "di_w") == []


def test_roles_find_what_they_may_see(shop):
    agent, viewer = signed_in(shop, Role.AGENT), signed_in(shop, Role.VIEWER)

    assert found(agent, "diwali") == [("Diwali Rao", "Contact")]
    assert len(found(viewer, "diwali")) == 4
    assert found(agent, "import") == [("Imports", "Page"), ("Import contacts", "Page")]
    assert found(viewer, "import") == [("Imports", "Page")]
    assert found(agent, "broadcast") == []
    assert found(viewer, "api keys") == found(signed_in(shop), "meta apps") == []
    assert found(signed_in(shop), "api keys") == [("API keys", "Page")]


def test_it_looks_into_the_organization_worked_in_at_once_after_switching(shop):
    other = OrganizationFactory()
    fill(other, "Diwali other")
    browser = signed_in(shop)
    person = Membership.objects.get(organization=shop).user
    MembershipFactory(organization=other, user=person, role=Role.AGENT)
    for organization, names in ((shop, ["Diwali Rao"]), (other, ["Diwali other Rao"]), (shop, ["Diwali Rao"])):
        browser.post("/admin/organizations/organization/choose/", {"organization": organization.pk})
        assert [title for title, kind in found(browser, "diwali") if kind == "Contact"] == names

    # who looks at all organizations has chosen none
    assert found(superuser(), "diwali") == []
    assert found(superuser(), "meta apps") == [("Meta apps", "Page")]


def test_it_costs_the_same_and_shows_a_few_of_each(shop):
    browser = signed_in(shop)

    def queries():
        with CaptureQueriesContext(connection) as caught:
            browser.get("/admin/search/?s=diwali")
        return len(caught)

    queries()
    few = queries()
    for number in range(palette.EACH + 2):
        fill(shop, f"Diwali {number}")
    assert queries() == few
    assert len(found(browser, "diwali")) == 4 * palette.EACH


@pytest.mark.parametrize(("term", "index"), [("ram", "contact_name_begins"), ("+9198", "contact_phone_once")])
def test_contacts_are_found_by_an_index(shop, term, index):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_sort = off")
    plan = Contact.objects.of(shop).active().beginning(term)[:5].explain()

    assert index in plan
    assert "Index Cond" in plan
    assert ">= 'ram'" in plan or ">= '+9198'" in plan
