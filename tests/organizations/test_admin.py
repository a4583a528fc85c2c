"""The organization, its people and keys by hand; and which organization one works in."""

from datetime import UTC, datetime

import pytest

from kaanha.organizations.models import APIKey, Membership, Organization, Role, User
from tests.factories import ContactFactory, MembershipFactory, OrganizationFactory
from tests.people import browser_of, said, signed_in, superuser, text

pytestmark = pytest.mark.django_db
MEMBERS = "/admin/organizations/membership/"
KEYS = "/admin/organizations/apikey/"
CHOOSE = "/admin/organizations/organization/choose/"


@pytest.fixture
def shop():
    return OrganizationFactory(name="Shop")


@pytest.fixture
def owner(shop):
    return signed_in(shop)


def settings_of(organization, **fields):
    return {"name": organization.name, "timezone": "Asia/Kolkata", "late_limit": "90", "opt_in_words": "", **fields}


def test_an_owner_edits_the_organizations_settings(owner, shop):
    page = owner.get("/admin/organizations/organization/")
    assert page.url == f"/admin/organizations/organization/{shop.pk}/change/"

    owner.post(page.url, settings_of(shop, opt_out_words="BAJA\n\n baja \nBAJA"))
    shop.refresh_from_db()
    assert (shop.timezone, shop.late_limit.total_seconds()) == ("Asia/Kolkata", 5400)
    assert shop.opt_out_words == ["BAJA", "baja"]


def test_an_unknown_timezone_is_refused(owner, shop):
    address = f"/admin/organizations/organization/{shop.pk}/change/"

    assert "Select a valid choice" in text(owner.post(address, settings_of(shop, timezone="Mars/Olympus")))


def test_an_owner_adds_no_organization_and_cannot_rename_its_slug(owner, shop):
    slug = shop.slug
    assert owner.get("/admin/organizations/organization/add/").status_code == 403
    owner.post(f"/admin/organizations/organization/{shop.pk}/change/", settings_of(shop, slug="stolen"))

    shop.refresh_from_db()
    assert shop.slug == slug


def test_nobody_is_a_member_twice(owner, shop):
    member = MembershipFactory(organization=shop, role=Role.AGENT)
    answer = owner.post(f"{MEMBERS}add/", {"email": member.user.email, "role": "viewer"})

    assert said(answer) == [f"{member.user} is a member already: change the role instead."]
    assert Membership.objects.get(pk=member.pk).role == Role.AGENT


def test_the_last_owner_stays_an_owner(owner, shop):
    last = Membership.objects.get(organization=shop)
    for address, fields in ((f"{MEMBERS}{last.pk}/change/", {"role": "admin"}), (f"{MEMBERS}{last.pk}/remove/", {})):
        assert (
            said(owner.post(address, fields))[-1]
            == f"{last.user} is the last owner of {last.organization}: make another member an owner first."
        )
    assert Membership.objects.get().role == Role.OWNER


def test_an_owner_leaves_when_another_one_stays(owner, shop):
    other = MembershipFactory(organization=shop, role=Role.OWNER)
    owner.post(f"{MEMBERS}{other.pk}/change/", {"role": "admin"})
    other.refresh_from_db()
    assert other.role == Role.ADMIN

    owner.post(f"{MEMBERS}{other.pk}/remove/")
    assert not Membership.objects.filter(pk=other.pk).exists()
    assert User.objects.filter(pk=other.user_id).exists()


def test_an_admin_touches_no_owner_and_makes_none(shop):
    owner = MembershipFactory(organization=shop, role=Role.OWNER)
    MembershipFactory(organization=shop, role=Role.OWNER)
    admin, agent = signed_in(shop, Role.ADMIN), MembershipFactory(organization=shop, role=Role.AGENT)
    only_owners = "Only an owner may make, change or remove owners."

    assert said(admin.post(f"{MEMBERS}{owner.pk}/remove/"))[-1] == only_owners
    assert said(admin.post(f"{MEMBERS}{owner.pk}/change/", {"role": "agent"}))[-1] == only_owners
    assert "Select a valid choice" in text(admin.post(f"{MEMBERS}{agent.pk}/change/", {"role": "owner"}))
    admin.post(f"{MEMBERS}add/", {"email": "x@example.test", "role": "owner"})
    admin.post(f"{KEYS}add/", {"name": "x", "role": "owner", "expires_at_0": "", "expires_at_1": ""})

    assert Membership.objects.filter(organization=shop, role=Role.OWNER).count() == 2
    assert not APIKey.objects.exists()
    assert not User.objects.filter(email="x@example.test").exists()
    admin.post(f"{MEMBERS}{agent.pk}/change/", {"role": "viewer"})
    agent.refresh_from_db()
    assert agent.role == Role.VIEWER


def test_a_key_is_shown_once_and_works(owner, shop):
    shown = owner.post(f"{KEYS}add/", {"name": "Shop system", "role": "admin", "expires_at_0": "", "expires_at_1": ""})

    secret = shown.context["secret"]
    assert secret in shown.content.decode()
    assert APIKey.usable(secret).organization == shop
    key = APIKey.objects.get()
    for address in (KEYS, f"{KEYS}{key.pk}/change/"):
        page = owner.get(address).content.decode()
        assert "Shop system" in page
        assert secret not in page
        assert key.digest not in page


