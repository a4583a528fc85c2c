"""Reading and writing ledger rows in sets: locked by id, changed in memory, written back in one statement."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime
from functools import cache
from operator import attrgetter

from django.db import connection, transaction

from kaanha.lib import cursors
from kaanha.messaging import caps, counting, customer_news, policy, quarters, step_news
from kaanha.messaging.fates import Row
from kaanha.messaging.models import RECEIVED, WAITING, Status

_LOADED = [field.name for field in fields(Row)]
# What a change may write; `id` and the rest only identify.
_KNOWN = ("id", "dispatch_id", "contact_id", "category", "kind", "attempt", "replied_at", "organization_id")
_WRITTEN = [name for name in _LOADED if name not in _KNOWN]
_TYPES = {
    "status": "text",
    "skip_reason": "text",
    "error_code": "int",
    "error_text": "text",
    "error_in_callback": "bool",
    "lease_token": "bigint",
    "tries": "smallint",
    "wamid": "text",
    "held_by_meta": "bool",
}


@contextmanager
def changing(ids: Collection[int], *, now: datetime, skip_locked: bool = False) -> Iterator[dict[int, Row]]:
    """The rows with these ids, locked in id order; what the body changes in them is written at its end.

    Caps, what sequences and customers are told, and counters follow from the change by themselves. Must be the last
    thing of its transaction, which it opens; nine statements at the most, whatever the number of rows, and two more
    where a customer listens.
    """
    with transaction.atomic():
        rows, before = _locked(ids, skip_locked=skip_locked)
        yield rows
        changed = [row for key, row in rows.items() if row != before[key]]
        _write(changed, before)
        _follow_with_caps(changed, before, now=now)
        step_news.tell([row.id for row in changed if row.status not in WAITING and row.status != before[row.id].status])
        customer_news.tell(changed, before, now=now)
        difference, by_quarter = counting.Difference(), quarters.Difference()
        for row in changed:
            difference.changed(row.dispatch_id, _weight(before[row.id]), _weight(row))
            by_quarter.changed(_counted(before[row.id]), _counted(row))
        difference.write()
        by_quarter.write()


def _locked(ids: Collection[int], *, skip_locked: bool) -> tuple[dict[int, Row], dict[int, Row]]:
    """The rows twice: to be changed, and to be compared with."""
    with cursors.for_many() as cursor:
        cursor.execute(_SELECT + (" SKIP LOCKED" if skip_locked else ""), [list(ids)])
        found = cursor.fetchall()
    return {values[0]: Row(*values) for values in found}, {values[0]: Row(*values) for values in found}


def _weight(row: Row) -> counting.Vector:
    return counting.weight(row.status, accepted=row.accepted_at is not None)


def _counted(row: Row) -> quarters.Counted:
    return quarters.counted(
        organization_id=row.organization_id,
        kind=row.kind,
        status=row.status,
        error_code=row.error_code,
        accepted_at=row.accepted_at,
        failed_at=row.failed_at,
        replied=row.replied_at is not None,
    )


def _write(rows: list[Row], before: Mapping[int, Row]) -> None:
    """Write the columns in which any of the rows has changed: of eighteen that may, an acceptance changes six."""
    old = [before[row.id] for row in rows]
    columns = {}
    for name in _WRITTEN:
        read = attrgetter(name)
        values = list(map(read, rows))
        if values != list(map(read, old)):
            columns[name] = values
    if columns:
        with connection.cursor() as cursor:
            cursor.execute(_update(tuple(columns)), [[row.id for row in rows], *columns.values()])


def _follow_with_caps(rows: list[Row], old: dict[int, Row], *, now: datetime) -> None:
    """An accepted MARKETING message keeps the cap 24 h from its acceptance; one that ended for good gives it back."""
    accepted: dict[int, tuple[int, datetime]] = {}
    ended: dict[int, int] = {}
    for row in rows:
        if not policy.is_capped(row.category, row.kind) or row.status == old[row.id].status:
            continue
        if row.status in RECEIVED and old[row.id].status not in RECEIVED:
            latest = accepted.get(row.contact_id)
            at = row.accepted_at or now
            if latest is None or at > latest[1]:
                accepted[row.contact_id] = (row.id, at)
        elif row.status in (Status.FAILED, Status.SKIPPED) and row.error_code not in caps.KEPT_CODES:
            ended[row.contact_id] = row.id
    if accepted and ended:
        caps.lock([*accepted, *ended])
    caps.keep(accepted)
    caps.give_back(ended, now=now)


@cache
def _update(columns: tuple[str, ...]) -> str:
    return _UPDATE.format(
        sets=", ".join(f"{name} = new.{name}" for name in columns),
        arrays=", ".join(f"%s::{_TYPES.get(name, 'timestamptz')}[]" for name in columns),
        columns=", ".join(columns),
    )


_SELECT = """
SELECT {columns}, t.category, d.kind {rest} FROM messaging_message m
LEFT JOIN messaging_dispatch d ON d.id = m.dispatch_id
LEFT JOIN templates_app_messagetemplate t ON t.id = m.template_id
WHERE m.id = ANY(%s) ORDER BY m.id FOR UPDATE OF m
""".format(
    columns=", ".join(f"m.{name}" for name in _LOADED[:3]),
    rest="".join(f", m.{name}" for name in _LOADED[5:]),
)
_UPDATE = """
UPDATE messaging_message m SET {sets} FROM unnest(%s::bigint[], {arrays}) AS new (id, {columns}) WHERE m.id = new.id
"""
