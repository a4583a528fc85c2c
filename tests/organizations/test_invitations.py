"""Invitations: a link is good once, for one address, until it expires; and never known but to whoever has it."""

import logging
from datetime import timedelta
from functools import partial
from smtplib import SMTPServerDisconnected

import pytest
import time_machine
from django.core import mail
from django.test import Client
from django.utils import timezone

from kaanha.lib.errors import Refusal
from kaanha.organizations import invitations, members
from kaanha.organizations.models import AuditEntry, Invitation, Membership, Role, User
from tests.contacts.threads import at_once, meet_after
from tests.factories import MembershipFactory, OrganizationFactory
from tests.organizations.doors import equipped
from tests.people import browser_of, said, signed_in, text

pytestmark = pytest.mark.django_db
MEMBERS = "/admin/organizations/membership/"
PAGE = "/invitations/"
PASSWORD = "a long enough password"
NOW = timezone.now
NEW = {"first_name": "Asha", "last_name": "Rao", "new_password1": PASSWORD, "new_password2": PASSWORD}


@pytest.fixture(autouse=True)
def _mail_leaves(settings):
    settings.EMAIL_LEAVES = True


@pytest.fixture
def shop():
    return OrganizationFactory(name="Shop")


def invited(organization, email="asha@example.test", role=Role.AGENT, **told):
    """An invitation and its link, without the server's name."""
    by = {"by_role": Role.OWNER, "by": None, "now": NOW(), **told}
    invitation, token = invitations.invite(organization, email, role, **by)
    return invitation, f"/invitations/{token}"


def token_of(link):
    return link.rpartition("/")[2]


def opened(link, browser=None):
    """A browser that has followed the link."""
    browser = browser or Client()
    assert browser.get(link).url == PAGE
    return browser


def audited():
    return list(AuditEntry.objects.order_by("pk").values_list("action", flat=True))


# --- by the inviter ----------------------------------------------------------------------------------------------


def test_an_owner_invites_and_the_link_is_mailed(shop):
    owner = signed_in(shop)
    answer = owner.post(f"{MEMBERS}add/", {"email": "Asha@Example.test", "role": "agent"})

    assert answer.url == MEMBERS
    assert said(answer) == ["asha@example.test is invited."]
    invitation, [letter] = Invitation.objects.get(), mail.outbox
    assert (invitation.email, invitation.role, invitation.organization) == ("asha@example.test", "agent", shop)
    assert invitation.expires_at - invitation.created_at == timedelta(days=7)
    assert letter.to == ["asha@example.test"]
    [link] = [line for line in letter.body.splitlines() if "/invitations/" in line]
    assert link.startswith("http://127.0.0.1:8000/invitations/")
    assert invitations.opened(token_of(link), now=NOW()) == invitation
    assert not User.objects.filter(email="asha@example.test").exists()
    assert audited() == ["member.invited"]


def test_the_token_is_nowhere(shop, caplog):
    caplog.set_level(logging.DEBUG)
    _, link = invited(shop)
    browser = opened(link)
    Client().get("/invitations/not-a-token")
    browser.get(PAGE)
    page = signed_in(shop).get(MEMBERS)

    token = token_of(link)
    assert token not in str(list(Invitation.objects.values())) + str(list(AuditEntry.objects.values()))
    assert token not in page.content.decode() + browser.get(PAGE).content.decode()
    assert token not in caplog.text
    assert "not-a-token" not in caplog.text
    answer = Client().get(link)
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "no-store" in answer.headers["Cache-Control"]


@pytest.mark.parametrize("error", [SMTPServerDisconnected("gone"), ConnectionRefusedError(), TimeoutError()])
def test_a_mail_server_that_fails_loses_no_invitation(shop, monkeypatch, error):
    def fail(_):
        raise error

    monkeypatch.setattr("django.core.mail.EmailMessage.send", fail)
    answer = signed_in(shop).post(f"{MEMBERS}add/", {"email": "asha@example.test", "role": "agent"})

    assert answer.status_code == 200
    assert "It was not mailed" in text(answer)
    assert invitations.opened(token_of(answer.context["secret"]), now=NOW()) == Invitation.objects.get()


