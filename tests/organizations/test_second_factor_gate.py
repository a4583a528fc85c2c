"""Where an organization asks for a second factor, nothing of it is seen without one."""

import re
from datetime import UTC, datetime

import pytest
import time_machine
from django.urls import URLPattern, get_resolver

from kaanha.organizations.middleware import SecondFactorGate
from kaanha.organizations.models import Authenticator, Organization
from tests.factories import MembershipFactory, OrganizationFactory, TagFactory
from tests.organizations.doors import ACCOUNT, CODE, SET_UP, app, codes_on, enter, equipped, person
from tests.people import browser_of, signed_in, superuser, text

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
CHOOSE = "/admin/organizations/organization/choose/"
TAGS = "/admin/contacts/tag/"


@pytest.fixture
def strict():
    return OrganizationFactory(name="Strict", second_factor_required=True)


def addresses(patterns=None, before="", names=""):
    """Every address of the admin with its name, an id of 1 wherever it takes one."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLPattern):
            yield route, f"{names}{pattern.name}"
        else:
            space = f"{pattern.namespace}:" if pattern.namespace else ""
            yield from addresses(pattern.url_patterns, route, names + space)


def admin_addresses():
    """By address the name of what answers there: the first of those that would."""
    found = {}
    for route, name in addresses():
        if route.startswith("admin/"):
            found.setdefault("/" + filled(route), name)
    return found


def filled(route):
    """With an id of 1 wherever it takes one; the catch-all and the index of an app are Django's regular expressions."""
    route = route.replace("(?P<url>.*)$", "anything").replace("^(?P<app_label>", "").replace(")/$", "/")
    return re.sub("<[^>]+>", "1", re.sub(r"(\|\w+)+/$", "/", route))


def test_every_page_of_the_admin_leads_to_setting_it_up(strict):
    browser = signed_in(strict)
    walked = admin_addresses()
    assert len(walked) > 100
    assert all("<" not in address and "(" not in address for address in walked), walked

    open_ones = set()
    for address, name in walked.items():
        for method in ("GET", "POST"):
            if "_auth_user_id" not in browser.session:  # some of them sign out
                browser = signed_in(strict)
            answer = browser.generic(method, address)
            led = answer.status_code == 302 and answer.url.startswith(f"{SET_UP}?next=")
            if not led:
                open_ones.add(name)
    assert open_ones == SecondFactorGate.OPEN - {"admin:login"}  # its address is that of sign_in


def test_what_stays_open_shows_no_row_of_the_organization(strict):
    TagFactory(organization=strict, name="secret-tag")
    browser = signed_in(strict)
    for address in (SET_UP, CHOOSE, "/admin/password_change/", "/admin/jsi18n/"):
        answer = browser.get(address)
        assert answer.status_code == 200
        assert "secret-tag" not in answer.content.decode()


def test_it_is_set_up_and_leads_back_to_the_page_that_was_wanted(strict):
    browser = signed_in(strict)
    led = browser.get(f"{TAGS}?q=a").url
    assert led == f"{SET_UP}?next=%2Fadmin%2Fcontacts%2Ftag%2F%3Fq%3Da"
    assert "Strict asks its members for a second factor." in text(browser.get(led))

    answer = browser.post(led, {"code": app(Authenticator.objects.get()), "next": f"{TAGS}?q=a"})
    assert len(codes_on(answer)) == 10
    assert f'href="{TAGS}?q=a"' in answer.content.decode()
    assert browser.get(TAGS).status_code == 200


def test_what_is_posted_is_not_done(strict):
    tag = TagFactory(organization=strict, name="before")
    browser = signed_in(strict)
    assert browser.post(f"{TAGS}{tag.pk}/change/", {"name": "after"}).url == f"{SET_UP}?next=%2Fadmin%2F"
    tag.refresh_from_db()
    assert tag.name == "before"


