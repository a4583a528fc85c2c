"""What customers' webhooks are told of messages: each stage once, as it is reached, and what people write.

Written in the transaction of the change, before its counters. Where nobody listens it costs one statement a batch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from operator import attrgetter
from typing import Any

from django.db import connection

from contacts.models import Contact
from kaanha.lib import public_ids
from kaanha.messaging.fates import Row
from kaanha.messaging.models import InboundMessage, Message, Status
from kaanha.webhooks.models import Event, Kind
from templates_app.models import MessageTemplate

STAGES = {
    Kind.MESSAGE_SENT: Status.SENT,
    Kind.MESSAGE_DELIVERED: Status.DELIVERED,
    Kind.MESSAGE_READ: Status.READ,
    Kind.MESSAGE_FAILED: Status.FAILED,
}
_moments = attrgetter("accepted_at", "sent_at", "delivered_at", "read_at", "failed_at")


def tell(rows: Collection[Row], before: Mapping[int, Row], *, now: datetime) -> None:
    """Note the stages that these rows have newly reached. One statement, three where somebody listens."""
    moved = [row for row in rows if _moments(row) != _moments(before[row.id])]
    heard = Event.heard(*STAGES) if moved else set()
    if not heard:
        return
    wanted = {kind for _, kind in heard}
    reached = [(kind, row) for row in moved for kind in _reached(before[row.id], row) if kind in wanted]
    described = _described([row.id for _, row in reached]) if reached else {}
    Event.record_many(
        [
            (owner, str(kind), told | _stage(kind, row))
            for kind, row in reached
            if row.id in described
            for owner, told in [described[row.id]]
            if (owner, kind) in heard
        ],
        at=now,
    )


def tell_received(organization: int, wamids: Collection[str], *, now: datetime) -> None:
    """Note what people wrote, by wamid. One statement, three where somebody listens."""
    if not wamids or (organization, Kind.MESSAGE_RECEIVED) not in Event.heard(Kind.MESSAGE_RECEIVED):
        return
    written = InboundMessage.objects.of(organization).filter(wamid__in=list(wamids)).order_by("pk")
    Event.record_many(
        [
            (organization, str(Kind.MESSAGE_RECEIVED), _received(message))
            for message in written.select_related("contact", "phone_number")
        ],
        at=now,
    )


def _reached(old: Row, new: Row) -> Iterator[Kind]:
    """The stages that the row has come to between its old and its new state, in their order."""
    return (kind for kind, stage in STAGES.items() if _moment(old, stage) is None and _moment(new, stage) is not None)


def _moment(row: Row, stage: Status) -> datetime | None:
    """When the row reached the stage; None as long as it hasn't. What Meta has accepted is sent."""
    at: datetime | None = getattr(row, f"{stage}_at")
    return at or row.accepted_at if stage == Status.SENT else at


def _described(ids: list[int]) -> dict[int, tuple[int, dict[str, Any]]]:
    """The organization of each message, and what is said of it whatever its stage."""
    with connection.cursor() as cursor:
        cursor.execute(_DESCRIBE, [ids])
        rows = cursor.fetchall()
    return {
        key: (
            owner,
            {
                "messageId": public_ids.encode(Message.PUBLIC_KIND, key),
                "contactId": public_ids.encode(Contact.PUBLIC_KIND, contact),
                "phone": phone,
                "templateId": template and public_ids.encode(MessageTemplate.PUBLIC_KIND, template),
                "template": name,
                "source": kind,
            },
        )
        for key, owner, contact, phone, template, name, kind in rows
    }


def _stage(kind: Kind, row: Row) -> dict[str, Any]:
    told = {"wamid": row.wamid, "at": _moment(row, STAGES[kind])}
    return told | {"errorCode": row.error_code, "errorText": row.error_text} if kind == Kind.MESSAGE_FAILED else told


def _received(message: InboundMessage) -> dict[str, Any]:
    return {
        "messageId": message.public_id,
        "contactId": message.contact.public_id,
        "phone": message.contact.phone,
        "phoneNumber": message.phone_number.display_number,
        "type": message.kind,
        "text": message.text,
        "wamid": message.wamid,
        "at": message.written_at,
        "message": message.payload,
    }


_DESCRIBE = """
SELECT m.id, m.organization_id, m.contact_id, c.phone, m.template_id, t.name, d.kind FROM messaging_message m
JOIN messaging_dispatch d ON d.id = m.dispatch_id
LEFT JOIN contacts_contact c ON c.id = m.contact_id LEFT JOIN templates_app_messagetemplate t ON t.id = m.template_id
WHERE m.id = ANY(%s::bigint[])
"""
