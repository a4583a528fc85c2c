"""An empty list says what would stand in it and what comes first; one that is filtered away says that."""

import re

import pytest
from django.contrib import admin

from kaanha.organizations import audit
from kaanha.organizations.models import Role
from kaanha.organizations.owned_admin import MAY_NOT, OwnedAdmin
from tests.factories import ContactFactory, EndpointFactory, OrganizationFactory, TagFactory
from tests.people import signed_in, text

pytestmark = pytest.mark.django_db
OWNED = {f"{page.opts.label_lower}": page for page in admin.site._registry.values() if isinstance(page, OwnedAdmin)}
# Never empty for who may see them; templates ask for an account first.
NEVER = {"organizations.organization", "organizations.membership", "organizations.auditentry"}
ELSEWHERE = {"templates_app.messagetemplate"}


def nothing(page):
    """What stands in place of the rows, and where its links lead."""
    [found] = re.findall(r'<section class="k-nothing.*?</section>', page.content.decode(), re.DOTALL)
    words = " ".join(re.sub(r"<[^>]+>", " ", found).split())
    return words, re.findall(r'href="([^"]*)"', found)


def address(page, organization):
    """Of the list, of one contact's rows where it is a list of somebody's."""
    named = f"?contact={ContactFactory(organization=organization).pk}" if page.subjects else ""
    return page.url("changelist") + named


def test_every_empty_list_teaches():
    shop = OrganizationFactory()
    owner, viewer = signed_in(shop), signed_in(shop, Role.VIEWER)
    pages = [OWNED[name] for name in OWNED.keys() - NEVER - ELSEWHERE]
    # Those of a contact at last: then there is one.
    for page in sorted(pages, key=lambda one: bool(one.subjects)):
        teaches(page, address(page, shop), owner, viewer)


def teaches(page, at, owner, viewer):

    words, links = nothing(owner.get(at))

    assert page.empty is not None
    assert words.startswith(f"{page.empty.title} {page.empty.says}")
    assert MAY_NOT not in words
    assert (page.url("add") in links) is page.addable
    for link in links:
        assert owner.get(link).status_code == 200
    shown = viewer.get(at)
    if shown.status_code == 200:
        seen, offered = nothing(shown)
        assert page.empty.title in seen
        assert (MAY_NOT in seen) is page.addable
        assert not [link for link in offered if link.endswith("/add/")]

    searched = f"{at}{'&' if '?' in at else '?'}q=nobody"
    words, links = nothing(owner.get(searched))
    assert (
        words
        == f"Nothing matches No {page.opts.verbose_name_plural} match what you searched for or filtered by. Show all"
    )
    assert links == ["?" + at.partition("?")[2]]


def test_a_list_with_rows_teaches_nothing():
    shop = OrganizationFactory()
    TagFactory(organization=shop)

    page = signed_in(shop).get("/admin/contacts/tag/")

    assert "k-nothing" not in page.content.decode()


def test_members_that_nobody_is_among_are_searched_for_in_vain():
    words, links = nothing(signed_in(OrganizationFactory()).get("/admin/organizations/membership/?q=nobody"))

    assert words.startswith("Nothing matches No members match")
    assert links == ["?"]


def test_the_path_above_a_page_names_nothing_twice():
    asha = ContactFactory(name="Asha")
    owner = signed_in(asha.organization)

    def path(address):
        [heading] = re.findall(r"<h1.*?</h1>", owner.get(address).content.decode(), re.DOTALL)
        return " ".join(re.sub(r"<[^>]+>", " ", heading).replace("chevron_right", "›").split())

    assert path("/admin/contacts/contact/") == "Contacts"
    assert path(f"/admin/contacts/contact/{asha.pk}/change/") == "Contacts › Asha"
    assert path("/admin/contacts/tag/") == "Contacts › Tags"


def test_every_list_has_its_lesson():
    assert {name for name, page in OWNED.items() if page.empty is None} == {"organizations.organization"}


def test_lists_count_what_people_call_it():
    shop = OrganizationFactory()
    owner = signed_in(shop)
    EndpointFactory.create_batch(2, organization=shop)
    for name in ("one", "other"):
        audit.record("webhook.changed", shop, what=name)

    webhooks, log = (text(owner.get(f"/admin/{page}/")) for page in ("webhooks/endpoint", "organizations/auditentry"))

    assert "2 webhooks" in webhooks
    assert "ndpoints" not in webhooks
    assert "2 audit entries" in log


def test_who_clears_the_filters_keeps_whose_rows_they_are():
    shop = OrganizationFactory()
    whose = f"?contact={ContactFactory(organization=shop).pk}"
    page = signed_in(shop).get(f"/admin/messaging/message/{whose}&status__exact=failed")

    [cleared] = re.findall(r'<a[^>]*href="([^"]*)"[^>]*>\s*Clear all filters', page.content.decode())
    assert cleared == whose
