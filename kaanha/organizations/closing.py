"""Closing an organization: nobody works in it and nothing is sent for it, and every row stays.

    open ──close (an owner)──▶ closed ──reopen (platform staff)──▶ open

Closing has the organization's row alone, and whatever would let something begin for it shares that row: of the two the
later one sees what the earlier one did. What sends looks once more at `closed_at` as it claims.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import connection, transaction

from kaanha.lib.errors import Refusal
from kaanha.organizations import audit
from kaanha.organizations.models import Organization


def have_alone(organization: Organization) -> Organization:
    """The organization as it is, locked until the end of the transaction. Refusal where it is closed already.

    Take it before any other lock. NO KEY: contacts and messages may still be hung on it meanwhile.
    """
    held = Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    if held.closed_at is not None:
        raise Refusal(f"{held} is closed already.", code="organization_closed")
    return held


def require_open(organization_id: int) -> None:
    """Refusal for a closed organization; it stays open until the end of the transaction. Take it before other locks."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT closed_at FROM organizations_organization WHERE id = %s FOR SHARE", [organization_id])
        found = cursor.fetchone()
    if found is None or found[0] is not None:
        raise Refusal("The organization is closed: nothing is sent for it any more.", code="organization_closed")


def reopen(organization: Organization) -> None:
    """Let its members in again; by itself nothing goes on. Refusal unless it is closed."""
    with transaction.atomic():
        if not Organization.objects.filter(pk=organization.pk, closed_at__isnull=False).update(closed_at=None):
            raise Refusal(f"{organization} is open.", code="organization_open")
        audit.record("organization.reopened", organization)


def note(organization: Organization, *, now: datetime, **stopped: Any) -> None:
    """Write down that it is closed, with how many of what that has stopped."""
    organization.closed_at = now
    organization.save(update_fields=["closed_at"])
    audit.record("organization.closed", organization, **stopped)