def test_a_revoked_key_works_no_more(owner, shop):
    key, secret = APIKey.issue(shop, name="Shop system")
    assert "refused from now on" in text(owner.get(f"{KEYS}{key.pk}/revoke/"))
    assert APIKey.usable(secret) == key

    owner.post(f"{KEYS}{key.pk}/revoke/")
    assert APIKey.usable(secret) is None
    revoked_at = APIKey.objects.get().revoked_at
    owner.post(f"{KEYS}{key.pk}/revoke/")
    assert APIKey.objects.get().revoked_at == revoked_at


@pytest.mark.parametrize("role", [Role.AGENT, Role.VIEWER])
def test_agents_and_viewers_see_no_settings(shop, role):
    browser = signed_in(shop, role)
    key, _ = APIKey.issue(shop, name="x")
    settings = f"/admin/organizations/organization/{shop.pk}/change/"

    for address in (MEMBERS, KEYS, f"{KEYS}{key.pk}/revoke/", f"{KEYS}add/", f"{MEMBERS}add/", settings):
        assert browser.get(address).status_code == 403
        assert browser.post(address).status_code == 403
    assert APIKey.objects.get().revoked_at is None


def test_a_member_of_two_works_in_one_at_a_time_in_the_role_of_that_one(shop):
    other = OrganizationFactory(name="Zoo")
    user = MembershipFactory(organization=shop, role=Role.VIEWER, user__is_staff=True).user
    MembershipFactory(organization=other, role=Role.OWNER, user=user)
    ContactFactory(organization=shop, name="Of the shop")
    zoo_contact = ContactFactory(organization=other, name="Of the zoo")
    browser = browser_of(user)
    contacts = "/admin/contacts/contact/"

    assert "Of the shop" in text(browser.get(contacts))
    assert "Of the zoo" not in text(browser.get(contacts))
    assert browser.get(f"{contacts}{zoo_contact.pk}/change/").status_code == 404
    assert browser.get(KEYS).status_code == 403

    browser.post(CHOOSE, {"organization": other.pk})
    assert "Of the zoo" in text(browser.get(contacts))
    assert "Of the shop" not in text(browser.get(contacts))
    assert browser.get(KEYS).status_code == 200


@pytest.mark.parametrize("choice", ["all", "foreign", "no number", ""])
def test_nobody_switches_to_what_is_not_theirs(owner, shop, choice):
    foreign = OrganizationFactory(name="Foreign")
    chosen = foreign.pk if choice == "foreign" else choice

    assert owner.post(CHOOSE, {"organization": chosen}).status_code == 404
    assert "Foreign" not in text(owner.get(CHOOSE))
    assert "Shop" in text(owner.get("/admin/"))


def test_a_membership_that_ended_ends_at_once(shop):
    membership = MembershipFactory(organization=shop, user__is_staff=True)
    browser = browser_of(membership.user)
    browser.post(CHOOSE, {"organization": shop.pk})
    contact = ContactFactory(organization=shop)
    membership.delete()

    assert browser.get("/admin/contacts/contact/").status_code == 403
    assert browser.get(f"/admin/contacts/contact/{contact.pk}/change/").status_code == 403
    assert "You don't belong to an organization yet." in text(browser.get("/admin/"))


def test_a_superuser_looks_at_all_organizations_and_adds_to_a_chosen_one(shop):
    other = OrganizationFactory(name="Zoo")
    ContactFactory(organization=shop, name="Of the shop")
    ContactFactory(organization=other, name="Of the zoo")
    root = superuser()
    shown = text(root.get("/admin/contacts/contact/"))
    assert "Of the shop" in shown
    assert "Of the zoo" in shown
    assert root.get("/admin/contacts/tag/add/").url == CHOOSE

    root.post(CHOOSE, {"organization": other.pk})
    root.post("/admin/contacts/tag/add/", {"name": "lions"})
    assert "Of the shop" not in text(root.get("/admin/contacts/contact/"))
    assert root.get("/admin/contacts/tag/").status_code == 200
    assert list(Organization.objects.filter(pk=other.pk, name="Zoo")) == [other]

    root.post(CHOOSE, {"organization": "all"})
    assert "Of the shop" in text(root.get("/admin/contacts/contact/"))


def test_a_superuser_of_a_single_organization_need_not_choose(shop):
    assert superuser().get("/admin/contacts/tag/add/").status_code == 200


def test_times_are_shown_in_the_organizations_timezone_which_is_named(shop):
    Organization.objects.filter(pk=shop.pk).update(timezone="Asia/Kolkata")
    key, _ = APIKey.issue(shop, name="x")
    APIKey.objects.filter(pk=key.pk).update(created_at=datetime(2026, 1, 1, 20, tzinfo=UTC))

    assert "2 Jan 2026, 01:30 IST" in text(signed_in(shop).get(KEYS))


def test_the_search_offers_what_the_role_in_the_present_organization_may_see(shop):
    other = OrganizationFactory(name="Zoo")
    membership = MembershipFactory(organization=shop, role=Role.OWNER, user__is_staff=True)
    MembershipFactory(organization=other, user=membership.user, role=Role.VIEWER)
    browser = browser_of(membership.user)

    def offered(organization):
        browser.post("/admin/organizations/organization/choose/", {"organization": organization.pk})
        return "apikey" in browser.get("/admin/search/?s=api").content.decode()

    assert [offered(one) for one in (shop, other, shop)] == [True, False, True]
