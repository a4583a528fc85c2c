"""What people write to us: stored once, with what follows from it (consent words, tags, which message it answers)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from contacts import arriving, consent, tagging
from contacts.models import ConsentSource
from kaanha.messaging import customer_news, quarters, step_news
from kaanha.messaging.models import REPLY_WINDOW, InboundMessage
from kaanha.whatsapp.cloud_api.events import Inbound
from kaanha.whatsapp.models import PhoneNumber

NOT_WRITTEN = frozenset({"system"})  # Meta speaking about a person, not the person


def store(messages: Sequence[Inbound], number: PhoneNumber, *, now: datetime) -> int:
    """Keep what came in for `number`; how many were new. Meta repeats itself: the second time changes nothing.

    Unknown senders become contacts, opted in with the message as proof; consent words and auto-tag rules are obeyed.
    What the messages answer is said by `attach_replies`, once the receipts that came with them are applied.
    Two transactions, each of which locks its contacts at once and by id: two stores of the same people never deadlock.
    """
    unknown = _unknown(_written(messages), number)
    contacts = arriving.welcome(number.organization, [_sender(message, now) for message in unknown])
    with transaction.atomic():
        consent.lock(contacts.values())
        new = _insert([message for message in unknown if message.wamid in contacts], contacts, number, now=now)
        _obey_consent_words(new, number, now=now)
        tagging.auto_tag(number.organization, [(contact, message.text) for contact, message in new], at=now)
        customer_news.tell_received(number.organization_id, [message.wamid for _, message in new], now=now)
    return len(new)


def attach_replies(messages: Sequence[Inbound], number: PhoneNumber) -> None:
    """Say which message each of these answers: the one that it quotes, else the last to that contact within 72 h.

    A transaction of its own, for contacts come after messages in the order of locks.
    """
    wamids = [message.wamid for message in _written(messages)]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_ANSWERED, [REPLY_WINDOW.total_seconds(), number.organization_id, wamids])
        answered = cursor.fetchall()
        cursor.execute(_REPLIED, [list(column) for column in zip(*answered, strict=True)] or [[], [], []])
        replied = cursor.fetchall()
        step_news.tell([message for message, *_ in replied])
        cursor.execute(_REPLY_TO, [[inbound for inbound, *_ in answered], [message for _, message, _ in answered]])
        _count([facts for _, first, *facts in replied if first])


def _count(replied: Sequence[Sequence[Any]]) -> None:
    """Count messages that got their first reply: (organization, kind, status, code, accepted and failed at) of each."""
    difference = quarters.Difference()
    for facts in replied:
        known = dict(zip(_FACTS, facts, strict=True))
        difference.changed(quarters.counted(**known, replied=False), quarters.counted(**known, replied=True))
    difference.write()


def _written(messages: Sequence[Inbound]) -> list[Inbound]:
    return [message for message in messages if message.kind not in NOT_WRITTEN]


def _unknown(messages: Sequence[Inbound], number: PhoneNumber) -> list[Inbound]:
    stored = InboundMessage.objects.of(number.organization_id).filter(wamid__in=[m.wamid for m in messages])
    known = set(stored.values_list("wamid", flat=True))
    return sorted((m for m in messages if m.wamid not in known), key=lambda message: message.at)


def _sender(message: Inbound, now: datetime) -> arriving.Person:
    return arriving.Person(message.wa_id, message.user_id, message.name, message.wamid, min(message.at, now))


def _insert(
    messages: Sequence[Inbound], contacts: Mapping[str, int], number: PhoneNumber, *, now: datetime
) -> list[tuple[int, Inbound]]:
    """(contact, message) of those that weren't there before, oldest first. `contacts` by the wamids of all of them."""
    known = {message.wamid: message for message in messages}
    columns = [
        (wamid, contacts[wamid], m.kind[:30], m.text, json.dumps(dict(m.payload)), min(m.at, now))
        for wamid, m in known.items()
    ]
    if not columns:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [number.organization_id, number.pk, now, *map(list, zip(*columns, strict=True))])
        new = {wamid for (wamid,) in cursor.fetchall()}
    return [(contacts[wamid], message) for wamid, message in known.items() if wamid in new]


def _obey_consent_words(new: Sequence[tuple[int, Inbound]], number: PhoneNumber, *, now: datetime) -> None:
    for contact, message in new:
        meaning = consent.meaning_of(message.text, number.organization)
        if meaning is not None:
            act = consent.opt_in if meaning == consent.Word.OPT_IN else consent.opt_out
            act([contact], source=ConsentSource.INBOUND, proof=message.wamid, at=min(message.at, now))


_INSERT = """
INSERT INTO messaging_inboundmessage
  (organization_id, phone_number_id, received_at, wamid, contact_id, kind, text, payload, written_at)
SELECT %s, %s, %s, wamid, contact, kind, text, payload::jsonb, at
FROM unnest(%s::text[], %s::bigint[], %s::text[], %s::text[], %s::text[], %s::timestamptz[])
  AS new (wamid, contact, kind, text, payload, at)
ON CONFLICT (organization_id, wamid) DO NOTHING RETURNING wamid
"""
_ANSWERED = """
SELECT i.id, coalesce(quoted.id, latest.id) AS message, i.written_at FROM messaging_inboundmessage i
LEFT JOIN LATERAL (
  SELECT m.id FROM messaging_message m
  WHERE m.wamid = i.payload #>> '{context,id}' AND m.organization_id = i.organization_id LIMIT 1) quoted ON true
LEFT JOIN LATERAL (
  SELECT m.id FROM messaging_message m
  WHERE m.contact_id = i.contact_id AND m.accepted_at BETWEEN i.written_at - make_interval(secs => %s) AND i.written_at
  ORDER BY m.accepted_at DESC LIMIT 1) latest ON quoted.id IS NULL
WHERE i.organization_id = %s AND i.wamid = ANY(%s) AND i.reply_to_id IS NULL AND i.kind <> 'reaction'
  AND coalesce(quoted.id, latest.id) IS NOT NULL
ORDER BY message
"""
_REPLIED = """
WITH answered AS (
  SELECT message, min(at) AS at FROM unnest(%s::bigint[], %s::bigint[], %s::timestamptz[]) AS a (inbound, message, at)
  GROUP BY message
), locked AS MATERIALIZED (
  SELECT m.id, a.at, m.replied_at IS NULL AS first FROM messaging_message m JOIN answered a ON a.message = m.id
  WHERE m.replied_at IS NULL OR m.replied_at > a.at ORDER BY m.id FOR UPDATE OF m
)
UPDATE messaging_message m SET replied_at = locked.at FROM locked WHERE m.id = locked.id
RETURNING m.id, locked.first, m.organization_id, (SELECT kind FROM messaging_dispatch d WHERE d.id = m.dispatch_id),
  m.status, m.error_code, m.accepted_at, m.failed_at
"""
_FACTS = ("organization_id", "kind", "status", "error_code", "accepted_at", "failed_at")
_REPLY_TO = """
UPDATE messaging_inboundmessage i SET reply_to_id = a.message
FROM unnest(%s::bigint[], %s::bigint[]) AS a (inbound, message) WHERE i.id = a.inbound
"""
