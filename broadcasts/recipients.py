"""The people of a broadcast and what became of each: in pages, and as one long table.

In the order of contacts, which follows the index that keeps anybody from getting a broadcast twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db import connection
from django.db.models import Func, Prefetch, TextField

from broadcasts.models import Broadcast
from contacts.models import Contact
from kaanha.lib.public_ids import encode
from kaanha.messaging import counting
from kaanha.messaging.models import Message, MessageQuerySet

AT_ONCE = 2_000  # rows in memory while a table is written
COLUMNS = (
    "contactId", "phone", "name", "status", "skipReason", "errorCode", "errorText", "attempts", "messageId", "wamid",
    "createdAt", "acceptedAt", "sentAt", "deliveredAt", "readAt", "failedAt", "closedAt", "repliedAt",
)  # fmt: skip
OF_MESSAGE = ("status", "skip_reason", "error_code", "error_text", "attempt", "wamid")
TIMES = (
    "created_at", "accepted_at", "sent_at", "delivered_at", "read_at", "failed_at", "closed_at", "replied_at",
)  # fmt: skip


def of(broadcast: Broadcast, *, status: str | None = None, reason: str | None = None) -> MessageQuerySet:
    """The broadcast's messages of a status, or `waiting`, and skipped for a reason. Nobody before it has begun."""
    if broadcast.dispatch_id is None:
        return Message.objects.none()
    rows: MessageQuerySet = Message.objects.filter(dispatch=broadcast.dispatch_id)
    if status is not None:
        rows = rows.standing(status)
    if reason is not None:
        rows = rows.skipped().filter(skip_reason=reason)
    # The contacts in a query of their own: joined, those of all the rows before a page would be read, too.
    return rows.defer("parameters").prefetch_related(Prefetch("contact", Contact.objects.defer("attributes")))


def known_total(broadcast: Broadcast, *, status: str | None = None, reason: str | None = None) -> int | None:
    """How many they are, where the counters know it; None where they have to be counted. One query."""
    one = counting.funnel(broadcast.dispatch_id)
    if reason is not None:
        return None
    return one.total if status is None else one.by_standing.get(status)


def table(rows: MessageQuerySet) -> Iterator[list[object]]:
    """The rows as COLUMNS names them: two queries for every 2,000, none of them open between two.

    As plain values, with the times written by PostgreSQL: a model instance of each row took most of the time.
    """
    told = rows.prefetch_related(None).order_by("contact")
    values = told.values_list("contact_id", "pk", *OF_MESSAGE, *(_Written(time) for time in TIMES))
    after = 0
    while chunk := list(values.filter(contact__gt=after)[:AT_ONCE]):
        yield from _cells(chunk)
        after = chunk[-1][0]


def _cells(chunk: list[tuple[Any, ...]]) -> Iterator[list[object]]:
    with connection.cursor() as cursor:
        cursor.execute(_PEOPLE, [[contact for contact, *_ in chunk]])
        found = {contact: (phone, name) for contact, phone, name in cursor.fetchall()}
    for contact, key, status, reason, code, text, attempt, wamid, *times in chunk:
        phone, name = found[contact]
        cells = [
            encode(Contact.PUBLIC_KIND, contact), phone, name, status, reason, code, text, attempt,
            encode(Message.PUBLIC_KIND, key), wamid, *times,
        ]  # fmt: skip
        yield ["" if cell is None else cell for cell in cells]


class _Written(Func):
    """A time as the table has it: in UTC, to the microsecond."""

    template = """to_char(%(expressions)s AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
    output_field = TextField()


# One array rather than 2,000 parameters, which take a quarter of the time.
_PEOPLE = "SELECT id, phone, name FROM contacts_contact WHERE id = ANY(%s)"
