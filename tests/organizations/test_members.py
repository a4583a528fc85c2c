"""An organization keeps an owner, also while its owners remove each other at once."""

import threading
from contextlib import suppress
from functools import partial

import pytest
from django.db import transaction
from django.db.models import ProtectedError
from django.utils import timezone

from kaanha.lib.errors import Refusal
from kaanha.organizations import invitations, keys, members
from kaanha.organizations.models import APIKey, Invitation, Membership, Role, User
from tests.contacts.threads import at_once, meet_after
from tests.factories import MembershipFactory, OrganizationFactory
from tests.people import superuser, text


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_remove_each_other_at_once_leave_one(monkeypatch):
    organization = OrganizationFactory()
    owners = [MembershipFactory(organization=organization, role=Role.OWNER) for _ in range(2)]
    meeting, delete = threading.Barrier(2), Membership.delete

    def delete_together(membership):
        """Wait for the other one between check and deletion: it comes only where nothing holds it back."""
        with suppress(threading.BrokenBarrierError):
            meeting.wait(1)
        return delete(membership)

    def remove(membership):
        try:
            members.remove(membership, by_role=Role.OWNER)
        except Refusal as refusal:
            return refusal.code
        return "removed"

    monkeypatch.setattr(Membership, "delete", delete_together)

    assert sorted(at_once(*[partial(remove, owner) for owner in owners])) == ["last_owner", "removed"]
    assert Membership.objects.filter(organization=organization, role=Role.OWNER).count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("by_role", [Role.ADMIN, Role.AGENT, Role.VIEWER])
def test_only_owners_make_owners(by_role):
    organization = OrganizationFactory()

    agent = MembershipFactory(organization=organization, role=Role.AGENT)
    told = {"by_role": by_role, "by": None, "now": timezone.now()}

    with pytest.raises(Refusal, match="Only an owner"):
        invitations.invite(organization, "new@example.test", Role.OWNER, **told)
    with pytest.raises(Refusal, match="Only an owner"):
        members.change_role(agent, Role.OWNER, by_role=by_role)
    with pytest.raises(Refusal, match="Only an owner"):
        keys.issue(organization, name="till", role=Role.OWNER, by_role=by_role)
    assert not Invitation.objects.exists()
    assert not APIKey.objects.exists()
    assert Membership.objects.get().role == Role.AGENT


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("second", ["demote", "remove"])
def test_two_owners_who_demote_each_other_at_once_leave_one(monkeypatch, second):
    organization = OrganizationFactory()
    owners = [MembershipFactory(organization=organization, role=Role.OWNER) for _ in range(2)]
    meet_after(monkeypatch, (members, "_require_another_owner"))

    def attempt(act, owner):
        try:
            act(owner)
        except Refusal as refusal:
            return refusal.code
        return "done"

    def demote(owner):
        members.change_role(owner, Role.ADMIN, by_role=Role.OWNER)

    def remove(owner):
        members.remove(owner, by_role=Role.OWNER)

    acts = [demote, demote if second == "demote" else remove]
    outcomes = at_once(*[partial(attempt, act, owner) for act, owner in zip(acts, owners, strict=True)])

    assert sorted(outcomes) == ["done", "last_owner"]
    assert Membership.objects.filter(organization=organization, role=Role.OWNER).count() == 1


@pytest.mark.django_db
def test_an_owner_who_cannot_sign_in_is_no_other_owner():
    organization = OrganizationFactory()
    MembershipFactory(organization=organization, role=Role.OWNER, user__is_active=False)
    last = MembershipFactory(organization=organization, role=Role.OWNER)

    with pytest.raises(Refusal, match="is the last owner"):
        members.change_role(last, Role.ADMIN, by_role=Role.OWNER)


@pytest.mark.django_db
def test_the_role_is_judged_as_it_is_now():
    organization = OrganizationFactory()
    last = MembershipFactory(organization=organization, role=Role.OWNER)
    last.role = Role.AGENT  # as the page had it, before somebody made them the owner

    with pytest.raises(Refusal, match="is the last owner"):
        members.remove(last, by_role=Role.OWNER)
    with pytest.raises(Refusal, match="Only an owner"):
        members.remove(last, by_role=Role.ADMIN)


@pytest.mark.django_db
def test_an_account_with_a_membership_is_not_deleted():
    last = MembershipFactory(role=Role.OWNER)

    with pytest.raises(ProtectedError):
        last.user.delete()
    address = f"/admin/organizations/user/{last.user_id}/delete/"
    assert superuser().post(address, {"post": "yes"}).status_code == 403
    assert Membership.objects.get() == last


@pytest.mark.django_db
@pytest.mark.parametrize("switch", ["is_active", "is_staff"])
def test_the_account_of_the_last_owner_is_not_turned_off(switch):
    last = MembershipFactory(role=Role.OWNER, user__is_staff=True)
    MembershipFactory(organization=last.organization, role=Role.OWNER, user__is_active=False)
    admin = MembershipFactory(organization=last.organization, role=Role.ADMIN, user__is_staff=True)
    root = superuser()

    def turned_off(user):
        given = dict.fromkeys({"is_active", "is_staff"} - {switch}, "on")
        page = root.post(f"/admin/organizations/user/{user.pk}/change/", {"email": user.email, **given})
        user.refresh_from_db()
        return text(page), not getattr(user, switch)

    said, off = turned_off(last.user)
    assert f"{last.user} is the last owner of {last.organization}: make another member an owner first." in said
    assert not off
    assert turned_off(admin.user)[1]

    MembershipFactory(organization=last.organization, role=Role.OWNER)
    assert turned_off(last.user)[1]


@pytest.mark.django_db(transaction=True)
def test_of_two_owners_turned_off_at_once_one_stays_on(monkeypatch):
    organization = OrganizationFactory()
    owners = [MembershipFactory(organization=organization, role=Role.OWNER).user for _ in range(2)]
    meet_after(monkeypatch, (members, "_require_another_owner"))

    def turn_off(user):
        try:
            with transaction.atomic():
                members.require_owners_without(user)
                User.objects.filter(pk=user.pk).update(is_active=False)
        except Refusal as refusal:
            return refusal.code
        return "off"

    assert sorted(at_once(*(partial(turn_off, user) for user in owners))) == ["last_owner", "off"]
    assert User.objects.filter(is_active=True).count() == 1
