"""Consent: who may be messaged, since when and by what proof.

The summary stands on the contact, for claims to read; every change is also a line of the contact's history.
Every function here locks the contacts in the order of their ids and may run twice.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum
from typing import Any

from django.db import connection, transaction
from django.db.models import Q

from contacts import customer_news
from contacts.models import ConsentSource, Contact
from kaanha.organizations import audit
from kaanha.organizations.models import Organization, User
from kaanha.webhooks.models import Kind


class Word(Enum):
    """What a message consisting of one of the words of consent asks for."""

    OPT_IN = "opt_in"
    OPT_OUT = "opt_out"


OPT_OUT_WORDS = frozenset({"stop", "stopall", "unsubscribe", "cancel", "quit", "end"})
OPT_IN_WORDS = frozenset({"start", "subscribe", "unstop"})

# Where a person or another system decided: that is in the audit log. What people write, and imports, have their own.
DECIDED = frozenset({ConsentSource.OPERATOR, ConsentSource.API})
PROOF = 256  # letters of a proof that are kept

# A person who was told to write "STOP" may well send the quotes too, or WhatsApp's marks for bold. A question mark is
# not among them: it makes another message of it.
_AROUND = " .!\"'\u201c\u201d\u2018\u2019\u00ab\u00bb*_~"


def meaning_of(text: str, organization: Organization) -> Word | None:
    """The word of consent that is the whole of `text`, or None. Where the words contradict, opting out wins."""
    said = _bare(text)
    if said in OPT_OUT_WORDS or said in map(_bare, map(str, organization.opt_out_words)):
        return Word.OPT_OUT if said else None
    if said in OPT_IN_WORDS or said in map(_bare, map(str, organization.opt_in_words)):
        return Word.OPT_IN if said else None
    return None


def _bare(text: str) -> str:
    """`text` in one case and width, without invisible characters and the punctuation around it."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    # Cf: zero-width characters and direction marks; Mn: the variation selectors that keyboards add to emoji.
    visible = "".join(c for c in plain if unicodedata.category(c) != "Cf" and not "\ufe00" <= c <= "\ufe0f")
    return " ".join(visible.split()).strip(_AROUND)


def opt_in(
    contacts: Iterable[int],
    *,
    source: str,
    proof: str | Mapping[int, str],
    at: datetime,
    by: User | None = None,
    against_their_word: bool = False,
) -> list[int]:
    """Opt contacts in; the ids of those who weren't before, in order. At most six statements, however many contacts.

    `proof` says when and where they agreed: one text for all, or one for each id. Whoever opted out by writing to us
    comes back only by writing (source INBOUND), or when an operator or the API says so with `against_their_word`;
    never by an import. Consent that is older than the opt-out it would undo changes nothing.
    """
    if against_their_word and source == ConsentSource.IMPORT:
        raise ValueError("An import never opts in somebody who opted out themselves.")
    fresh = Q(opted_out_at=None) | Q(opted_out_at__lte=at)
    if source != ConsentSource.INBOUND and not against_their_word:
        fresh &= ~Q(opt_out_source=ConsentSource.INBOUND)
    return _change(Q(opted_in=False) & fresh, contacts, _OPT_IN, source=source, proof=proof, at=at, by=by)


def opt_in_by_writing(messages: Mapping[int, tuple[str, datetime]]) -> list[int]:
    """Opt in those who wrote to us and were never asked: neither in nor out so far.

    `messages` holds, for each contact's id, the wamid that proves it and when it was written.
    """
    never_asked = Q(opted_in=False, opted_out_at=None)
    proof = {key: wamid for key, (wamid, _) in messages.items()}
    at = {key: written for key, (_, written) in messages.items()}
    return _change(never_asked, messages, _OPT_IN, source=ConsentSource.INBOUND, proof=proof, at=at, by=None)


