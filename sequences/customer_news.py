"""What customers' systems hear of the people in sequences."""

from __future__ import annotations

from collections.abc import Sequence as Listed
from datetime import datetime

from django.db import connection

from contacts.models import Contact
from kaanha.lib import public_ids
from kaanha.webhooks.models import Event, Kind
from sequences.models import Enrollment, Sequence


def tell(kind: Kind, enrollments: Listed[int], *, now: datetime) -> None:
    """Note that these people entered, or came to the end. Call it in the transaction that made it so.

    Three statements, whatever their number; one where no endpoint listens, and none for nobody.
    """
    owners = [owner for owner, _ in Event.heard(kind)] if enrollments else []
    if not owners:
        return
    with connection.cursor() as cursor:
        cursor.execute(_PEOPLE, [list(enrollments), owners])
        people = cursor.fetchall()
    events = []
    for owner, enrollment, sequence, name, contact, phone, source in people:
        told = {
            "enrollmentId": public_ids.encode(Enrollment.PUBLIC_KIND, enrollment),
            "sequenceId": public_ids.encode(Sequence.PUBLIC_KIND, sequence),
            "sequence": name,
            "contactId": public_ids.encode(Contact.PUBLIC_KIND, contact),
            "phone": phone,
        }
        if kind == Kind.SEQUENCE_ENROLLED:
            told["source"] = source
        events.append((owner, str(kind), told))
    Event.record_many(events, at=now)


_PEOPLE = """
SELECT e.organization_id, e.id, e.sequence_id, s.name, e.contact_id, c.phone, e.source
FROM sequences_enrollment e
JOIN sequences_sequence s ON s.id = e.sequence_id
JOIN contacts_contact c ON c.id = e.contact_id
WHERE e.id = ANY(%s) AND e.organization_id = ANY(%s)
ORDER BY e.id
"""