def test_where_no_mail_leaves_the_link_is_shown_once(shop, settings):
    settings.EMAIL_LEAVES = False
    owner = signed_in(shop)
    answer = owner.post(f"{MEMBERS}add/", {"email": "asha@example.test", "role": "agent"})

    link = answer.context["secret"]
    assert link in answer.content.decode()
    assert token_of(link) not in owner.get(MEMBERS).content.decode()


def test_it_is_mailed_after_the_transaction(shop, monkeypatch):
    seen = []
    monkeypatch.setattr(
        invitations, "send", lambda invitation, token: seen.append(Invitation.objects.filter(pk=invitation.pk).exists())
    )
    signed_in(shop).post(f"{MEMBERS}add/", {"email": "asha@example.test", "role": "agent"})

    assert seen == [True]


def test_inviting_again_replaces_the_link(shop):
    _, old = invited(shop)
    answer = signed_in(shop).post(f"{MEMBERS}invitations/{Invitation.objects.get().pk}/send-again/")

    assert answer.url == MEMBERS
    assert invitations.opened(token_of(old), now=NOW()) is None
    assert Invitation.objects.open().count() == 1
    assert token_of(mail.outbox[0].body) != token_of(old)


@time_machine.travel("2126-06-01T12:00:00Z", tick=False)  # the letters say until when
def test_whoever_invites_does_not_learn_who_has_an_account(shop):
    User.objects.create_user("known@example.test", PASSWORD, is_staff=True)
    owner = signed_in(shop)
    seen = []
    for name in ("known", "other"):
        answer = owner.post(f"{MEMBERS}add/", {"email": f"{name}@example.test", "role": "agent"})
        page = text(owner.get(MEMBERS))
        seen.append([answer.url, page.replace("known", "…").replace("other", "…").count("…@example.test")])
    assert seen == [[MEMBERS, 2], [MEMBERS, 3]]  # said, and in the list
    [one, other] = [letter.body.replace("known", "other") for letter in mail.outbox]
    assert one.partition("/invitations/")[0] == other.partition("/invitations/")[0]


def test_names_write_no_headers(shop):
    shop.name = "Shop\r\nBcc: all@example.test\n\nBuy"
    shop.save()
    owner = signed_in(shop)
    owner.post(f"{MEMBERS}add/", {"email": "asha@example.test\nBcc: all@example.test", "role": "agent"})
    assert mail.outbox == []
    owner.post(f"{MEMBERS}add/", {"email": "asha@example.test", "role": "agent"})

    [letter] = mail.outbox
    assert letter.subject == "Invitation to Shop Bcc: all@example.test Buy on Kaanha"
    assert letter.recipients() == ["asha@example.test"]
    assert letter.message()["Bcc"] is None
    assert "\nBcc" not in letter.body


def test_so_many_wait_and_no_more(shop, monkeypatch):
    monkeypatch.setattr(invitations, "MOST_OPEN", 2)
    for name in ("one", "two"):
        invited(shop, email=f"{name}@example.test")
    invited(OrganizationFactory(), email="elsewhere@example.test")

    with pytest.raises(Refusal, match="2 invitations wait already"):
        invited(shop, email="three@example.test")
    invited(shop, email="two@example.test")  # in place of the one before
    invitations.revoke(Invitation.objects.open().get(email="one@example.test"), by_role=Role.OWNER, now=NOW())
    invited(shop, email="three@example.test")
    waiting = Invitation.objects.of(shop).open().order_by("email")
    assert [one.email for one in waiting] == ["three@example.test", "two@example.test"]