def opt_out(
    contacts: Iterable[int],
    *,
    source: str,
    proof: str | Mapping[int, str],
    at: datetime,
    by: User | None = None,
    noted: bool = True,
) -> list[int]:
    """Opt contacts out; the ids of those for whom that is news, in order. At most six statements, however many.

    Somebody who never opted in may opt out, too: then writing to us doesn't opt them in. Whoever is out stays out, but
    their own word takes the place of an opt-out by others, so that no import undoes it. A ContactEvent tells of those
    who weren't out before. Without `noted` the audit log is the caller's.
    """
    news = Q(opted_in=True) | Q(opted_out_at=None)
    if source == ConsentSource.INBOUND:
        news |= ~Q(opt_out_source=ConsentSource.INBOUND)
    return _change(news, contacts, _OPT_OUT, source=source, proof=proof, at=at, by=by, noted=noted)


def stop_marketing(contacts: Iterable[int], *, at: datetime | Mapping[int, datetime]) -> list[int]:
    """Note that these people told Meta to stop our marketing; the ids of those for whom that is news, in order.

    `at` is when: one moment for all, or one for each id. Word older than their last switch changes nothing.
    Says nothing about utility messages: `opted_in` stays as it is.
    """
    return _switch_marketing(contacts, stop=True, at=at)


def resume_marketing(contacts: Iterable[int], *, at: datetime | Mapping[int, datetime]) -> list[int]:
    """Note that these people told Meta to resume our marketing; the ids of those for whom that is news, in order.

    Is remembered of the others, too: a stop may come after the resume that it went before.
    """
    return _switch_marketing(contacts, stop=False, at=at)


def _switch_marketing(contacts: Iterable[int], *, stop: bool, at: datetime | Mapping[int, datetime]) -> list[int]:
    with transaction.atomic():
        held = lock(contacts)
        moments = [at if isinstance(at, datetime) else at[key] for key in held]
        with connection.cursor() as cursor:
            cursor.execute(_SWITCH, {"ids": held, "moments": moments, "stop": stop})
            return sorted(key for key, was_stopped in cursor.fetchall() if was_stopped != stop)


def delete(contacts: Iterable[int], *, at: datetime, source: str = ConsentSource.OPERATOR) -> list[int]:
    """Mark contacts as deleted; the ids of those who weren't, in order. Their rows and history stay.

    A ContactEvent tells of each of them. At most four statements, however many contacts.
    """
    with transaction.atomic():
        held = lock(contacts)
        with connection.cursor() as cursor:
            cursor.execute(_DELETE, {"ids": held, "at": at, "source": str(source)})
            deleted = [key for (key,) in cursor.fetchall()]
        if source in DECIDED:
            _record("contact.deleted", deleted, source=str(source))
    return deleted


def revive(contacts: Iterable[int], *, at: datetime) -> list[int]:
    """Bring deleted contacts back with all their history; the ids of those who were deleted, in order."""
    with transaction.atomic():
        news = _those(lock(contacts), Q(deleted_at__isnull=False))
        Contact.objects.filter(pk__in=news).update(deleted_at=None, updated_at=at)
    return news


def lock(contacts: Iterable[int]) -> list[int]:
    """Lock these contacts in the order of their ids, whatever their state; it is read only then.

    NO KEY: tags, events and messages may still be hung on them meanwhile.
    """
    locked = Contact.objects.filter(pk__in=set(contacts)).order_by("pk").select_for_update(no_key=True)
    return list(locked.values_list("pk", flat=True))


def _change(
    which: Q,
    contacts: Iterable[int],
    write: str,
    *,
    source: str,
    proof: str | Mapping[int, str],
    at: datetime | Mapping[int, datetime],
    by: User | None,
    noted: bool = True,
) -> list[int]:
    """Run `write` over those of the contacts to whom `which` applies once they are locked."""
    with transaction.atomic():
        news = _those(lock(contacts), which)
        if news:
            proofs = [(proof if isinstance(proof, str) else proof.get(key, ""))[:PROOF] for key in news]
            moments = [at if isinstance(at, datetime) else at[key] for key in news]
            values: dict[str, Any] = {"ids": news, "proofs": proofs, "moments": moments, "source": str(source)}
            values["by"] = by and by.pk
            with connection.cursor() as cursor:
                cursor.execute(write, values)
                told = [key for key, was_out in cursor.fetchall() if not was_out]
            kind = Kind.CONTACT_OPTED_IN if write == _OPT_IN else Kind.CONTACT_OPTED_OUT
            customer_news.tell(kind, told, at=max(moments))
            if noted and source in DECIDED:
                _record("contact.opted_in" if write == _OPT_IN else "contact.opted_out", news, source=str(source))
    return news


