"""One template to one contact, outside of broadcasts and sequences: a request of the API, or a test."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction

from contacts.models import Contact
from kaanha.lib.errors import Refusal
from kaanha.messaging import claiming, policy, queueing
from kaanha.messaging.models import Dispatch, Message, SkipReason
from kaanha.messaging.queueing import Queued
from kaanha.whatsapp.models import PhoneNumber
from templates_app import rendering
from templates_app.models import MessageTemplate

# What keeps it from leaving is known before, for these: the code of the refusal, and what to do.
OBJECTIONS = {
    SkipReason.DELETED: ("contact_not_found", "The contact is deleted. Create it again first."),
    SkipReason.OPTED_OUT: ("not_opted_in", "The contact has not opted in, or has opted out. Record its consent first."),
    SkipReason.INVALID_PHONE: ("no_phone", "The contact has no phone number. Choose another one."),
    SkipReason.MARKETING_OPTED_OUT: (
        "marketing_opted_out",
        "The contact told WhatsApp to stop your marketing. Send a template of another category.",
    ),
    SkipReason.COUNTRY_BLOCKED: (
        "country_blocked",
        "Meta delivers no marketing to the contact's country. Send a template of another category.",
    ),
}


def send(
    contact: Contact,
    *,
    kind: str,
    template: MessageTemplate,
    number: PhoneNumber,
    variables: Mapping[str, Any],
    now: datetime,
) -> Message:
    """Queue the template for the contact, due now, as a dispatch of its own: asking twice sends twice.

    Refusal where it could not go even now. Everything is judged once more in the claim, and the frequency cap only
    there. Five statements.
    """
    check(contact, template, variables)
    with transaction.atomic():
        dispatch = Dispatch.objects.create(
            organization_id=contact.organization_id,
            kind=kind,
            phone_number=number,
            lane=policy.lane(template.category),
            variables=variables,
        )
        asked = Queued(contact.organization_id, dispatch.pk, contact.pk, template.pk)
        [key] = queueing.put([asked], now=now).values()
    message: Message = Message.objects.get(pk=key)
    message.contact, message.template, message.dispatch = contact, template, dispatch
    return message


def check(contact: Contact, template: MessageTemplate, variables: Mapping[str, Any]) -> None:
    """Refusal unless the template, filled so, could go to the contact now; the cap isn't looked at. One query."""
    if not template.sendable:
        raise Refusal(f"{template.standing}: only approved templates can be sent.", code="template_not_approved")
    filler = rendering.prepare(template.components, template.parameter_format, variables)
    addressee = claiming.addressees([contact.pk]).get(contact.pk)
    reason = policy.objection(addressee, template.category, capped=False)
    if reason is not None:
        code, sentence = OBJECTIONS[reason]
        raise Refusal(sentence, code=code)
    if addressee is not None:
        _fill(filler, addressee.values())


def _fill(filler: rendering.Filler, values: Mapping[str, str]) -> None:
    try:
        filler.fill(values)
    except rendering.MissingVariable as missing:
        raise Refusal(f"{missing} Give it a text or a fallback.", code="missing_variable") from missing
