"""An organization keeps an owner, also while its owners remove each other at once."""

import threading
from contextlib import suppress
from functools import partial

import pytest

from kaanha.lib.errors import Refusal
from kaanha.organizations import members
from kaanha.organizations.models import Membership, Role
from tests.contacts.threads import at_once
from tests.factories import MembershipFactory, OrganizationFactory


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

    with pytest.raises(Refusal, match="Only an owner"):
        members.add(organization, "new@example.test", Role.OWNER, by_role=by_role)
    assert not Membership.objects.exists()