def test_a_revoked_link_opens_nothing(shop):
    invitation, link = invited(shop)
    owner = signed_in(shop)
    assert "asha@example.test" in text(owner.get(MEMBERS))
    asked = text(owner.get(f"{MEMBERS}invitations/{invitation.pk}/revoke/"))
    assert "The link that asha@example.test got opens nothing any more." in asked
    assert opened(link).get(PAGE).status_code == 200
    owner.post(f"{MEMBERS}invitations/{invitation.pk}/revoke/")

    assert opened(link).get(PAGE).status_code == 404
    assert "Invitations that wait" not in text(owner.get(MEMBERS))
    assert audited() == ["member.invited", "member.invitation_revoked"]


def test_a_member_is_not_invited(shop):
    member = MembershipFactory(organization=shop, user__email="asha@example.test")
    answer = signed_in(shop).post(f"{MEMBERS}add/", {"email": "ASHA@example.test", "role": "viewer"})

    assert said(answer) == ["asha@example.test is a member already: change the role instead."]
    assert not Invitation.objects.exists()
    assert mail.outbox == []
    assert Membership.objects.get(pk=member.pk).role == Role.OWNER


def test_an_admin_invites_no_owner_and_leaves_their_invitations_alone(shop):
    invitation, link = invited(shop, role=Role.OWNER)
    admin = signed_in(shop, Role.ADMIN)
    admin.post(f"{MEMBERS}add/", {"email": "new@example.test", "role": "owner"})
    for act in ("revoke", "send-again"):
        answer = admin.post(f"{MEMBERS}invitations/{invitation.pk}/{act}/")
        assert said(answer)[-1] == "Only an owner may make, change or remove owners."

    assert invitations.opened(token_of(link), now=NOW()) == invitation
    assert Invitation.objects.count() == 1


def test_another_organizations_invitation_is_nowhere(shop):
    invitation, _ = invited(OrganizationFactory(), email="foreign@example.test")
    owner = signed_in(shop)

    for act in ("revoke", "send-again"):
        for ask in (owner.get, owner.post):
            assert ask(f"{MEMBERS}invitations/{invitation.pk}/{act}/").status_code == 404
    assert "foreign@example.test" not in text(owner.get(MEMBERS))
    assert Invitation.objects.open().count() == 1


@pytest.mark.parametrize("role", [Role.AGENT, Role.VIEWER])
def test_agents_and_viewers_invite_nobody(shop, role):
    invitation, _ = invited(shop)
    browser = signed_in(shop, role)

    for address in ("add/", f"invitations/{invitation.pk}/revoke/", f"invitations/{invitation.pk}/send-again/"):
        assert browser.post(MEMBERS + address).status_code == 403


def test_the_members_page_costs_the_same_however_many_invitations(shop, django_assert_max_num_queries):
    owner = signed_in(shop)
    for number in range(20):
        invited(shop, email=f"guest{number}@example.test")

    with django_assert_max_num_queries(9):
        assert "guest19@example.test" in text(owner.get(MEMBERS))


# --- by the invited ----------------------------------------------------------------------------------------------


def test_a_new_person_sets_a_password_and_is_in(shop):
    _, link = invited(shop, role=Role.VIEWER)
    browser = opened(link)
    page = text(browser.get(PAGE))
    assert "Shop" in page
    assert "asha@example.test" in page
    answer = browser.post(PAGE, NEW)

    assert answer.url == "/admin/"
    user = User.objects.get(email="asha@example.test")
    assert (user.first_name, user.last_name, user.is_staff, user.is_superuser) == ("Asha", "Rao", True, False)
    assert user.check_password(PASSWORD)
    assert Membership.objects.get(user=user, organization=shop).role == Role.VIEWER
    assert browser.get("/admin/contacts/contact/").status_code == 200
    entry = AuditEntry.objects.latest("pk")
    assert (entry.action, entry.actor_name, entry.organization) == ("member.joined", "asha@example.test", shop)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"new_password1": "short", "new_password2": "short"}, "too short"),
        ({"new_password1": "asha@example.test", "new_password2": "asha@example.test"}, "too similar"),
        ({"new_password2": "another long password"}, "match"),
        ({"first_name": ""}, "required"),
    ],
)
def test_a_password_is_validated(shop, fields, fault):
    _, link = invited(shop)

    assert fault in text(opened(link).post(PAGE, {**NEW, **fields}))
    assert not User.objects.exists()


