"""What customers' webhooks are told of contacts, in the transaction that changed them.

Where nobody listens it costs one statement for a batch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from contacts.models import Contact
from kaanha.webhooks.models import Event, Kind

AT_ONCE = 1000  # contacts described in one statement


def tell(kind: Kind, contacts: Iterable[int], *, at: datetime) -> None:
    """Note that these contacts were created, updated, or opted in or out, as they stand now.

    One statement, three more for every thousand where somebody listens, none for no contacts.
    """
    keys = sorted(set(contacts))
    owners = {owner for owner, _ in Event.heard(kind)} if keys else set()
    for start in range(0, len(keys) if owners else 0, AT_ONCE):
        rows = Contact.objects.filter(pk__in=keys[start : start + AT_ONCE], organization__in=owners)
        _record(kind, rows.prefetch_related("tags").order_by("pk"), at)


def _record(kind: Kind, contacts: Collection[Contact], at: datetime) -> None:
    Event.record_many([(one.organization_id, str(kind), described(one)) for one in contacts], at=at)


def described(contact: Contact) -> dict[str, Any]:
    """What an event says of a contact. Its tags must be fetched with it."""
    return {
        "contactId": contact.public_id,
        "phone": contact.phone,
        "name": contact.name,
        "email": contact.email,
        "tags": sorted(tag.name for tag in contact.tags.all()),
        "attributes": contact.attributes,
        "optedIn": contact.opted_in,
        "optInSource": contact.opt_in_source,
        "optInProof": contact.opt_in_proof,
        "optedInAt": contact.opted_in_at,
        "optedOutAt": contact.opted_out_at,
    }
