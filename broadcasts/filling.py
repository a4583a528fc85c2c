"""A broadcast's message as one person would read it."""

from __future__ import annotations

import logging

from django.utils.safestring import SafeString

from broadcasts.models import Broadcast
from contacts.models import Contact
from kaanha.lib.errors import Refusal
from kaanha.messaging.policy import Addressee
from kaanha.messaging.variable_forms import mapped_bubble
from templates_app import rendering
from templates_app.admin import bubble

logger = logging.getLogger(__name__)


def filled(broadcast: Broadcast, contact: Contact | None) -> SafeString:
    """The message as the contact would read it; with [fields] where there is none, or it can't be filled."""
    template = broadcast.template
    try:
        if contact:
            filler = rendering.prepare(template.components, template.parameter_format, broadcast.variables)
            return bubble(template, filler.texts(values_of(contact)))
    except (Refusal, rendering.MissingVariable):
        logger.debug("Broadcast %s can't be filled for contact %s", broadcast.pk, contact and contact.pk)
    return mapped_bubble(template, broadcast.variables)


def values_of(contact: Contact) -> dict[str, str]:
    """What the contact has for variables, as a claim reads it."""
    return Addressee(
        id=contact.pk,
        phone=contact.phone,
        country=contact.country,
        name=contact.name,
        email=contact.email,
        opted_in=contact.opted_in,
        deleted_at=contact.deleted_at,
        marketing_opted_out_at=contact.marketing_opted_out_at,
        attributes=contact.attributes,
    ).values()
