"""A test of a broadcast's message, to one contact who has opted in: no part of its numbers, outside the cap."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from broadcasts.models import Broadcast, Trial
from contacts.models import Contact
from kaanha.messaging import single
from kaanha.messaging.models import Dispatch, Message
from kaanha.organizations import audit


def send(broadcast: Broadcast, contact: Contact, *, now: datetime) -> Message:
    """Queue the message, as it is filled now, for this contact of the organization. Refusal where it could not go."""
    with transaction.atomic():
        message = single.send(
            contact,
            kind=Dispatch.Kind.TEST,
            template=broadcast.template,
            number=broadcast.phone_number,
            variables=broadcast.variables,
            now=now,
        )
        Trial.objects.create(broadcast=broadcast, dispatch=message.dispatch)
        audit.record("broadcast.tested", broadcast, contact=contact.public_id)
    return message


def last_tested(broadcast: Broadcast, count: int) -> list[Contact]:
    """The contacts to whom the organization sent its latest tests, the newest first, each once. Two queries."""
    latest = Trial.objects.filter(broadcast__organization=broadcast.organization_id).order_by("-pk")
    dispatches = latest.values_list("dispatch", flat=True)[: 5 * count]
    tests = Message.objects.filter(dispatch__in=list(dispatches)).order_by("-pk").select_related("contact")
    people = {message.contact_id: message.contact for message in tests if message.contact.deleted_at is None}
    return list(people.values())[:count]
