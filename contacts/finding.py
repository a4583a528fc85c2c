"""The contact that another system names."""

from __future__ import annotations

from contacts.models import Contact
from kaanha.lib.errors import Refusal
from kaanha.organizations.models import Organization


def contact(organization: Organization, *, public_id: str | None = None, phone: str | None = None) -> Contact:
    """The organization's contact of this id, else of this number in E.164. Refusal where there is none. One query."""
    rows = Contact.objects.of(organization).active()
    rows = rows.by_public_id(public_id) if public_id is not None else rows.filter(phone=phone)
    found: Contact | None = rows.first()
    if found is None:
        raise Refusal(
            "There is no such contact in your organization. Check the id or the phone.", code="contact_not_found"
        )
    found.organization = organization
    return found
