"""Putting tags on contacts and taking them off, in sets, with the events that sequences start from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import product
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import Value
from django.db.models.functions import Lower

from contacts import customer_news
from contacts.models import AutoTagRule, ConsentSource, Tag
from kaanha.lib import public_ids
from kaanha.lib.errors import Refusal
from kaanha.organizations.models import Organization
from kaanha.webhooks.models import Kind

NAME = 100  # letters of a tag's name


def clean(name: str) -> str:
    """A tag's name as it is stored: without spaces around it, and single ones inside."""
    return " ".join(name.split())


def named(organization: Organization, names: Iterable[str]) -> dict[str, Tag]:
    """The organization's tags of these names, those missing created; by the name as given, whatever its letters' case.

    Names without a letter are left out. At most three queries. Safe against another process creating the same tags.
    """
    wanted = {name: clean(name) for name in names if clean(name)}
    if long := next((name for name in wanted.values() if len(name) > NAME), None):
        raise Refusal(f"The tag {long[:30]!r}… is longer than {NAME} letters. Shorten it.", code="tag_too_long")
    found = _find(organization, wanted)
    # Of two spellings the first is stored.
    unknown = dict.fromkeys(clean for name, clean in wanted.items() if name not in found)
    if missing := sorted(unknown, key=str.casefold):
        # In order, so that two processes creating the same tags wait for each other in one direction only.
        Tag.objects.bulk_create([Tag(organization=organization, name=name) for name in missing], ignore_conflicts=True)
        found |= _find(organization, {name: clean for name, clean in wanted.items() if name not in found})
    return found


def found(organization: Organization, text: str) -> Tag:
    """The organization's tag of this id or name, whatever the case of its letters. Refusal otherwise. One query."""
    key = public_ids.decode(Tag.PUBLIC_KIND, text)
    if key is not None:
        rows = Tag.objects.of(organization).filter(pk=key)
    else:
        # The same folding on both sides as in the unique index.
        named = Tag.objects.of(organization).alias(folded=Lower("name"))
        rows = named.filter(folded=Lower(Value(clean(text).replace("\0", ""))))
    tag: Tag | None = rows.first()
    if tag is None:
        raise Refusal("There is no such tag in your organization. Check its id or name.", code="tag_not_found")
    return tag


def all_found(organization: Organization, texts: Iterable[str]) -> list[Tag]:
    """The organization's tags of these ids or names, each once. Refusal where one of them is missing. Two queries."""
    wanted = dict.fromkeys(texts)
    keys = {text: key for text in wanted if (key := public_ids.decode(Tag.PUBLIC_KIND, text)) is not None}
    known = Tag.objects.of(organization).in_bulk(list(keys.values()))
    tags = {text: known.get(key) for text, key in keys.items()}
    tags |= _find(organization, {text: clean(text) for text in wanted if text not in keys})
    if absent := next((text for text in wanted if tags.get(text) is None), None):
        raise Refusal(
            f"There is no tag {absent[:NAME]!r} in your organization. Check its id or name.", code="tag_not_found"
        )
    return list({tag.pk: tag for text in wanted if (tag := tags[text]) is not None}.values())


def holders(tags: Iterable[int], *, most: int) -> dict[int, int]:
    """How many contacts hold each of these tags, counted up to `most`. One query.

    A page of tags costs the same whether they have ten holders or ten million.
    """
    with connection.cursor() as cursor:
        cursor.execute(_HOLDERS, [most, list(tags)])
        return dict(cursor.fetchall())


def count(tag: Tag) -> int:
    """How many contacts hold the tag, exactly. One query over two indexes: no contact but the deleted is looked at."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, {"tag": tag.pk, "organization": tag.organization_id})
        (rows,) = cursor.fetchone()
    return int(rows)


def create(organization: Organization, name: str) -> Tag:
    """A new tag. Refusal when there is one of this name."""
    with _name_once(name):
        tag: Tag = Tag.objects.create(organization=organization, name=clean(name))
    return tag


def rename(tag: Tag, name: str) -> bool:
    """Rename the tag; False when somebody else has meanwhile. Refusal when another one has this name."""
    with _name_once(name):
        return bool(Tag.objects.filter(pk=tag.pk, name=tag.name).update(name=clean(name)))


@contextmanager
def _name_once(name: str) -> Iterator[None]:
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        sentence = f"There is a tag {clean(name)} already: letters' case makes no difference."
        raise Refusal(sentence, code="tag_already") from error


def add(
    organization: Organization,
    contact_ids: Iterable[int],
    tag_ids: Iterable[int],
    *,
    source: str,
    at: datetime,
    told: bool = True,
) -> int:
    """Put every one of the tags on every one of the contacts; how many were newly put on. Customers are told."""
    return len(add_pairs(organization, list(product(contact_ids, tag_ids)), source=source, at=at, told=told))


def add_pairs(
    organization: Organization, pairs: Sequence[tuple[int, int]], *, source: str, at: datetime, told: bool = True
) -> list[tuple[int, int]]:
    """Put tags on contacts, given as (contact id, tag id); those newly put on.

    One statement writes the tags and their events; one more asks whether customers are to be told of these contacts.
    Not `told` is for those who tell of them in another way. Pairs with a contact or tag of another organization are
    passed over.
    """
    if not pairs:
        return []
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_ADD, {**_columns(organization, pairs), "source": str(source), "at": at})
            added = cursor.fetchall()
        if told:
            customer_news.tell(Kind.CONTACT_UPDATED, {contact for contact, _ in added}, at=at)
    return added


def remove(organization: Organization, contact_ids: Iterable[int], tag_ids: Iterable[int], *, at: datetime) -> int:
    """Take these tags off these contacts; how many were taken off. Events of their putting on stay; customers are told.

    Two statements, however many contacts, where nobody listens.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_REMOVE, [list(contact_ids), list(tag_ids), organization.pk, organization.pk])
            losers = [contact for (contact,) in cursor.fetchall()]
        customer_news.tell(Kind.CONTACT_UPDATED, losers, at=at)
    return len(losers)


