"""What the entries of a contact's timeline look like in the API, for its document."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema_field
from rest_framework.serializers import ChoiceField, DateTimeField, IntegerField, ListField

from kaanha.lib.api_json import Body, Text, YesNo
from kaanha.messaging.models import Dispatch


def moment() -> DateTimeField:
    return DateTimeField(allow_null=True)


def maybe(**options: Any) -> Text:
    return Text(allow_null=True, allow_blank=True, **options)


class EntryShown(Body):
    """What every entry has; `type` is narrowed by each."""

    at = DateTimeField()


class MessageErrorShown(Body):
    code = IntegerField(allow_null=True)
    text = Text(allow_blank=True)


class MessageEntryShown(EntryShown):
    type = ChoiceField(choices=["message"])
    message_id = Text()
    source_ = ChoiceField(choices=Dispatch.Kind.values)
    template = Text()
    language = Text()
    status = Text()
    skip_reason = maybe()
    error = MessageErrorShown(allow_null=True)
    accepted_at = moment()
    sent_at = moment()
    delivered_at = moment()
    read_at = moment()
    failed_at = moment()
    replied_at = moment()


class InboundEntryShown(EntryShown):
    type = ChoiceField(choices=["inbound"])
    inbound_id = Text()
    kind = Text()
    text = maybe()
    reply_to = maybe()


class ConsentEntryShown(EntryShown):
    type = ChoiceField(choices=["consent"])
    opted_in = YesNo()
    source_ = Text(allow_blank=True)
    proof = maybe()


class ContactEntryShown(EntryShown):
    type = ChoiceField(choices=["contact"])
    event = Text()
    tag = maybe()
    source_ = Text(allow_blank=True)


class SequenceEntryShown(EntryShown):
    sequence_id = Text()
    sequence = Text()


class EnrolledEntryShown(SequenceEntryShown):
    type = ChoiceField(choices=["enrolled"])
    enrollment_id = Text()
    source_ = Text()


class SequenceEndedEntryShown(SequenceEntryShown):
    type = ChoiceField(choices=["sequence_ended"])
    enrollment_id = Text()
    status = Text()
    reason = maybe()


class StepEntryShown(SequenceEntryShown):
    type = ChoiceField(choices=["step"])
    enrollment_id = Text()
    step = Text()
    place = Text()
    kind = Text()
    outcome = Text()
    reason = maybe()
    ended_at = moment()
    message_id = maybe()


class NotEnrolledEntryShown(SequenceEntryShown):
    type = ChoiceField(choices=["not_enrolled"])
    code = Text()
    source_ = Text()


SHAPES: dict[str, type[Body]] = {
    "message": MessageEntryShown,
    "inbound": InboundEntryShown,
    "consent": ConsentEntryShown,
    "contact": ContactEntryShown,
    "enrolled": EnrolledEntryShown,
    "sequence_ended": SequenceEndedEntryShown,
    "step": StepEntryShown,
    "not_enrolled": NotEnrolledEntryShown,
}


@extend_schema_field(
    PolymorphicProxySerializer("TimelineEntry", SHAPES, resource_type_field_name="type", many=True)  # type: ignore[arg-type]
)
class Entries(ListField):
    pass


class TimelinePage(Body):
    data_ = Entries()
    limit = IntegerField()
    next_cursor = Text(allow_null=True)