def test_who_has_an_account_signs_in_and_accepts(shop):
    user = User.objects.create_user("asha@example.test", PASSWORD, is_staff=True)
    _, link = invited(shop)
    browser = opened(link)
    page = browser.get(PAGE)
    assert "/admin/login/?next=%2Finvitations%2F" in page.content.decode()
    browser.post(PAGE, {**NEW, "new_password1": "stolen account", "new_password2": "stolen account"})
    user.refresh_from_db()
    assert user.check_password(PASSWORD)
    assert not Membership.objects.exists()

    browser = opened(link, browser_of(user))
    assert not Membership.objects.exists()
    assert browser.post(PAGE).url == "/admin/"
    assert Membership.objects.get(user=user).organization == shop
    entry = AuditEntry.objects.latest("pk")
    assert (entry.action, entry.actor_name, entry.organization) == ("member.joined", "asha@example.test", shop)


def test_an_invitation_survives_signing_in(shop):
    User.objects.create_user("asha@example.test", PASSWORD, is_staff=True)
    _, link = invited(shop)
    browser = opened(link)
    answer = browser.post(
        "/admin/login/?next=/invitations/", {"username": "asha@example.test", "password": PASSWORD, "next": PAGE}
    )

    assert answer.url == PAGE
    assert "Accept" in text(browser.get(PAGE))


def test_who_has_a_second_factor_shows_it_before_accepting(shop):
    user = User.objects.create_user("asha@example.test", PASSWORD, is_staff=True)
    _, codes = equipped(user, now=NOW())
    _, link = invited(shop)
    browser = opened(link)
    given = {"username": "asha@example.test", "password": PASSWORD, "next": PAGE}

    assert browser.post("/admin/login/", given).url == "/admin/login/code/"
    browser.post(PAGE)
    assert not Membership.objects.exists()
    assert browser.post("/admin/login/code/?backup", {"code": codes[0]}).url == PAGE
    assert browser.post(PAGE).url == "/admin/"
    assert Membership.objects.get().user == user


def test_where_a_second_factor_is_wanted_it_is_asked_for_right_after(shop):
    shop.second_factor_required = True
    shop.save()
    _, link = invited(shop, role=Role.ADMIN)
    browser = opened(link)
    browser.post(PAGE, NEW)

    for page in ("/admin/", MEMBERS, "/admin/contacts/contact/"):
        assert browser.get(page).url.startswith("/admin/account/second-factor/")


@pytest.mark.parametrize("owns", [False, True])
def test_a_link_alone_opens_no_account_not_even_one_without_a_password(shop, owns):
    user = User.objects.create_user("asha@example.test", is_staff=True, is_superuser=not owns)
    if owns:
        MembershipFactory(user=user)
    _, link = invited(shop)
    browser = opened(link)
    assert "has an account" in text(browser.post(PAGE, NEW))
    with pytest.raises(Refusal, match="sign in with it"):
        invitations.accept_as_new(token_of(link), password=PASSWORD, first_name="A", last_name="", ip=None, now=NOW())

    user.refresh_from_db()
    assert not user.has_usable_password()
    assert not Membership.objects.filter(organization=shop).exists()
    assert Invitation.objects.open().count() == 1


def test_somebody_else_is_asked_to_sign_out(shop):
    _, link = invited(shop)
    other = MembershipFactory(user__is_staff=True).user
    browser = opened(link, browser_of(other))
    assert f"You are signed in as {other}." in text(browser.get(PAGE))
    browser.post(PAGE)
    assert not Membership.objects.filter(organization=shop).exists()

    browser.post(PAGE, {"_sign_out": "1"})
    assert "Choose a password" in text(browser.get(PAGE))


