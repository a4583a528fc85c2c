"""What an asker may do with its messages before they are sent: put them in, take them out, put them off, redirect them.

Everything here is done to a set, in a fixed number of statements, and only to messages that are still queued: what a
claim has taken is on its way. Locks in the one order: messages by id, counters last. So none of these may be followed,
in the same transaction, by anything that locks messages; the next set waits for the next transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from kaanha.messaging import counting, fates, ledger
from kaanha.messaging.models import PUT_OFF, SkipReason, Status


@dataclass(frozen=True, slots=True)
class Queued:
    """A message to be: a template to a contact, asked for by a dispatch of the same organization."""

    organization_id: int
    dispatch_id: int
    contact_id: int
    template_id: int


def put(rows: Sequence[Queued], *, now: datetime) -> dict[tuple[int, int], int]:
    """Queue these messages, due now; the message of every (dispatch, contact), those that were there before included.

    Doing it twice adds nobody twice: whoever a dispatch has had a message for, in whatever state it is by now, gets no
    other. Three statements, in the caller's transaction; the last of them writes the counters.
    """
    with transaction.atomic():
        new = _insert(rows, now=now)
        # In a statement of its own: only that sees rows for which the insertion waited until another had committed.
        found = new | _find({(row.dispatch_id, row.contact_id) for row in rows} - new.keys())
        difference = counting.Difference()
        for dispatch, _ in new:
            difference.joined(dispatch, 1)
        difference.write()
    return found


def withdraw(messages: Collection[int], *, now: datetime, reason: str = SkipReason.CANCELED) -> int:
    """Skip those of `messages` that are still queued, those put off included; how many.

    One that is on its way goes, and if Meta refuses it for now, it is queued again: whoever wants to be sure withdraws
    it once more then.
    """
    with ledger.changing(messages, now=now) as rows:
        queued = [row for row in rows.values() if row.status == Status.QUEUED]
        for row in queued:
            fates.skip(row, reason, now=now)
    return len(queued)


def put_off(messages: Collection[int], *, until: datetime | None, now: datetime) -> int:
    """Let those of `messages` that are still queued wait until a moment, or with None until further notice; how many.

    With `until=now` those put off until further notice are due again; the others keep the moment of their next try.
    The hour within which a message is retried stands still meanwhile. One that is on its way goes, and if Meta refuses
    it for now, it is queued again with an ordinary moment: whoever wants to be sure puts it off once more then.
    """
    values: dict[str, Any] = {"until": until or PUT_OFF, "now": now, "put_off": PUT_OFF}
    with transaction.atomic(), connection.cursor() as cursor:
        queued = [row.id for row in _lock_queued(messages)]
        cursor.execute(_PUT_OFF, {"ids": queued, **values})
    return len(queued)


def redirect(messages: Collection[int], *, dispatch_id: int, template_id: int) -> list[int]:
    """Let those of `messages` that are still queued belong to this dispatch, with this template; their ids, in order.

    The dispatch may be the one they have: then only the template changes. A message stays as it is where the dispatch
    has another one for its contact; IntegrityError where somebody puts that one in at the same moment. The counters of
    all dispatches follow. Four statements.
    """
    with transaction.atomic():
        queued = _lock_queued(messages)
        moved = _without_second_ones(queued, dispatch_id)
        with connection.cursor() as cursor:
            cursor.execute(_REDIRECT, [dispatch_id, template_id, [row.id for row in moved]])
        difference = counting.Difference()
        for row in moved:
            difference.moved(row.dispatch_id, dispatch_id, counting.weight(Status.QUEUED, accepted=row.accepted))
        difference.write()
    return [row.id for row in moved]


@dataclass(frozen=True, slots=True)
class _Held:
    """A queued message, locked."""

    id: int
    dispatch_id: int
    contact_id: int
    accepted: bool


def _insert(rows: Sequence[Queued], *, now: datetime) -> dict[tuple[int, int], int]:
    columns = (
        [row.organization_id for row in rows],
        [row.dispatch_id for row in rows],
        [row.contact_id for row in rows],
        [row.template_id for row in rows],
    )
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [now, now, *columns])
        return {(dispatch, contact): key for key, dispatch, contact in cursor.fetchall()}


def _find(pairs: Collection[tuple[int, int]]) -> dict[tuple[int, int], int]:
    if not pairs:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_FIND, [[dispatch for dispatch, _ in pairs], [contact for _, contact in pairs]])
        return {(dispatch, contact): key for key, dispatch, contact in cursor.fetchall()}


def _lock_queued(messages: Collection[int]) -> list[_Held]:
    with connection.cursor() as cursor:
        cursor.execute(_LOCK_QUEUED, [list(messages)])
        return [_Held(*values) for values in cursor.fetchall()]


def _without_second_ones(queued: Sequence[_Held], dispatch_id: int) -> list[_Held]:
    """Those of `queued` that are of this dispatch, or may be without giving it a second message for a contact."""
    with connection.cursor() as cursor:
        cursor.execute(_HAS, [dispatch_id, [row.contact_id for row in queued]])
        taken = {contact for (contact,) in cursor.fetchall()}
    fitting = []
    for row in queued:
        if row.dispatch_id == dispatch_id or row.contact_id not in taken:
            taken.add(row.contact_id)
            fitting.append(row)
    return fitting


# In the order of what is unique, so that two who put the same people in wait in one direction only.
_INSERT = """
INSERT INTO messaging_message (created_at, due_at, organization_id, dispatch_id, contact_id, template_id,
  status, skip_reason, error_text, error_in_callback, attempt, tries, held_by_meta)
SELECT %s, %s, organization, dispatch, contact, template, 'queued', '', '', false, 0, 0, false
FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]) AS new (organization, dispatch, contact, template)
ORDER BY dispatch, contact
ON CONFLICT (dispatch_id, contact_id) DO NOTHING RETURNING id, dispatch_id, contact_id
"""
_FIND = """
SELECT m.id, m.dispatch_id, m.contact_id FROM messaging_message m
JOIN unnest(%s::bigint[], %s::bigint[]) AS asked (dispatch, contact)
  ON m.dispatch_id = asked.dispatch AND m.contact_id = asked.contact
"""
_PUT_OFF = """
UPDATE messaging_message
SET due_at = CASE due_at WHEN %(put_off)s THEN %(until)s ELSE greatest(due_at, %(until)s) END,
  first_tried_at = first_tried_at + (%(until)s - CASE due_at WHEN %(put_off)s THEN %(put_off)s ELSE %(now)s END)
WHERE id = ANY(%(ids)s::bigint[])
"""
_LOCK_QUEUED = """
SELECT id, dispatch_id, contact_id, accepted_at IS NOT NULL FROM messaging_message
WHERE id = ANY(%s::bigint[]) AND status = 'queued' ORDER BY id FOR UPDATE
"""
_HAS = "SELECT contact_id FROM messaging_message WHERE dispatch_id = %s AND contact_id = ANY(%s::bigint[])"
_REDIRECT = "UPDATE messaging_message SET dispatch_id = %s, template_id = %s WHERE id = ANY(%s::bigint[])"
