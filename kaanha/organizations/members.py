"""Members: added, given another role, removed. An organization always keeps an owner."""

from __future__ import annotations

import secrets

from django.db import IntegrityError, transaction

from kaanha.lib.errors import Refusal
from kaanha.organizations.models import Membership, Organization, Role, User


def add(organization: Organization, email: str, role: str, *, by_role: str) -> tuple[Membership, str]:
    """A membership for the user of that address, and the password of a user who was made for it ("" otherwise)."""
    _require_rank(by_role, role)
    with transaction.atomic():
        user, password = _user(email)
        try:
            with transaction.atomic():
                membership = Membership.objects.create(organization=organization, user=user, role=role)
        except IntegrityError as error:
            raise Refusal(f"{user} is a member already: change the role instead.", code="member_already") from error
    return membership, password


def change_role(membership: Membership, role: str, *, by_role: str) -> None:
    """Give a member another role. Refusal for the last owner, and where the one who asks may not."""
    _require_rank(by_role, role, membership.role)
    with transaction.atomic():
        if membership.role == Role.OWNER != role:
            _require_another_owner(membership)
        membership.role = role
        membership.save(update_fields=["role"])


def remove(membership: Membership, *, by_role: str) -> None:
    """End a membership; the user stays. Refusal for the last owner, and where the one who asks may not."""
    _require_rank(by_role, membership.role)
    with transaction.atomic():
        if membership.role == Role.OWNER:
            _require_another_owner(membership)
        membership.delete()


def _user(email: str) -> tuple[User, str]:
    found = User.objects.filter(email=email.strip().lower()).first()
    if found is None:
        password = secrets.token_urlsafe(12)
        return User.objects.create_user(email, password, is_staff=True), password
    if not found.is_staff:
        found.is_staff = True
        found.save(update_fields=["is_staff"])
    return found, ""


def _require_rank(by_role: str, *roles: str) -> None:
    if Role.OWNER in roles and by_role != Role.OWNER:
        raise Refusal("Only an owner may make, change or remove owners.", code="owners_only")


def _require_another_owner(membership: Membership) -> None:
    """Lock the organization's owners, so that two of them can't remove each other at once."""
    owners = Membership.objects.select_for_update().filter(organization=membership.organization_id, role=Role.OWNER)
    if set(owners.order_by("pk").values_list("pk", flat=True)) <= {membership.pk}:
        raise Refusal(f"{membership.user} is the last owner: make another member an owner first.", code="last_owner")