def auto_tag(organization: Organization, texts: Iterable[tuple[int, str]], *, at: datetime) -> int:
    """Apply the organization's rules to what contacts wrote, as (contact id, text); how many tags were newly put on.

    None once it is closed: what is written to it then is kept, and consent in it counts, but nothing begins by it.
    """
    if organization.closed_at is not None:
        return 0
    rules = [rule for rule in AutoTagRule.objects.of(organization).filter(active=True) if rule.text.strip()]
    pairs = [(contact, rule.tag_id) for contact, text in texts for rule in rules if rule.matches(text)]
    return len(add_pairs(organization, pairs, source=ConsentSource.INBOUND, at=at))


def _find(organization: Organization, wanted: dict[str, str]) -> dict[str, Tag]:
    """The existing ones. PostgreSQL folds both sides, by the same rules as the unique index."""
    with connection.cursor() as cursor:
        cursor.execute(_FIND, [list(wanted), list(wanted.values()), organization.pk])
        keys = dict(cursor.fetchall())
    tags = Tag.objects.in_bulk(set(keys.values()))
    return {name: tags[key] for name, key in keys.items() if key in tags}


def _columns(organization: Organization, pairs: Sequence[tuple[int, int]]) -> dict[str, Any]:
    contacts, tags = zip(*pairs, strict=True)
    return {"contacts": list(contacts), "tags": list(tags), "organization": organization.pk}


_FIND = """
SELECT wanted.given, tag.id
FROM unnest(%s::text[], %s::text[]) AS wanted (given, name)
JOIN contacts_tag AS tag ON lower(tag.name) = lower(wanted.name) AND tag.organization_id = %s
"""

_ADD = """
WITH pairs AS (
    SELECT DISTINCT contact.id AS contact_id, tag.id AS tag_id
    FROM unnest(%(contacts)s::bigint[], %(tags)s::bigint[]) AS asked (contact_id, tag_id)
    JOIN contacts_contact AS contact ON contact.id = asked.contact_id AND contact.organization_id = %(organization)s
    JOIN contacts_tag AS tag ON tag.id = asked.tag_id AND tag.organization_id = %(organization)s
), added AS (
    INSERT INTO contacts_contacttag (contact_id, tag_id, added_at)
    SELECT contact_id, tag_id, %(at)s FROM pairs ORDER BY contact_id, tag_id
    ON CONFLICT DO NOTHING
    RETURNING contact_id, tag_id
), events AS (
    INSERT INTO contacts_contactevent (organization_id, kind, contact_id, tag_id, source, at)
    SELECT %(organization)s, 'tag_added', contact_id, tag_id, %(source)s, %(at)s
    FROM added ORDER BY contact_id, tag_id
)
SELECT contact_id, tag_id FROM added ORDER BY contact_id, tag_id
"""

# Each holder is sought among the deleted, whose index is small; OFFSET keeps it from being a join of all contacts.
_HOLDERS = """
SELECT tag.id, (
    SELECT count(*) FROM (
        SELECT FROM contacts_contacttag AS held
        WHERE held.tag_id = tag.id AND NOT EXISTS (
            SELECT FROM contacts_contact AS contact
            WHERE contact.organization_id = tag.organization_id AND contact.id = held.contact_id
              AND contact.deleted_at IS NOT NULL OFFSET 0
        ) LIMIT %s
    ) AS capped
)
FROM contacts_tag AS tag WHERE tag.id = ANY(%s)
"""

_COUNT = """
SELECT (SELECT count(*) FROM contacts_contacttag WHERE tag_id = %(tag)s) - (
    SELECT count(*) FROM contacts_contact AS contact
    WHERE contact.organization_id = %(organization)s AND contact.deleted_at IS NOT NULL
      AND EXISTS (SELECT FROM contacts_contacttag WHERE contact_id = contact.id AND tag_id = %(tag)s)
)
"""

_REMOVE = """
DELETE FROM contacts_contacttag AS held
USING contacts_contact AS contact, contacts_tag AS tag
WHERE held.contact_id = ANY(%s) AND held.tag_id = ANY(%s)
  AND contact.id = held.contact_id AND contact.organization_id = %s
  AND tag.id = held.tag_id AND tag.organization_id = %s
RETURNING held.contact_id
"""
