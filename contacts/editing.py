"""One contact, created, changed and deleted by another system."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from contacts import adding, consent, customer_news, tagging
from contacts.models import ConsentSource, Contact, Tag
from kaanha.lib import public_ids
from kaanha.lib.errors import Refusal
from kaanha.organizations.models import Organization
from kaanha.webhooks.models import Kind

TICK = timedelta(microseconds=1)  # what a stored time can tell apart
MOST_ATTRIBUTES = 100
API = ConsentSource.API


def version(contact: Contact) -> str:
    """What changes whenever the contact itself or its consent does."""
    return f'"{contact.updated_at.timestamp():.6f}"'


def create(organization: Organization, said: Mapping[str, Any], *, at: datetime) -> Contact:
    """A new contact as `said`, or a deleted one brought back: all of it, or a Refusal and nothing."""
    with transaction.atomic():
        named = {"name": said.get("name", ""), "email": said.get("email", "")}
        contact, news = adding.put(organization, said["phone"], **named, at=at)
        if attributes := merged(contact.attributes, said.get("attributes", {})):
            Contact.objects.filter(pk=contact.pk).update(attributes=attributes)
        put_on(contact, said.get("tags", ()), at=at, told=False)
        customer_news.tell(news, [contact.pk], at=at)
        if "opted_in" in said:
            decide(contact, opted_in=said["opted_in"], proof=said.get("opt_in_proof", ""), at=at)
        contact.refresh_from_db()
    return contact


def edit(contact: Contact, said: Mapping[str, Any], *, versions: Container[str] | None, at: datetime) -> Contact:
    """The contact with its name, address and attributes as `said`; what isn't said stays.

    Refusal when its version is none of `versions`.
    """
    with transaction.atomic():
        held = _held(contact, versions)
        wanted = {**said, "attributes": merged(held.attributes, said.get("attributes", {}))}
        changes = {column: value for column, value in wanted.items() if getattr(held, column) != value}
        if changes:
            later = max(at, held.updated_at + TICK)  # a version never comes back
            Contact.objects.filter(pk=held.pk).update(**changes, updated_at=later)
            customer_news.tell(Kind.CONTACT_UPDATED, [held.pk], at=at)
            held.refresh_from_db()
    return held


def delete(contact: Contact, *, versions: Container[str] | None, at: datetime) -> None:
    """Mark the contact as deleted. Refusal when its version is none of `versions`."""
    with transaction.atomic():
        held = _held(contact, versions)
        consent.delete([held.pk], at=max(at, held.updated_at + TICK), source=API)


def decide(contact: Contact, *, opted_in: bool, proof: str, at: datetime, against_their_word: bool = False) -> None:
    """Opt the contact in or out; nothing where it is so already. Refusal when it may not be opted in."""
    if not opted_in:
        consent.opt_out([contact.pk], source=API, proof=proof, at=at)
        return
    told: dict[str, Any] = {"source": API, "proof": proof, "at": at, "against_their_word": against_their_word}
    if consent.opt_in([contact.pk], **told):
        return
    contact.refresh_from_db()
    if contact.opted_in:
        return
    if contact.opt_out_source == ConsentSource.INBOUND and not against_their_word:
        raise Refusal(
            "This contact wrote to you to stop. Ask them to write START; or, if they have asked you since then to be "
            "messaged again, send againstTheirWord: true.",
            code="opted_out_by_contact",
        )
    raise Refusal("This contact has opted out since you asked. Ask them again.", code="opted_out_since")


def put_on(contact: Contact, texts: Iterable[str], *, at: datetime, told: bool = True) -> None:
    """Put tags on the contact, given by id or by name; names that don't exist are created. Refusal for unknown ids."""
    keys = {text: public_ids.decode(Tag.PUBLIC_KIND, text) for text in texts}
    ids = {key for key in keys.values() if key is not None}
    tags = set(Tag.objects.of(contact.organization).filter(pk__in=ids).values_list("pk", flat=True))
    if tags != ids:
        raise Refusal("There is no such tag in your organization. Check its id or name.", code="tag_not_found")
    named = tagging.named(contact.organization, [text for text, key in keys.items() if key is None])
    tags |= {tag.pk for tag in named.values()}
    tagging.add(contact.organization, [contact.pk], tags, source=API, at=at, told=told)


def merged(held: Mapping[str, str], said: Mapping[str, str | None]) -> dict[str, str]:
    """Attributes with those that are said; null takes one away. Refusal when they become too many."""
    together = {name: value for name, value in {**held, **said}.items() if value is not None}
    if said and len(together) > MOST_ATTRIBUTES:
        raise Refusal(
            f"A contact has at most {MOST_ATTRIBUTES} attributes. Take some away.", code="too_many_attributes"
        )
    return together


def _held(contact: Contact, versions: Container[str] | None) -> Contact:
    """The contact, locked and as it stands now."""
    consent.lock([contact.pk])
    held: Contact | None = Contact.objects.active().filter(pk=contact.pk).select_related("organization").first()
    if held is None:
        raise Refusal("This contact has been deleted.", code="contact_not_found")
    if versions is not None and version(held) not in versions:
        raise Refusal("Somebody else has changed this contact. Read it again, then decide.", code="edited_meanwhile")
    return held
