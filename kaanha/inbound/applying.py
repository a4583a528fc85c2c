"""Applying stored callbacks: parse, then hand each kind of fact to the floor that it concerns.

Every step is a transaction of its own and may be repeated, so a process that dies in the middle costs nothing: the
lease on its callbacks ends and another applies them again.
"""

from __future__ import annotations

import contextlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from django.conf import settings
from django.db import Error, InterfaceError, OperationalError, connection, transaction
from django.db.models import Q

from contacts import consent
from contacts.models import Contact
from kaanha.inbound.models import Callback
from kaanha.lib import cursors, phone
from kaanha.messaging import holding, inbox, receipts
from kaanha.whatsapp import news
from kaanha.whatsapp.cloud_api import events
from kaanha.whatsapp.cloud_api.events import Parsed
from kaanha.whatsapp.models import BusinessAccount, PhoneNumber
from templates_app import syncing

BATCH_BODIES = 500
BATCH_BYTES = 2_000_000  # of bodies: some 5,000 statuses. Parsed they take several times as much memory
KEPT = timedelta(days=7)  # an applied body without problems
KEPT_TROUBLED = timedelta(days=30)  # with problems, for somebody to look at and repair
DROPPED_AT_ONCE = 10_000  # of each
# After these nothing more can be sent. Source: Webhooks reference, "account_update".
STOPPING_EVENTS = frozenset({"ACCOUNT_DELETED", "ACCOUNT_OFFBOARDED", "PARTNER_REMOVED", "PARTNER_APP_UNINSTALLED"})
STOPPING_RESTRICTIONS = frozenset({"RESTRICTED_BIZ_INITIATED_MESSAGING"})

# The database's trouble, not the body's: the same body may well be applied a moment later.
_PASSING = (OperationalError, InterfaceError)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Body:
    """A callback taken for applying. `again`: it was applied before, and what has no clock in it was heard then."""

    id: int
    app: int
    received_at: datetime
    raw: bytes
    again: bool = False


class AboutNumber(Protocol):
    @property
    def phone_number_id(self) -> str: ...


N = TypeVar("N", bound=AboutNumber)


def apply_open(*, now: datetime, limit: int = BATCH_BODIES) -> int:
    """Apply up to `limit` callbacks that wait, of up to 2 MB together or one, oldest first; how many.

    Where the database is in trouble (a deadlock, a restart) its error comes out, and the callbacks wait for anybody.
    """
    bodies = _claim(now=now, limit=limit)
    try:
        apply_bodies(bodies, now=now)
    except _PASSING:
        with contextlib.suppress(Error):  # at the latest their lease ends
            _give_back(bodies)
        raise
    return len(bodies)


def apply_bodies(bodies: Sequence[Body], *, now: datetime) -> None:
    """Apply these callbacks and mark them. A body that spoils the batch is found and kept with its reason."""
    parsed = [(body, _read(body)) for body in bodies]
    try:
        for app in {body.app for body in bodies}:
            _apply(app, [facts for body, facts in parsed if body.app == app], now=now)
    except _PASSING:
        raise
    except Exception as error:  # whatever is wrong with one body, its neighbors' STOP must be heard
        if len(bodies) > 1:
            for body in bodies:
                apply_bodies([body], now=now)
            return
        logger.exception("Callback %s could not be applied", bodies[0].id)
        parsed[0][1].problems.append(events.Problem("body", f"{type(error).__name__}: {str(error)[:300]}"))
    _mark(parsed, now=now)


def _read(body: Body) -> Parsed:
    facts = events.parse(body.raw, received_at=body.received_at)
    if body.again:
        # Where the last word counts and rows don't say when it was spoken, an old one would undo a newer.
        for news in (facts.template_categories, facts.template_qualities, facts.number_updates):
            news.clear()
    return facts


def drop_old(*, now: datetime) -> int:
    """Delete applied bodies after seven days, those with problems after thirty; how many went this time.

    Those of a number that isn't connected all have problems: kept for ever, they would fill the disk.
    """
    with connection.cursor() as cursor:
        cursor.execute(_DROP, [now - KEPT, DROPPED_AT_ONCE, now - KEPT_TROUBLED, DROPPED_AT_ONCE])
        return cursor.rowcount


def _apply(app: int, bodies: Sequence[Parsed], *, now: datetime) -> None:
    """What people say comes first: thousands of receipts don't stand before a STOP, nor does one that is broken."""
    numbers = _numbers(app)
    written = _about(numbers, (message for facts in bodies for message in facts.inbound))
    for number, messages in written:
        inbox.store(messages, number, now=now)
    for number, preferences in _about(numbers, (one for facts in bodies for one in facts.preferences)):
        _apply_preferences(preferences, number)
    statuses = [receipt for facts in bodies for receipt in facts.receipts]
    if statuses:
        receipts.apply(statuses, app=app, now=now)
    # After the receipts: a message may be known by its wamid only since one of them.
    for number, messages in written:
        inbox.attach_replies(messages, number)
    for facts in bodies:
        _report_strangers(facts, numbers)
        _apply_template_events(app, facts)
        _apply_account_updates(app, facts, now=now)
        news.apply_updates(facts, app=app)