def test_nobody_is_led_to_another_site(strict):
    browser = signed_in(strict)
    browser.get(SET_UP)
    answer = browser.post(SET_UP, {"code": app(Authenticator.objects.get()), "next": "https://evil.test/"})
    assert "evil.test" not in answer.content.decode()


def test_another_organization_that_asks_for_none_stays_usable(strict):
    user = person(strict)
    easy = MembershipFactory(user=user, organization__name="Easy").organization
    browser = browser_of(user)
    browser.post(CHOOSE, {"organization": strict.pk})
    assert browser.get(TAGS).url.startswith(SET_UP)

    browser.post(CHOOSE, {"organization": easy.pk})
    assert browser.get(TAGS).status_code == 200
    browser.post(CHOOSE, {"organization": strict.pk})
    assert browser.get(TAGS).url.startswith(SET_UP)


def test_who_has_one_shows_it_before_anything_is_seen(strict):
    with time_machine.travel(NOON, tick=False):
        user = person(strict)
        authenticator, _ = equipped(user, now=NOON)
        browser = browser_of(user)  # a session that has shown no code, however it came about
        assert browser.get(TAGS).url == CODE

        assert browser.post(CODE, {"code": app(authenticator)}).url == TAGS
        assert browser.get(TAGS).status_code == 200


def test_signing_in_with_a_code_is_enough(strict):
    with time_machine.travel(NOON, tick=False):
        user = person(strict)
        authenticator, _ = equipped(user, now=NOON)
        browser = enter(user).client
        browser.post(CODE, {"code": app(authenticator)})
        assert browser.get(TAGS).status_code == 200


def test_turning_it_off_leads_to_setting_it_up_again(strict):
    with time_machine.travel(NOON, tick=False):
        user = person(strict)
        _, codes = equipped(user, now=NOON)
        browser = enter(user).client
        browser.post(CODE, {"code": codes[0]})
        assert "Asked for by Strict." in text(browser.get(ACCOUNT))

        browser.post(f"{SET_UP}off/", {"code": codes[1]})
        assert browser.get(TAGS).url.startswith(SET_UP)


def test_superusers_need_one_as_soon_as_an_organization_asks_for_it():
    easy = OrganizationFactory()
    root = superuser()
    assert root.get(TAGS).status_code == 200

    OrganizationFactory(second_factor_required=True)
    for organization in ("all", easy.pk):
        root.post(CHOOSE, {"organization": organization})
        assert root.get("/admin/organizations/user/").url.startswith(SET_UP)
    assert signed_in(easy).get(TAGS).status_code == 200


def test_it_costs_members_no_query_and_superusers_one(strict, django_assert_num_queries):
    easy = OrganizationFactory()
    member, root = signed_in(easy), None
    with django_assert_num_queries(5):  # session and user, memberships, and Django's permissions
        member.get("/admin/jsi18n/")
        member.get("/admin/organizations/organization/")
    Organization.objects.update(second_factor_required=False)
    root = superuser()
    with django_assert_num_queries(4):  # session and user, organizations, whether one asks for it
        root.get("/admin/nowhere/")


def test_owners_turn_it_on_in_the_settings():
    shop = OrganizationFactory()
    browser = signed_in(shop)
    address = f"/admin/organizations/organization/{shop.pk}/change/"
    assert "Members need a second factor" in text(browser.get(address))
    browser.post(address, {"name": "Shop", "timezone": "UTC", "late_limit": "60", "second_factor_required": "on"})

    shop.refresh_from_db()
    assert shop.second_factor_required
    assert browser.get("/admin/").url == f"{SET_UP}?next=%2Fadmin%2F"


def test_the_api_and_the_door_are_not_behind_it(strict, client):
    browser = signed_in(strict)
    assert browser.get("/health").status_code == 200
    assert browser.get("/api/status").status_code == 401
    assert browser.get("/admin/nowhere/at/all/").status_code == 302
    assert client.get("/admin/login/").status_code == 200
    browser.post("/admin/logout/")
    assert browser.get(SET_UP).url == f"/admin/login/?next={SET_UP}"
