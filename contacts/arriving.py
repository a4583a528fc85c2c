"""Whoever writes to us becomes a contact: found by number or by Meta's user id, otherwise created."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from django.db import IntegrityError, connection, transaction

from contacts import consent, customer_news
from contacts.models import ConsentSource, Contact, ContactTag
from kaanha.lib import phone
from kaanha.organizations.models import Organization
from kaanha.webhooks.models import Kind

ROUNDS = 3  # what is unknown is created; what another worker created meanwhile is found in the next round
NAME = 200  # letters of a contact's name
USER_ID = 128

_WA_ID = re.compile(r"[1-9][0-9]{4,14}")


@dataclass(frozen=True, slots=True)
class Person:
    """The sender of one inbound message. `wa_id`, `user_id` or both: who has a username may hide the number."""

    wa_id: str | None
    user_id: str | None
    name: str
    wamid: str
    at: datetime

    def cleaned(self) -> Self:
        """The person with ids and a name that fit their columns."""
        return replace(
            self,
            wa_id=self.wa_id if self.wa_id and _WA_ID.fullmatch(self.wa_id) else None,
            user_id=self.user_id if self.user_id and len(self.user_id) <= USER_ID else None,
            name=self.name.replace("\0", "").strip()[:NAME],
        )


def welcome(organization: Organization, people: Sequence[Person]) -> dict[str, int]:
    """The contacts behind these senders, as wamid → contact id. Set by set; safe against other workers.

    Unknown senders are created, opted in by the very message. Known ones who were never asked are opted in by it, too;
    who opted out stays out. The deleted come back. What a message tells about its sender (user id, number, name) is
    kept where we didn't know it. Senders without any usable id are missing in the answer.
    """
    usable = (cleaned for person in people if (cleaned := person.cleaned()).wa_id or cleaned.user_id)
    senders = _completed(sorted(usable, key=lambda person: person.at))
    with transaction.atomic():
        known = _find_or_create(organization, senders)
        found = [(person, contact) for person in senders if (contact := known.contact_of(person))]
        _lock(found, known)
        _revive(found)
        _learn(found, known)
        _count_as_consent(found)
    return {person.wamid: contact.pk for person, contact in found}


def _completed(people: Sequence[Person]) -> list[Person]:
    """The people, each with both ids where another of these messages has told them together."""
    number: dict[str | None, str | None] = {
        person.user_id: person.wa_id for person in people if person.wa_id and person.user_id
    }
    user: dict[str | None, str | None] = {wa_id: user_id for user_id, wa_id in number.items()}
    return [
        replace(
            person,
            wa_id=person.wa_id or number.get(person.user_id),
            user_id=person.user_id or user.get(person.wa_id),
        )
        for person in people
    ]


class _Known:
    """The contacts that may be behind some senders, by everything a sender is known by."""

    def __init__(self, contacts: Iterable[Contact]) -> None:
        # The oldest row wins where two carry the same wa_id.
        newest_first = sorted(contacts, key=lambda contact: -contact.pk)
        self.by_phone = {contact.phone: contact for contact in newest_first if contact.phone}
        self.by_wa_id = {contact.wa_id: contact for contact in newest_first if contact.wa_id}
        self.by_user_id = {contact.user_id: contact for contact in newest_first if contact.user_id}

    def contact_of(self, person: Person) -> Contact | None:
        """The number decides; the user id where the number is hidden or unknown."""
        return self.by_number(person) or self.by_user_id.get(person.user_id or "")

    def by_number(self, person: Person) -> Contact | None:
        if person.wa_id is None:
            return None
        spelled = (self.by_phone.get(number) for number in phone.spellings(person.wa_id))
        return next(filter(None, spelled), None) or self.by_wa_id.get(person.wa_id)


def _find_or_create(organization: Organization, senders: Sequence[Person]) -> _Known:
    known = _find(organization, senders)
    for _ in range(ROUNDS):
        unknown = [person for person in senders if not known.contact_of(person)]
        if not unknown:
            break
        _create(organization, unknown)
        known = _find(organization, senders)
    return known


def _find(organization: Organization, senders: Sequence[Person]) -> _Known:
    wa_ids = {person.wa_id for person in senders if person.wa_id}
    values: dict[str, Any] = {
        "organization": organization.pk,
        "phones": list({number for wa_id in wa_ids for number in phone.spellings(wa_id)}),
        "wa_ids": list(wa_ids),
        "user_ids": list({person.user_id for person in senders if person.user_id}),
    }
    return _Known(Contact.objects.raw(_FIND, values))


def _create(organization: Organization, people: Sequence[Person]) -> None:
    """New contacts with their consent and their event, in one statement; whoever exists by now is passed over."""
    numbers = [phone.from_wa_id(person.wa_id) if person.wa_id else None for person in people]
    values: dict[str, Any] = {
        "organization": organization.pk,
        "phones": [number and number.e164 for number in numbers],
        "countries": [number.country if number else "" for number in numbers],
        "wa_ids": [_if_different(person.wa_id, number) for person, number in zip(people, numbers, strict=True)],
        "user_ids": [person.user_id for person in people],
        "names": [person.name for person in people],
        "wamids": [person.wamid[: consent.PROOF] for person in people],
        "moments": [person.at for person in people],
        "inbound": ConsentSource.INBOUND.value,
    }
    with connection.cursor() as cursor:
        cursor.execute(_CREATE, values)
        created = [key for (key,) in cursor.fetchall()]
    customer_news.tell(Kind.CONTACT_CREATED, created, at=max(person.at for person in people))


def _if_different(wa_id: str | None, number: phone.Phone | None) -> str | None:
    return wa_id if wa_id and number and number.e164 != f"+{wa_id}" else None


def _lock(found: Sequence[tuple[Person, Contact]], known: _Known) -> None:
    """Lock at once, in the order of their ids, all rows that may change below; most senders bring nothing new."""
    rows = {contact.pk for person, contact in found if _told(person, contact) or not contact.opted_in}
    rows |= {contact.pk for _, contact in found if contact.deleted_at}
    rows |= {twin.pk for person, _ in found if (twin := known.by_user_id.get(person.user_id or "")) and not twin.phone}
    if rows:
        consent.lock(rows)


def _revive(found: Sequence[tuple[Person, Contact]]) -> None:
    if deleted := {contact.pk for _, contact in found if contact.deleted_at}:
        at = max(person.at for person, _ in found)
        customer_news.tell(Kind.CONTACT_UPDATED, consent.revive(deleted, at=at), at=at)


def _count_as_consent(found: Sequence[tuple[Person, Contact]]) -> None:
    """Opt in who was never asked, by the first of their messages."""
    first: dict[int, tuple[str, datetime]] = {}
    for person, contact in found:
        if not contact.opted_in and contact.opted_out_at is None:
            first.setdefault(contact.pk, (person.wamid, person.at))
    if first:
        consent.opt_in_by_writing(first)


def _learn(found: Sequence[tuple[Person, Contact]], known: _Known) -> None:
    """Keep what the messages tell about their senders, and unite two rows that turn out to be one person."""
    news: dict[int, dict[str, str]] = {}
    for person, contact in found:
        twin = known.by_user_id.get(person.user_id or "")
        if twin and twin.pk != contact.pk:
            if twin.phone or twin.pk in news:
                continue  # the user id belongs to somebody with another number: not ours to decide
            _unite(contact, twin, at=person.at)
            known.by_user_id[person.user_id or ""] = contact
        if told := _told(person, contact):
            news.setdefault(contact.pk, {}).update(told)
    if news:
        _keep(news)
        customer_news.tell(Kind.CONTACT_UPDATED, news, at=max(person.at for person, _ in found))


def _told(person: Person, contact: Contact) -> dict[str, str]:
    """The columns of the contact that this message fills or brings up to date."""
    told: dict[str, str] = {}
    if person.name and not contact.name:
        told["name"] = person.name
    if person.user_id and contact.user_id != person.user_id:
        told["user_id"] = person.user_id
    if not person.wa_id:
        return told
    number = phone.from_wa_id(person.wa_id)
    if not contact.phone:
        told |= {"phone": number.e164, "country": number.country}
    belongs = (contact.phone or number.e164) in phone.spellings(person.wa_id)
    if belongs and f"+{person.wa_id}" != (contact.phone or number.e164) and contact.wa_id != person.wa_id:
        told["wa_id"] = person.wa_id
    return told


def _keep(news: Mapping[int, Mapping[str, str]]) -> None:
    """Write what was learned, at once; row by row only where another worker gave a number or user id away just now.

    What can't be written then waits: the person's next message tells it again.
    """
    if not _written(news):
        for key, told in news.items():
            _written({key: told})


def _written(news: Mapping[int, Mapping[str, str]]) -> bool:
    values: dict[str, Any] = {"ids": list(news)}
    for column in ("phone", "country", "wa_id", "user_id", "name"):
        values[column] = [told.get(column) for told in news.values()]
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_KEEP, values)
    except IntegrityError:
        return False
    return True


def _unite(contact: Contact, twin: Contact, *, at: datetime) -> None:
    """Retire `twin`, known only by a user id, in favor of the contact with the number, who is the same person.

    Its tags go over without events, since nobody put them on now; a refusal goes over, too. Its history stays with it.
    """
    held = ContactTag.objects.filter(contact=twin).values_list("tag_id", "added_at")
    moved = [ContactTag(contact_id=contact.pk, tag_id=tag, added_at=added) for tag, added in held]
    ContactTag.objects.bulk_create(moved, ignore_conflicts=True)
    if twin.opted_out_at:
        proof = f"opted out as {twin.user_id}"
        consent.opt_out([contact.pk], source=twin.opt_out_source, proof=proof, at=twin.opted_out_at)
        contact.opted_out_at = twin.opted_out_at
    if twin.marketing_switched_at:
        switch = consent.stop_marketing if twin.marketing_opted_out_at else consent.resume_marketing
        switch([contact.pk], at=twin.marketing_switched_at)
    Contact.objects.filter(pk=twin.pk).update(user_id=f"united:{twin.pk}", updated_at=at)
    consent.delete([twin.pk], source=ConsentSource.INBOUND, at=at)


_FIND = """
SELECT * FROM contacts_contact
WHERE organization_id = %(organization)s
  AND (phone = ANY(%(phones)s) OR wa_id = ANY(%(wa_ids)s) OR user_id = ANY(%(user_ids)s))
