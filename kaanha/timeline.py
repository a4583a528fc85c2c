"""Everything that happened to a contact, in one order of time: the latest first.

Each kind of entry is read from its own table, no more of each than a page holds, and merged. The order is time, kind,
key: it is stable, so that a cursor keeps its place while things go on happening.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from django.db.models import Q, QuerySet
from rest_framework.serializers import ValidationError

from contacts.models import ConsentChange, Contact, ContactEvent
from kaanha.lib import pagination, public_ids
from kaanha.lib.pagination import NO_CURSOR, Key
from kaanha.messaging.models import InboundMessage, Message
from sequences.models import Enrollment, EnrollmentRefusal, StepRun


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of entry: its rows, the column of its time, and how a row is told."""

    name: str
    column: str
    rows: Callable[[Contact], QuerySet[Any]]
    told: Callable[[Any], dict[str, Any]]

    def entries(self, contact: Contact, *, limit: int, after: Key | None) -> Iterator[tuple[Key, dict[str, Any]]]:
        """The latest entries after that place, each with its own. One query."""
        rows = self.rows(contact).exclude(**{self.column: None})
        if after is not None:
            rows = rows.filter(self._beyond(*after))
        for row in rows.order_by(f"-{self.column}", "-pk")[:limit]:
            at = getattr(row, self.column)
            yield (at, self.name, row.pk), {"type": self.name, "at": at, **self.told(row)}

    def _beyond(self, at: datetime, name: str, key: int) -> Q:
        """In falling order: earlier, or at the same time and of a name that comes later in the order."""
        earlier = Q(**{f"{self.column}__lt": at})
        if self.name > name:
            return earlier
        same = Q(**{self.column: at})
        return earlier | (same if self.name < name else same & Q(pk__lt=key))


def page(contact: Contact, *, limit: int, after: Key | None) -> dict[str, Any]:
    """The page after that place, as it is answered. One query for each kind of entry.

    ValidationError for a place in another list.
    """
    place = None if after is None else _place(after)
    each = [kind.entries(contact, limit=limit + 1, after=place) for kind in KINDS]
    merged = heapq.merge(*each, key=lambda entry: entry[0], reverse=True)
    found = list(islice(merged, limit + 1))
    beyond = pagination.sealed(found[limit - 1][0]) if len(found) > limit else None
    return {"data": [told for _, told in found[:limit]], "limit": limit, "nextCursor": beyond}


def _place(key: Key) -> Key:
    try:
        at, name, row = key
        return datetime.fromisoformat(at), str(name), int(row)
    except (TypeError, ValueError):
        raise ValidationError({"cursor": [NO_CURSOR]}) from None


# --- kinds -------------------------------------------------------------------------------------------------------


def _message(message: Message) -> dict[str, Any]:
    failed = message.error_code is not None or message.error_text
    return {
        "messageId": message.public_id,
        "source": message.dispatch.kind,
        "template": message.template.name,
        "language": message.template.language,
        "status": message.status,
        "skipReason": message.skip_reason or None,
        "error": {"code": message.error_code, "text": message.error_text} if failed else None,
        "acceptedAt": message.accepted_at,
        "sentAt": message.sent_at,
        "deliveredAt": message.delivered_at,
        "readAt": message.read_at,
        "failedAt": message.failed_at,
        "repliedAt": message.replied_at,
    }


def _inbound(inbound: InboundMessage) -> dict[str, Any]:
    reply_to = inbound.reply_to_id
    return {
        "inboundId": inbound.public_id,
        "kind": inbound.kind,
        "text": inbound.text,
        "replyTo": None if reply_to is None else public_ids.encode(Message.PUBLIC_KIND, reply_to),
    }


def _consent(change: ConsentChange) -> dict[str, Any]:
    return {"optedIn": change.opted_in, "source": change.source, "proof": change.proof or None}


def _event(event: ContactEvent) -> dict[str, Any]:
    return {"event": event.kind, "tag": event.tag and event.tag.name, "source": event.source}


def _enrollment(enrollment: Enrollment) -> dict[str, Any]:
    return {
        "enrollmentId": enrollment.public_id,
        "sequenceId": enrollment.sequence.public_id,
        "sequence": enrollment.sequence.name,
    }


def _enrolled(enrollment: Enrollment) -> dict[str, Any]:
    return {**_enrollment(enrollment), "source": enrollment.source}


def _ended(enrollment: Enrollment) -> dict[str, Any]:
    return {**_enrollment(enrollment), "status": enrollment.status, "reason": enrollment.exit_reason or None}


def _step(run: StepRun) -> dict[str, Any]:
    return {
        **_enrollment(run.enrollment),
        "step": run.key,
        "place": run.step.place,
        "kind": run.step.kind,
        "outcome": run.outcome or "waiting",
        "reason": run.reason or None,
        "endedAt": run.ended_at,
        "messageId": None if run.message is None else public_ids.encode(Message.PUBLIC_KIND, run.message),
    }


def _refusal(refusal: EnrollmentRefusal) -> dict[str, Any]:
    return {
        "sequenceId": refusal.sequence.public_id,
        "sequence": refusal.sequence.name,
        "code": refusal.code,
        "source": refusal.source,
    }


def _messages_of(contact: Contact) -> QuerySet[Message]:
    return Message.objects.filter(contact=contact).select_related("template", "dispatch")


def _inbound_of(contact: Contact) -> QuerySet[InboundMessage]:
    return InboundMessage.objects.filter(contact=contact).defer("payload")


def _consent_of(contact: Contact) -> QuerySet[ConsentChange]:
    return ConsentChange.objects.filter(contact=contact)


def _events_of(contact: Contact) -> QuerySet[ContactEvent]:
    # Opting out stands among the changes of consent.
    events = ContactEvent.objects.filter(contact=contact).exclude(kind=ContactEvent.Kind.OPTED_OUT)
    return events.select_related("tag")


def _enrollments_of(contact: Contact) -> QuerySet[Enrollment]:
    return Enrollment.objects.filter(contact=contact).select_related("sequence")


def _steps_of(contact: Contact) -> QuerySet[StepRun]:
    return StepRun.objects.filter(enrollment__contact=contact).select_related("enrollment__sequence", "step")


def _refusals_of(contact: Contact) -> QuerySet[EnrollmentRefusal]:
    return EnrollmentRefusal.objects.filter(contact=contact).select_related("sequence")


KINDS = (
    Kind("message", "created_at", _messages_of, _message),
    Kind("inbound", "written_at", _inbound_of, _inbound),
    Kind("consent", "at", _consent_of, _consent),
    Kind("contact", "at", _events_of, _event),
    Kind("enrolled", "enrolled_at", _enrollments_of, _enrolled),
    Kind("sequence_ended", "ended_at", _enrollments_of, _ended),
    Kind("step", "at", _steps_of, _step),
    Kind("not_enrolled", "at", _refusals_of, _refusal),
)