def _apply_account_updates(app: int, facts: Parsed, *, now: datetime) -> None:
    """Stop what an account has to send when Meta restricts, disables or loses it."""
    for update in facts.account_updates:
        restricted = any(kind in STOPPING_RESTRICTIONS for kind, _ in update.restrictions)
        if restricted or update.event in STOPPING_EVENTS:
            detail = (
                f"Meta says of the WhatsApp account: {update.event}. Look into Meta's Business Support, then resume."
            )
            holding.hold_account(update.waba_id, app=app, reason="account", detail=detail, now=now)


def _numbers(app: int) -> dict[str, PhoneNumber]:
    """The app's phone numbers by Meta's id: a callback may speak of no others."""
    found = PhoneNumber.objects.filter(account__app=app).select_related("organization")
    return {number.phone_number_id: number for number in found}


def _about(numbers: Mapping[str, PhoneNumber], facts: Iterable[N]) -> list[tuple[PhoneNumber, list[N]]]:
    """The facts by the phone number that they are about, without those about others' numbers."""
    found: dict[str, list[N]] = defaultdict(list)
    for fact in facts:
        found[fact.phone_number_id].append(fact)
    return [(numbers[key], about) for key, about in found.items() if key in numbers]


def _apply_template_events(app: int, facts: Parsed) -> None:
    events_of = (facts.template_statuses, facts.template_categories, facts.template_qualities)
    if not any(events_of):
        return
    ours = set(BusinessAccount.objects.filter(app=app).values_list("waba_id", flat=True))
    for status in facts.template_statuses:
        if status.waba_id in ours:
            syncing.apply_status(status)
    for category in facts.template_categories:
        if category.waba_id in ours:
            syncing.apply_category(category)
    for quality in facts.template_qualities:
        if quality.waba_id in ours:
            syncing.apply_quality(quality)


def _report_strangers(facts: Parsed, numbers: dict[str, PhoneNumber]) -> None:
    """Say so when a callback speaks of a number that isn't one of its app's."""
    spoken: list[AboutNumber] = [*facts.inbound, *facts.preferences, *facts.receipts]
    for about in spoken:
        if about.phone_number_id and about.phone_number_id not in numbers:
            reason = f"phone number {about.phone_number_id} is not connected under the app that signed this"
            facts.problems.append(events.Problem("metadata.phone_number_id", reason))
            return


def _apply_preferences(preferences: Sequence[events.Preference], number: PhoneNumber) -> None:
    """The person's own switch for marketing at WhatsApp, in the order in which it was turned."""
    for preference in sorted(preferences, key=lambda p: p.at):
        found = Contact.objects.of(number.organization_id).filter(_known_by(preference))
        act = consent.stop_marketing if preference.value == "stop" else consent.resume_marketing
        act(list(found.values_list("pk", flat=True)), at=preference.at)


def _known_by(preference: events.Preference) -> Q:
    """The rows of that person: by the number as we may have it, by WhatsApp's spelling, by the user id."""
    known = Q(pk=None)
    if preference.wa_id:
        known |= Q(phone__in=phone.spellings(preference.wa_id)) | Q(wa_id=preference.wa_id)
    if preference.user_id:
        known |= Q(user_id=preference.user_id)
    return known


def _claim(*, now: datetime, limit: int) -> list[Body]:
    with transaction.atomic(), cursors.for_many() as cursor:
        cursor.execute(_CLAIM, [now, limit, now + settings.CALLBACK_LEASE, BATCH_BYTES])
        return [Body(key, app, at, bytes(raw)) for key, app, at, raw in sorted(cursor.fetchall())]


def _give_back(bodies: Sequence[Body]) -> None:
    """End the lease on those that were not applied, by a new connection where the old one is broken."""
    connection.close_if_unusable_or_obsolete()
    Callback.objects.filter(pk__in=[body.id for body in bodies], applied_at=None).update(leased_until=None)


def _mark(parsed: Sequence[tuple[Body, Parsed]], *, now: datetime) -> None:
    troubled = {
        body.id: [{"where": problem.where, "reason": problem.reason} for problem in facts.problems[:100]]
        for body, facts in parsed
        if facts.problems
    }
    with connection.cursor() as cursor:
        cursor.execute(_MARK, [now, [body.id for body, _ in parsed if body.id not in troubled]])
    for key, problems in troubled.items():
        Callback.objects.filter(pk=key).update(applied_at=now, leased_until=None, problems=problems)


# Sizes are known without reading the bodies: PostgreSQL keeps them beside where these are.
_CLAIM = """
WITH open AS MATERIALIZED (
  SELECT id, octet_length(body) AS bytes FROM inbound_callback
  WHERE applied_at IS NULL AND (leased_until IS NULL OR leased_until < %s)
  ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
), summed AS (
  SELECT id, sum(bytes) OVER up_to_here AS bytes, row_number() OVER up_to_here AS place FROM open
  WINDOW up_to_here AS (ORDER BY id)
)
UPDATE inbound_callback c SET leased_until = %s
FROM summed WHERE c.id = summed.id AND (summed.bytes <= %s OR summed.place = 1)
RETURNING c.id, c.app_id, c.received_at, c.body
"""
_MARK = "UPDATE inbound_callback SET applied_at = %s, leased_until = NULL, problems = NULL WHERE id = ANY(%s::bigint[])"
_DROP = """
DELETE FROM inbound_callback WHERE id IN (
  (SELECT id FROM inbound_callback WHERE applied_at < %s AND problems IS NULL ORDER BY applied_at LIMIT %s)
  UNION ALL
  (SELECT id FROM inbound_callback WHERE applied_at < %s AND problems IS NOT NULL ORDER BY applied_at LIMIT %s))
"""