def _record(action: str, contacts: list[int], **details: Any) -> None:
    """Note in the audit log what somebody did: to one contact by its name, to several as a number. Two queries."""
    if not contacts:
        return
    one = Contact.objects.select_related("organization").get(pk=contacts[0])
    if len(contacts) == 1:
        audit.record(action, one, **details)
    else:
        audit.record(action, one.organization, contacts=len(contacts), **details)


def _those(held: list[int], which: Q) -> list[int]:
    return list(Contact.objects.filter(which, pk__in=held).order_by("pk").values_list("pk", flat=True))


# Answers each contact with whether it was out before.
_HISTORY = """, history AS (
    INSERT INTO contacts_consentchange (organization_id, contact_id, opted_in, source, proof, by_id, at)
    SELECT organization_id, id, opted_in, %(source)s, proof, %(by)s, at FROM changed ORDER BY id
) SELECT id, was_out FROM changed ORDER BY id"""

_OPT_IN = f"""
WITH changed AS (
    UPDATE contacts_contact AS contact
    SET opted_in = true, opted_in_at = news.at, opt_in_source = %(source)s, opt_in_proof = news.proof,
        opted_out_at = NULL, opt_out_source = '', updated_at = news.at
    FROM unnest(%(ids)s::bigint[], %(proofs)s::text[], %(moments)s::timestamptz[]) AS news (id, proof, at)
    WHERE contact.id = news.id
    RETURNING contact.id, contact.organization_id, contact.opted_in, news.proof, news.at, false AS was_out
){_HISTORY}"""

# What they had agreed to, and how, stays readable beside its withdrawal.
_OPT_OUT = f"""
WITH changed AS (
    UPDATE contacts_contact AS contact
    SET opted_in = false, opted_out_at = news.at, opt_out_source = %(source)s, updated_at = news.at
    FROM unnest(%(ids)s::bigint[], %(proofs)s::text[], %(moments)s::timestamptz[]) AS news (id, proof, at)
    JOIN contacts_contact AS before USING (id)
    WHERE contact.id = news.id
    RETURNING contact.id, contact.organization_id, contact.opted_in, news.proof, news.at,
              NOT before.opted_in AND before.opted_out_at IS NOT NULL AS was_out
), events AS (
    INSERT INTO contacts_contactevent (organization_id, kind, contact_id, source, at)
    SELECT organization_id, 'opted_out', id, %(source)s, at FROM changed WHERE NOT was_out ORDER BY id
){_HISTORY}"""

_DELETE = """
WITH deleted AS (
    UPDATE contacts_contact SET deleted_at = %(at)s, updated_at = %(at)s
    WHERE id = ANY(%(ids)s::bigint[]) AND deleted_at IS NULL
    RETURNING id, organization_id
), events AS (
    INSERT INTO contacts_contactevent (organization_id, kind, contact_id, source, at)
    SELECT organization_id, 'deleted', id, %(source)s, %(at)s FROM deleted ORDER BY id
)
SELECT id FROM deleted ORDER BY id
"""

_SWITCH = """
UPDATE contacts_contact AS contact
SET marketing_opted_out_at = CASE WHEN %(stop)s THEN news.at END, marketing_switched_at = news.at
FROM unnest(%(ids)s::bigint[], %(moments)s::timestamptz[]) AS news (id, at)
JOIN contacts_contact AS before USING (id)
WHERE contact.id = news.id AND (contact.marketing_switched_at IS NULL OR contact.marketing_switched_at <= news.at)
RETURNING contact.id, before.marketing_opted_out_at IS NOT NULL
"""