def test_a_link_is_good_once(shop):
    _, link = invited(shop)
    opened(link).post(PAGE, NEW)
    late = opened(link)

    assert late.get(PAGE).status_code == 404
    assert late.post(PAGE, NEW).status_code == 404
    assert Membership.objects.count() == 1


def test_unknown_used_expired_and_revoked_links_look_the_same(shop):
    _, used = invited(shop, email="used@example.test")
    invitations.accept_as_new(token_of(used), password=PASSWORD, first_name="A", last_name="", ip=None, now=NOW())
    revoked, revoked_link = invited(shop, email="revoked@example.test")
    invitations.revoke(revoked, by_role=Role.OWNER, now=NOW())
    _, expired = invited(shop, email="expired@example.test", now=NOW() - timedelta(days=7))

    pages = [opened(link).get(PAGE) for link in (used, revoked_link, expired, "/invitations/unknown")]
    pages.append(Client().get(PAGE))
    assert {page.status_code for page in pages} == {404}
    assert len({text(page) for page in pages}) == 1
    assert "ask whoever invited you for another link" in text(pages[0])


def test_it_expires_between_page_and_answer(shop):
    _, link = invited(shop)
    browser = opened(link)
    with time_machine.travel(NOW() + timedelta(days=7), tick=False):
        assert browser.post(PAGE, NEW).status_code == 404
    assert not User.objects.exists()


def test_an_account_that_is_off_stays_out(shop):
    user = User.objects.create_user("asha@example.test", PASSWORD, is_active=False, is_staff=True)
    _, link = invited(shop)
    browser = opened(link)
    browser.post(PAGE, NEW)
    browser.post("/admin/login/", {"username": "asha@example.test", "password": PASSWORD, "next": PAGE})
    browser.post(PAGE)
    opened(link, browser_of(user)).post(PAGE)

    assert not Membership.objects.exists()
    assert Invitation.objects.open().count() == 1


def test_who_became_a_member_otherwise_keeps_that_role(shop):
    user = User.objects.create_user("asha@example.test", PASSWORD, is_staff=True)
    _, link = invited(shop, role=Role.OWNER)
    MembershipFactory(organization=shop, user=user, role=Role.VIEWER)
    opened(link, browser_of(user)).post(PAGE)

    assert Membership.objects.get().role == Role.VIEWER
    assert not Invitation.objects.open().exists()


@pytest.mark.django_db(transaction=True)
def test_accepting_twice_at_once_makes_one_membership(monkeypatch):
    _, link = invited(OrganizationFactory())
    meet_after(monkeypatch, (invitations, "_claimed"))

    def accept():
        told = {"password": PASSWORD, "first_name": "A", "last_name": "", "ip": None, "now": NOW()}
        try:
            return str(invitations.accept_as_new(token_of(link), **told))
        except Refusal as refusal:
            return refusal.code

    assert sorted(at_once(accept, accept)) == ["asha@example.test", "invitation_gone"]
    assert (Membership.objects.count(), User.objects.count()) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_accepting_two_organizations_at_once_makes_one_account(monkeypatch):
    links = [invited(OrganizationFactory())[1] for _ in range(2)]
    meet_after(monkeypatch, (invitations, "_claimed"))

    def accept(link):
        told = {"password": PASSWORD, "first_name": "A", "last_name": "", "ip": None, "now": NOW()}
        try:
            return str(invitations.accept_as_new(token_of(link), **told))
        except Refusal as refusal:
            return refusal.code

    assert sorted(at_once(*(partial(accept, link) for link in links))) == ["account_exists", "asha@example.test"]
    assert (Membership.objects.count(), User.objects.count(), Invitation.objects.open().count()) == (1, 1, 1)


@pytest.mark.django_db(transaction=True)
def test_inviting_twice_at_once_leaves_one_open_link(monkeypatch):
    shop = OrganizationFactory()
    meet_after(monkeypatch, (members, "lock"))

    at_once(partial(invited, shop), partial(invited, shop))
    assert Invitation.objects.open().count() == 1
    assert Invitation.objects.count() == 2
