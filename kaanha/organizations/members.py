"""Members: added, given another role, removed. An organization always keeps an owner."""

from __future__ import annotations

import secrets

from django.db import IntegrityError, transaction

from kaanha.lib.errors import Refusal
from kaanha.organizations import audit
from kaanha.organizations.models import Membership, Organization, Role, User


def add(organization: Organization, email: str, role: str, *, by_role: str) -> tuple[Membership, str]:
    """A membership for the user of that address, and the password of a user who was made for it ("" otherwise)."""
    require_rank(by_role, role)
    with transaction.atomic():
        user, password = _user(email)
        try:
            with transaction.atomic():
                membership = Membership.objects.create(organization=organization, user=user, role=role)
        except IntegrityError as error:
            raise Refusal(f"{user} is a member already: change the role instead.", code="member_already") from error
        audit.record("member.added", membership, role=role)
    return membership, password


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


def _locked(membership: Membership) -> Membership:
    """The membership as it stands now, with its organization locked: members change one at a time.

    The page was shown a while ago: whoever was an agent then may be the last owner by now. The lock is on the
    organization, for of two owners who remove each other each holds a row that the other one wants.
    """
    Organization.objects.select_for_update(no_key=True).get(pk=membership.organization_id)
    held: Membership | None = Membership.objects.select_related("user").filter(pk=membership.pk).first()
    if held is None:
        raise Refusal(f"{membership.user} is no member any more.", code="membership_not_found")
    return held


def _user(email: str) -> tuple[User, str]:
    found = User.objects.filter(email=email.strip().lower()).first()
    if found is None:
        password = secrets.token_urlsafe(12)
        return User.objects.create_user(email, password, is_staff=True), password
    if not found.is_staff:
        found.is_staff = True
        found.save(update_fields=["is_staff"])
    return found, ""


def require_rank(by_role: str, *roles: str) -> None:
    """Refusal where owners are concerned and the one who asks is none."""
    if Role.OWNER in roles and by_role != Role.OWNER:
        raise Refusal("Only an owner may make, change or remove owners.", code="owners_only")


def _require_another_owner(membership: Membership) -> None:
    """Refusal for the last owner who can sign in. Call it with the organization locked."""
    others = Membership.objects.filter(organization=membership.organization_id, role=Role.OWNER, user__is_active=True)
    if not others.exclude(pk=membership.pk).exists():
        raise Refusal(f"{membership.user} is the last owner: make another member an owner first.", code="last_owner")
