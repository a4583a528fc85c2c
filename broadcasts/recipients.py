"""The people of a broadcast and what became of each: in pages, and as one long table.

In the order of contacts, which follows the index that keeps anybody from getting a broadcast twice.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Prefetch

from broadcasts.models import Broadcast
from contacts.models import Contact
from kaanha.messaging import counting
from kaanha.messaging.models import OPEN, Message, MessageQuerySet, Status

AT_ONCE = 2_000  # rows in memory while a table is written
COLUMNS = (
    "contactId", "phone", "name", "status", "skipReason", "errorCode", "errorText", "attempts", "messageId", "wamid",
    "createdAt", "acceptedAt", "sentAt", "deliveredAt", "readAt", "failedAt", "closedAt", "repliedAt",
)  # fmt: skip


def of(broadcast: Broadcast, *, status: str | None = None, reason: str | None = None) -> MessageQuerySet:
    """The broadcast's messages of a status, or `waiting`, and skipped for a reason. Nobody before it has begun."""
    if broadcast.dispatch_id is None:
        return Message.objects.none()
    rows: MessageQuerySet = Message.objects.filter(dispatch=broadcast.dispatch_id)
    if status is not None:
        rows = rows.standing(status)
    if reason is not None:
        rows = rows.standing(Status.SKIPPED).filter(skip_reason=reason)
    # The contacts in a query of their own: joined, those of all the rows before a page would be read, too.
    return rows.defer("parameters").prefetch_related(Prefetch("contact", Contact.objects.defer("attributes")))


def known_total(broadcast: Broadcast, *, status: str | None = None, reason: str | None = None) -> int | None:
    """How many they are, where the counters know it; None where they have to be counted. One query."""
    one = counting.funnel(broadcast.dispatch_id)
    if reason is not None:
        return None
    known = {
        None: one.total,
        OPEN: one.waiting,
        Status.SENT: one.sent - one.delivered,
        Status.DELIVERED: one.delivered - one.read,
        Status.READ: one.read,
        Status.FAILED: one.failed,
        Status.SKIPPED: one.skipped,
        Status.UNCONFIRMED: one.unconfirmed,
    }
    return known.get(status)


def table(rows: MessageQuerySet) -> Iterator[list[object]]:
    """The rows as COLUMNS names them: two queries for every 2,000, none of them open between two."""
    after = 0
    while chunk := list(rows.filter(contact__gt=after).order_by("contact")[:AT_ONCE]):
        for message in chunk:
            yield ["" if cell is None else cell for cell in _cells(message)]
        after = chunk[-1].contact_id


def _cells(message: Message) -> list[object]:
    contact = message.contact
    times = (
        message.created_at, message.accepted_at, message.sent_at, message.delivered_at,
        message.read_at, message.failed_at, message.closed_at, message.replied_at,
    )  # fmt: skip
    return [
        contact.public_id,
        contact.phone,
        contact.name,
        message.status,
        message.skip_reason,
        message.error_code,
        message.error_text,
        message.attempt,
        message.public_id,
        message.wamid,
        *(None if at is None else f"{at:%Y-%m-%dT%H:%M:%S.%fZ}" for at in times),
    ]
