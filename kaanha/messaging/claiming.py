"""Claiming: take due rows for this process, judge each of them, and write down what is about to be sent.

Locks in the one order: Dispatch → Message → MarketingCap → counters. Contacts are read, not locked, in a statement that
starts after the caps are taken: an opt-out that has committed by then is seen.
"""

from __future__ import annotations

import json
import logging
import random
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from kaanha.lib import public_ids
from kaanha.lib.errors import Refusal
from kaanha.messaging import caps, counting, policy, reach, step_news
from kaanha.messaging.models import Dispatch, Message, SkipReason
from kaanha.messaging.policy import Addressee
from kaanha.whatsapp.cloud_api import payloads
from templates_app import rendering
from templates_app.models import MessageTemplate

logger = logging.getLogger(__name__)


# {dispatch: how its template is filled}
Variables = Mapping[int, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Live:
    """A dispatch of a phone number with rows that are due."""

    id: int
    kind: str
    lane: str
    when_capped: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """A claimed message, ready to be posted."""

    id: int
    dispatch_id: int
    contact_id: int
    attempt: int
    token: int
    phone: str
    parameters: str  # JSON
    body: bytes


@dataclass(slots=True)
class Claim:
    """What one claim brought: envelopes to post, how many were settled at once, and dispatches that can't be sent."""

    envelopes: list[Envelope] = field(default_factory=list)
    skipped: int = 0
    deferred: int = 0
    trouble: dict[int, str] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        return not (self.envelopes or self.skipped or self.deferred or self.trouble)


@dataclass(frozen=True, slots=True)
class _Candidate:
    id: int
    dispatch_id: int
    contact_id: int
    template_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class _Case:
    """A candidate with what its message is made of."""

    row: _Candidate
    dispatch: Live
    template: MessageTemplate
    filler: rendering.Filler

    @property
    def needs_cap(self) -> bool:
        return policy.is_capped(self.template.category, self.dispatch.kind)


def live(phone_number_id: int, *, now: datetime) -> list[Live]:
    """The number's dispatches with due rows, neither held nor canceled, while their organization is open.

    Jumps from dispatch to dispatch in the index of due rows, so that a million waiting rows cost one step.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LIVE, [now, phone_number_id])
        return [Live(*columns) for columns in cursor.fetchall()]


def numbers_with_work(*, now: datetime) -> list[int]:
    """Keys of the phone numbers that have something to send."""
    with connection.cursor() as cursor:
        cursor.execute(_NUMBERS, [now])
        return [key for (key,) in cursor.fetchall()]


def claim(dispatches: Collection[Live], *, limit: int, now: datetime, within: reach.Limit | None = None) -> Claim:
    """Up to `limit` rows of `dispatches`: utility before marketing, and an equal share for each dispatch of a lane.

    Every row taken ends in this transaction as sending (an envelope), skipped with its reason, or queued for later: for
    the cap where its asker waits for that, or for the messaging limit of the portfolio, `within`. About ten statements,
    whatever the number of rows.
    """
    found = {dispatch.id: dispatch for dispatch in _some(dispatches, limit)}
    with transaction.atomic(durable=True):
        variables = _lock_open(found)
        candidates = _take(_lanes(variables, found), limit=limit, now=now)
        return _judge(candidates, found, variables, now=now, within=within) if candidates else Claim()


def _some(dispatches: Collection[Live], limit: int) -> list[Live]:
    """At most `limit` of them, for each gives at least one row: utility first, otherwise by chance."""
    if len(dispatches) <= limit:
        return list(dispatches)
    shuffled = random.sample(list(dispatches), len(dispatches))
    return sorted(shuffled, key=lambda one: one.lane != Dispatch.Lane.UTILITY)[:limit]


def _lock_open(found: Mapping[int, Live]) -> Variables:
    """The dispatches that are still open, with their variables; share-locked: a hold waits for us, or we for it."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, [list(found)])
        return {key: json.loads(variables) for key, variables in cursor.fetchall()}


def _lanes(keys: Iterable[int], found: Mapping[int, Live]) -> list[list[int]]:
    """The dispatches by their lanes, utility first."""
    return [
        [key for key in keys if found[key].lane == lane] for lane in (Dispatch.Lane.UTILITY, Dispatch.Lane.MARKETING)
    ]


def _take(lanes: Iterable[list[int]], *, limit: int, now: datetime) -> list[_Candidate]:
    taken: list[_Candidate] = []
    for keys in lanes:
        if keys and len(taken) < limit:
            share = -(-(limit - len(taken)) // len(keys))
            with connection.cursor() as cursor:
                cursor.execute(_CANDIDATES, [keys, now, share, limit - len(taken)])
                taken += [_Candidate(*values) for values in cursor.fetchall()]
    return taken


def _judge(
    candidates: list[_Candidate],
    found: Mapping[int, Live],
    variables: Variables,
    *,
    now: datetime,
    within: reach.Limit | None,
) -> Claim:
    claimed = Claim()
    cases = _one_marketing_each(_cases(candidates, found, variables, claimed.trouble))
    reserved = caps.take({case.row.contact_id: case.row.id for case in cases if case.needs_cap}, now=now)
    people = addressees([case.row.contact_id for case in cases])
    token = secrets.randbits(62)
    skipped: list[tuple[_Case, SkipReason]] = []
    held_back = 0
    for case in cases:
        capped = case.needs_cap and case.row.contact_id not in reserved
        decision = _decide(case, people.get(case.row.contact_id), capped=capped, token=token)
        if isinstance(decision, Envelope):
            claimed.envelopes.append(decision)
        else:
            skipped.append((case, decision))
    if within is not None:
        claimed.envelopes, held_back = _fit(claimed.envelopes, within, reserved, now=now)
    _mark_sending(claimed.envelopes, now=now)
    waiting = [case for case, reason in skipped if _waits(case, reason)]
    _defer_for_cap(waiting)
    settled = [(case, reason) for case, reason in skipped if not _waits(case, reason)]
    _skip(settled, reserved, now=now)
    claimed.deferred, claimed.skipped = len(waiting) + held_back, len(settled)
    return claimed


def _cases(
    candidates: list[_Candidate], found: Mapping[int, Live], variables: Variables, trouble: dict[int, str]
) -> list[_Case]:
    """The candidates whose template can be sent; the dispatches of the others go to `trouble` with the reason."""
    keys = list({row.template_id for row in candidates})
    templates = {one.pk: one for one in MessageTemplate.objects.raw(_TEMPLATES, [keys])}
    fillers: dict[tuple[int, int], rendering.Filler | None] = {}
    for row in candidates:
        kind = (row.dispatch_id, row.template_id)
        if kind not in fillers:
            filled_with = variables[row.dispatch_id]
            fillers[kind] = _filler(row.dispatch_id, templates.get(row.template_id), filled_with, trouble)
    return [
        _Case(row, found[row.dispatch_id], templates[row.template_id], filler)
        for row in candidates
        if (filler := fillers[row.dispatch_id, row.template_id]) is not None
    ]


def _filler(
    dispatch: int, template: MessageTemplate | None, variables: Mapping[str, Any], trouble: dict[int, str]
) -> rendering.Filler | None:
    if template is None:
        trouble[dispatch] = "The template is gone."
        return None
    if not template.sendable:
        trouble[dispatch] = f"{template.standing}."
        return None
    try:
        return rendering.prepare(template.components, template.parameter_format, variables)
    except Refusal as refusal:
        trouble[dispatch] = str(refusal)
        return None


def _one_marketing_each(cases: list[_Case]) -> list[_Case]:
    """At most one MARKETING message per contact; a second one stays in the queue for the next claim."""
    chosen: dict[int, int] = {}
    for case in cases:
        if case.needs_cap:
            chosen.setdefault(case.row.contact_id, case.row.id)
    return [case for case in cases if not case.needs_cap or chosen[case.row.contact_id] == case.row.id]


def addressees(contacts: list[int]) -> dict[int, Addressee]:
    """These contacts by id, as they are now. One query, without a lock."""
    with connection.cursor() as cursor:
        cursor.execute(_CONTACTS, [contacts])
        found = [Addressee(*(*values, json.loads(attributes))) for *values, attributes in cursor.fetchall()]
    return {addressee.id: addressee for addressee in found}


def _decide(case: _Case, addressee: Addressee | None, *, capped: bool, token: int) -> Envelope | SkipReason:
    reason = policy.objection(addressee, case.template.category, capped=capped)
    if addressee is None or addressee.phone is None or reason is not None:
        return reason or SkipReason.INVALID_PHONE
    try:
        parameters = payloads.encode(case.filler.fill(addressee.values()))
    except rendering.MissingVariable:
        return SkipReason.MISSING_VARIABLE
    except Exception:
        # One contact must not stop a whole number, whatever stands in its row.
        logger.exception("Message %s can't be filled", case.row.id)
        return SkipReason.MISSING_VARIABLE
    row, attempt = case.row, case.row.attempt + 1
    body = payloads.template_message(
        to=addressee.phone,
        name=case.template.name,
        language=case.template.language,
        components=parameters,
        callback_data=callback_data(row.id, attempt),
    )
    return Envelope(row.id, row.dispatch_id, row.contact_id, attempt, token, addressee.phone, parameters, body)


def callback_data(message_id: int, attempt: int) -> str:
    """What Meta brings back with every receipt: the message's public id and the attempt."""
    return f"{public_ids.encode(Message.PUBLIC_KIND, message_id)}.{attempt}"


def read_callback_data(texts: Sequence[str | None]) -> list[tuple[int, int] | None]:
    """(message, attempt) behind the callback data of each receipt; None for anything that isn't ours."""
    parts = [(text or "").partition(".") for text in texts]
    keys = public_ids.decode_many(Message.PUBLIC_KIND, [public_id for public_id, _, _ in parts])
    return [
        (key, int(attempt)) if key is not None and attempt.isascii() and attempt.isdecimal() else None
        for key, (_, _, attempt) in zip(keys, parts, strict=True)
    ]


def _waits(case: _Case, reason: SkipReason) -> bool:
    return reason == SkipReason.FREQUENCY_CAP and case.dispatch.when_capped == Dispatch.WhenCapped.WAIT


def _mark_sending(envelopes: list[Envelope], *, now: datetime) -> None:
    if envelopes:
        parameters = [envelope.parameters for envelope in envelopes]
        keys = [envelope.id for envelope in envelopes]
        with connection.cursor() as cursor:
            cursor.execute(_SENDING, [now + settings.SEND_LEASE, envelopes[0].token, keys, parameters])


def _defer_for_cap(cases: list[_Case]) -> None:
    """Back to the queue until the cap of each contact frees."""
    if cases:
        free = caps.free_from([case.row.contact_id for case in cases])
        _defer({case.row.id: free[case.row.contact_id] for case in cases})


def _fit(
    envelopes: list[Envelope], within: reach.Limit, reserved: Collection[int], *, now: datetime
) -> tuple[list[Envelope], int]:
    """Those that the portfolio's messaging limit lets go; the others go back until a place frees, without caps."""
    room = reach.reserve(within, [envelope.contact_id for envelope in envelopes], now=now)
    beyond = [envelope for envelope in envelopes if envelope.contact_id not in room.fits]
    _defer({envelope.id: at for envelope, at in zip(beyond, room.frees_at(len(beyond)), strict=True)})
    caps.give_back({e.contact_id: e.id for e in beyond if e.contact_id in reserved}, now=now)
    return [envelope for envelope in envelopes if envelope.contact_id in room.fits], len(beyond)


def _defer(until: Mapping[int, datetime]) -> None:
    if until:
        with connection.cursor() as cursor:
            cursor.execute(_DEFER, [list(until), list(until.values())])


def _skip(skipped: list[tuple[_Case, SkipReason]], reserved: Collection[int], *, now: datetime) -> None:
    """Settle rows that will not be sent, and give back the caps that were reserved for them in this claim."""
    if not skipped:
        return
    rows = [case.row for case, _ in skipped]
    with connection.cursor() as cursor:
        cursor.execute(_SKIP, [now, [row.id for row in rows], [str(reason) for _, reason in skipped]])
    given = {case.row.contact_id: case.row.id for case, _ in skipped if case.needs_cap}
    caps.give_back({contact: message for contact, message in given.items() if contact in reserved}, now=now)
    step_news.tell([row.id for row in rows])
    difference = counting.Difference()
    for row in rows:
        difference.changed(row.dispatch_id, counting.QUEUED, counting.SKIPPED)
    difference.write()


# The dispatches that have due rows, each with the time of its first: one step of the index a dispatch.
WORK = """
WITH RECURSIVE work AS (
  (SELECT dispatch_id, due_at FROM messaging_message WHERE due_at IS NOT NULL ORDER BY dispatch_id, due_at LIMIT 1)
  UNION ALL
  SELECT next.dispatch_id, next.due_at FROM work, LATERAL (
    SELECT dispatch_id, due_at FROM messaging_message
    WHERE due_at IS NOT NULL AND dispatch_id > work.dispatch_id ORDER BY dispatch_id, due_at LIMIT 1) next
)
"""
# Of a closed organization nothing is sent, whatever waits.
_OPEN = """d.held_at IS NULL AND d.canceled_at IS NULL AND NOT EXISTS (
  SELECT FROM organizations_organization o WHERE o.id = d.organization_id AND o.closed_at IS NOT NULL)"""
_LIVE = f"""
{WORK} SELECT d.id, d.kind, d.lane, d.when_capped
FROM work JOIN messaging_dispatch d ON d.id = dispatch_id
WHERE due_at <= %s AND d.phone_number_id = %s AND {_OPEN}
"""
_NUMBERS = f"""
{WORK} SELECT DISTINCT d.phone_number_id FROM work JOIN messaging_dispatch d ON d.id = dispatch_id
WHERE due_at <= %s AND {_OPEN}
"""
_LOCK = (
    f"SELECT d.id, d.variables::text FROM messaging_dispatch d WHERE d.id = ANY(%s) AND {_OPEN} ORDER BY d.id FOR SHARE"
)
_CANDIDATES = """
SELECT m.id, m.dispatch_id, m.contact_id, m.template_id, m.attempt
FROM unnest(%s::bigint[]) AS asked (dispatch_id), LATERAL (
  SELECT * FROM messaging_message
  WHERE dispatch_id = asked.dispatch_id AND due_at IS NOT NULL AND due_at <= %s
  ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED) m
LIMIT %s
"""
# Raw: putting the same query together costs Django as much as all else that it does for a template.
_TEMPLATES = "SELECT * FROM templates_app_messagetemplate WHERE id = ANY(%s)"
_CONTACTS = """
SELECT id, phone, country, name, email, opted_in, deleted_at, marketing_opted_out_at, attributes::text
FROM contacts_contact WHERE id = ANY(%s)
"""
_SENDING = """
UPDATE messaging_message m SET status = 'sending', due_at = NULL, lease_until = %s, lease_token = %s,
  attempt = m.attempt + 1, parameters = new.parameters::jsonb
FROM unnest(%s::bigint[], %s::text[]) AS new (id, parameters) WHERE m.id = new.id
"""
_DEFER = """
UPDATE messaging_message m SET due_at = new.due_at
FROM unnest(%s::bigint[], %s::timestamptz[]) AS new (id, due_at) WHERE m.id = new.id
"""
_SKIP = """
UPDATE messaging_message m SET status = 'skipped', due_at = NULL, closed_at = %s, skip_reason = new.reason
FROM unnest(%s::bigint[], %s::text[]) AS new (id, reason) WHERE m.id = new.id
"""