"""

_KEEP = """
UPDATE contacts_contact AS contact
SET phone = coalesce(news.phone, contact.phone), country = coalesce(news.country, contact.country),
    wa_id = coalesce(news.wa_id, contact.wa_id), user_id = coalesce(news.user_id, contact.user_id),
    name = coalesce(news.name, contact.name)
FROM unnest(
    %(ids)s::bigint[], %(phone)s::text[], %(country)s::text[], %(wa_id)s::text[], %(user_id)s::text[], %(name)s::text[]
) AS news (id, phone, country, wa_id, user_id, name)
WHERE contact.id = news.id
"""

# In the order of what is unique, so that two workers with the same newcomers wait in one direction only.
_CREATE = """
WITH newcomers AS (
    SELECT *
    FROM unnest(
        %(phones)s::text[], %(countries)s::text[], %(wa_ids)s::text[], %(user_ids)s::text[],
        %(names)s::text[], %(wamids)s::text[], %(moments)s::timestamptz[]
    ) WITH ORDINALITY AS person (phone, country, wa_id, user_id, name, wamid, at, place)
), created AS (
    INSERT INTO contacts_contact (
        organization_id, phone, country, wa_id, user_id, name, email, attributes,
        opted_in, opted_in_at, opt_in_source, opt_in_proof, opt_out_source, created_at, updated_at
    )
    SELECT %(organization)s, phone, country, wa_id, user_id, name, '', '{}',
           true, at, %(inbound)s, wamid, '', at, at
    FROM newcomers ORDER BY phone, CASE WHEN phone IS NULL THEN user_id END, place
    ON CONFLICT DO NOTHING
    RETURNING id, opt_in_proof AS proof, opted_in_at AS at
), history AS (
    INSERT INTO contacts_consentchange (organization_id, contact_id, opted_in, source, proof, at)
    SELECT %(organization)s, id, true, %(inbound)s, proof, at FROM created ORDER BY id
)
INSERT INTO contacts_contactevent (organization_id, kind, contact_id, source, at)
SELECT %(organization)s, 'created', id, %(inbound)s, at FROM created ORDER BY id
RETURNING contact_id
"""
