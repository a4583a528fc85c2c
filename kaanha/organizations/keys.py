"""API keys: issued, revoked. Both are in the audit log; the key itself is nowhere."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from kaanha.organizations import audit
from kaanha.organizations.members import require_rank
from kaanha.organizations.models import APIKey, Organization, Role, User


def issue(
    organization: Organization,
    *,
    name: str,
    role: str = Role.ADMIN,
    expires_at: datetime | None = None,
    by_role: str = Role.OWNER,
    by: User | None = None,
) -> tuple[APIKey, str]:
    """A new key: its row, and the text that is shown this once. Refusal for an owner's key unless an owner asks."""
    require_rank(by_role, role)
    with transaction.atomic():
        key, text = APIKey.issue(organization, name=name, role=role, expires_at=expires_at, created_by=by)
        audit.record("key.issued", key, role=role, expiresAt=expires_at)
    return key, text


def revoke_all(organization: Organization, *, now: datetime) -> int:
    """Revoke every key of the organization, in the transaction that closes it; how many."""
    return APIKey.objects.of(organization).filter(revoked_at=None).update(revoked_at=now)


def revoke(key: APIKey, *, now: datetime) -> None:
    """Refuse whatever uses it from now on. A key that is revoked stays as it is."""
    with transaction.atomic():
        if APIKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=now):
            audit.record("key.revoked", key)
