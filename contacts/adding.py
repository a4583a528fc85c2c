"""One contact, added by hand."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from contacts import consent, customer_news
from contacts.models import ConsentSource, Contact, ContactEvent
from kaanha.lib import phone
from kaanha.lib.errors import Refusal
from kaanha.organizations.models import Organization
from kaanha.webhooks.models import Kind


def add(organization: Organization, number: str, *, name: str = "", email: str = "", at: datetime) -> Contact:
    """A new contact, or the deleted one of that number brought back with its history and given this name and address.

    Refusal for a text that is no phone number, and for a number that a contact has.
    """
    with transaction.atomic():
        contact, news = put(organization, number, name=name, email=email, at=at)
        customer_news.tell(news, [contact.pk], at=at)
    return contact


def put(organization: Organization, number: str, *, name: str, email: str, at: datetime) -> tuple[Contact, Kind]:
    """The same, and what customers are to be told of it: for those who have more to write before that.

    Call it inside a transaction.
    """
    known = parsed(number)
    contact: Contact
    contact, created = Contact.objects.get_or_create(
        organization=organization,
        phone=known.e164,
        defaults={"country": known.country, "name": name, "email": email},
    )
    if created:
        _note(contact, at=at)
        return contact, Kind.CONTACT_CREATED
    if not consent.revive([contact.pk], at=at):
        raise Refusal(f"{known.e164} is a contact already: {contact}.", code="contact_already")
    said = {column: value for column, value in (("name", name), ("email", email)) if value}
    Contact.objects.filter(pk=contact.pk).update(updated_at=at, **said)
    contact.refresh_from_db()
    return contact, Kind.CONTACT_UPDATED


def parsed(number: str) -> phone.Phone:
    """The phone number that the text writes. Refusal with the reason otherwise."""
    try:
        return phone.parse(number)
    except phone.InvalidPhone as invalid:
        raise Refusal(str(invalid), code="phone_invalid") from invalid


def _note(contact: Contact, *, at: datetime) -> None:
    """A created contact is an event, in the same transaction; a revived one is not."""
    ContactEvent.objects.create(
        organization_id=contact.organization_id,
        kind=ContactEvent.Kind.CREATED,
        contact=contact,
        source=ConsentSource.OPERATOR,
        at=at,
    )
