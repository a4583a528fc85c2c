"""Settling: what Meta answered becomes what the ledger says, in batches."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import DataError, IntegrityError, connection
from django.utils import timezone

from contacts import consent
from kaanha.messaging import fates, holding, ledger
from kaanha.messaging.claiming import Envelope
from kaanha.messaging.fates import Row
from kaanha.messaging.models import Status
from kaanha.whatsapp.cloud_api import client
from kaanha.whatsapp.cloud_api.client import Accepted, NotMeta, Refused, Undelivered, Unknown
from kaanha.whatsapp.cloud_api.errors import ErrorClass, Verdict

logger = logging.getLogger(__name__)

HOLDS = frozenset({ErrorClass.TEMPLATE, ErrorClass.ACCOUNT})


# An answer that comes to nobody's ears for so long has lost its row to the lease sweep, which a receipt corrects.
STALE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class NotStarted:
    """The request was never begun: this process was too slow."""


Answer = client.Answer | NotStarted


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one request."""

    envelope: Envelope
    answer: Answer
    at: datetime

    def stale(self, now: datetime) -> bool:
        """Whether it isn't worth keeping any longer."""
        return now - self.at > STALE


# {dispatch: (reason, words)}
Holds = dict[int, tuple[str, str]]


@dataclass(slots=True)
class Consequences:
    """What a batch of answers means beyond its rows, to be done after the commit."""

    slow_down: bool = False
    holds: Holds = field(default_factory=dict)


def settle_and_hold(results: Sequence[Result]) -> Consequences:
    """Write the answers down and hold the dispatches that are in trouble.

    A result that spoils the batch is left to the lease sweep, and told in the log; the others are written.
    """
    now = timezone.now()
    try:
        consequences = settle(results, now=now)
    except (DataError, IntegrityError):
        if len(results) == 1:
            logger.exception("The answer to message %s can't be written", results[0].envelope.id)
            return Consequences()
        parts = [settle_and_hold([result]) for result in results]
        return Consequences(slow_down=any(part.slow_down for part in parts))
    hold_all(consequences.holds, now=now)
    return consequences


def settle(results: Sequence[Result], *, now: datetime) -> Consequences:
    """Write the answers down: one transaction, a handful of statements."""
    consequences = Consequences()
    with ledger.changing([result.envelope.id for result in results], now=now) as rows:
        for result in results:
            row = rows.get(result.envelope.id)
            if row is not None:
                _apply(row, result, now=now)
        if touched := _touched(results):
            consent.lock(touched)
        stop_marketing([verdict_of(result) for result in results], [r.envelope.contact_id for r in results], at=now)
        _learn_numbers(results)
    for result in results:
        _note(result, consequences)
    return consequences


def stop_marketing(verdicts: Sequence[Verdict | None], contacts: Sequence[int], *, at: datetime) -> None:
    """Remember people who told Meta to stop our marketing (131050)."""
    stopped = [
        contact
        for verdict, contact in zip(verdicts, contacts, strict=True)
        if verdict is not None and verdict.error_class == ErrorClass.OPT_OUT
    ]
    if stopped:
        consent.stop_marketing(stopped, at=at)


def verdict_of(result: Result) -> Verdict | None:
    return result.answer.verdict if isinstance(result.answer, Refused) else None


def _apply(row: Row, result: Result, *, now: datetime) -> None:
    envelope, answer = result.envelope, result.answer
    if isinstance(answer, Accepted):
        if row.attempt == envelope.attempt:
            fates.accept(row, wamid=answer.wamid, held=answer.held, at=result.at)
        return
    # Given up as unconfirmed, it may still learn that it failed. In any other state this answer was written before.
    given_up = row.status == Status.UNCONFIRMED and row.attempt == envelope.attempt
    if not (given_up or fates.is_ours(row, token=envelope.token, attempt=envelope.attempt)):
        return
    match answer:
        case Refused(verdict=verdict):
            fates.refuse(row, verdict, now=now)
        case Undelivered(reason=reason):
            fates.refuse(row, undelivered(reason), now=now)
        case NotMeta():
            fates.requeue(row, due_at=now + fates.HELD_PAUSE)
        case NotStarted():
            fates.requeue(row, due_at=now)
        case Unknown(reason=reason):
            fates.lose_sight(row, reason, now=now)


def hold_for(verdict: Verdict) -> tuple[str, str]:
    """Why a dispatch is held for a refusal: the reason's code, and words for people."""
    words = f"{verdict.words} Meta says: {verdict.text}" if verdict.text else verdict.words
    return str(verdict.error_class), words


def hold_all(holds: Holds, *, now: datetime) -> None:
    """Hold these dispatches. After the commit of what led to it: each hold is a transaction of its own."""
    for dispatch, (reason, detail) in holds.items():
        holding.hold(dispatch, reason=reason, detail=detail, now=now)


def undelivered(reason: str) -> Verdict:
    """A request that provably did not reach Meta, as a refusal worth retrying."""
    return Verdict(
        error_class=ErrorClass.TRANSIENT,
        code=None,
        text=reason[:500],
        words="Meta could not be reached.",
        follow_up_after=None,
    )


def _touched(results: Sequence[Result]) -> list[int]:
    """Contacts that these answers may change, to be locked in one order before anything changes."""
    return [result.envelope.contact_id for result in results if _is_opt_out(result) or _spelled_otherwise(result)]


def _is_opt_out(result: Result) -> bool:
    verdict = verdict_of(result)
    return verdict is not None and verdict.error_class == ErrorClass.OPT_OUT


def _spelled_otherwise(result: Result) -> str | None:
    """WhatsApp's spelling of the number, where it isn't ours."""
    wa_id = result.answer.wa_id if isinstance(result.answer, Accepted) else None
    return wa_id if wa_id and wa_id != result.envelope.phone.lstrip("+") else None


def _learn_numbers(results: Iterable[Result]) -> None:
    """Remember how WhatsApp spells a number where that differs from ours: people write to us under that spelling."""
    learned = {result.envelope.contact_id: wa_id for result in results if (wa_id := _spelled_otherwise(result))}
    if learned:
        keys = sorted(learned)
        with connection.cursor() as cursor:
            cursor.execute(_LEARN, [keys, [learned[key] for key in keys]])


def _note(result: Result, consequences: Consequences) -> None:
    match result.answer:
        case Refused(verdict=verdict) if verdict.error_class in HOLDS:
            consequences.holds[result.envelope.dispatch_id] = hold_for(verdict)
        case Refused(verdict=verdict) if verdict.error_class == ErrorClass.THROUGHPUT:
            consequences.slow_down = True
        case NotMeta(reason=reason):
            consequences.holds[result.envelope.dispatch_id] = (
                str(ErrorClass.ACCOUNT),
                f"Something other than Meta answered at WHATSAPP_API_URL: {reason}",
            )


_LEARN = """
WITH known AS MATERIALIZED (
  SELECT c.id, new.wa_id FROM contacts_contact c
  JOIN unnest(%s::bigint[], %s::text[]) AS new (id, wa_id) ON new.id = c.id
  WHERE c.wa_id IS DISTINCT FROM new.wa_id ORDER BY c.id FOR NO KEY UPDATE OF c
)
UPDATE contacts_contact c SET wa_id = known.wa_id FROM known WHERE c.id = known.id
"""
