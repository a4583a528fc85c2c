"""Members: given another role, removed. An organization always keeps an owner. They come by invitation."""

from __future__ import annotations

from django.db import transaction

from kaanha.lib.errors import Refusal
from kaanha.organizations import audit
from kaanha.organizations.models import Membership, Organization, Role, User


def change_role(membership: Membership, role: str, *, by_role: str) -> None:
    """Give a member another role. Refusal for the last owner, and where the one who asks may not."""
    with transaction.atomic():
        held = _locked(membership)
        require_rank(by_role, role, held.role)
        if held.role == Role.OWNER != role:
            _require_another_owner(held)
        before, held.role = held.role, role
        held.save(update_fields=["role"])
        audit.record("member.role_changed", held, before=before, after=role)
    membership.role = role


def remove(membership: Membership, *, by_role: str) -> None:
    """End a membership; the user stays. Refusal for the last owner, and where the one who asks may not."""
    with transaction.atomic():
        held = _locked(membership)
        require_rank(by_role, held.role)
        if held.role == Role.OWNER:
            _require_another_owner(held)
        audit.record("member.removed", held, role=held.role)
        held.delete()


def lock(organization_id: int) -> None:
    """Have the organization's members change one at a time, until the end of the transaction.

    The lock is on the organization: of two owners who remove each other each holds a row that the other one wants.
    NO KEY: contacts and messages may still be hung on it meanwhile.
    """
    Organization.objects.select_for_update(no_key=True).get(pk=organization_id)


def require_owners_without(user: User) -> None:
    """Refusal where an organization would have no owner who can sign in, once this user can't.

    Locks the organizations that the user owns, in order: call it in the transaction that turns the account off.
    """
    owned = Membership.objects.filter(user=user, role=Role.OWNER, organization__closed_at=None)
    for membership in owned.select_related("user").order_by("organization_id"):
        lock(membership.organization_id)
        _require_another_owner(membership)


def _locked(membership: Membership) -> Membership:
    """The membership as it stands now: whoever was an agent as the page was shown may be the last owner by now."""
    lock(membership.organization_id)
    held: Membership | None = Membership.objects.select_related("user").filter(pk=membership.pk).first()
    if held is None:
        raise Refusal(f"{membership.user} is no member any more.", code="membership_not_found")
    return held


def require_rank(by_role: str, *roles: str) -> None:
    """Refusal where owners are concerned and the one who asks is none."""
    if Role.OWNER in roles and by_role != Role.OWNER:
        raise Refusal("Only an owner may make, change or remove owners.", code="owners_only")


def _require_another_owner(membership: Membership) -> None:
    """Refusal for the last owner who can sign in. Call it with the organization locked."""
    others = Membership.objects.filter(organization=membership.organization_id, role=Role.OWNER, user__is_active=True)
    if not others.exclude(pk=membership.pk).exists():
        of = f"{membership.user} is the last owner of {membership.organization}"
        raise Refusal(f"{of}: make another member an owner first.", code="last_owner")
