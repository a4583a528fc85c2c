"""Messages in the API: what each of them is, and one template to one contact.

What asked for a message may be known to the apps above only: the shell says it (kaanha/message_api.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import transaction
from rest_framework import serializers

from contacts import finding
from contacts.api import Phone
from contacts.models import Contact
from kaanha.lib import local_time, pagination
from kaanha.lib.api_json import Body, Text, YesNo
from kaanha.lib.pagination import NO_CURSOR, CursorQuery, Key
from kaanha.messaging import single
from kaanha.messaging.models import PUT_OFF, Dispatch, Message, MessageQuerySet, Status
from kaanha.organizations import audit
from kaanha.organizations.access import Area
from kaanha.organizations.api import OwnedAPI
from kaanha.organizations.models import Organization
from templates_app.api import Choice, TemplateName, Variables
from templates_app.choosing import chosen
from templates_app.models import MessageTemplate

ID = 64  # letters of an id, at most
# How many messages an answer looks at for those of a status or template: it costs the same however rare they are.
LOOKED_AT = 10_000
API = Dispatch.Kind.API
ORIGINS = {Dispatch.Kind.BROADCAST: "broadcast", Dispatch.Kind.STEP: "sequence", API: "api", Dispatch.Kind.TEST: "test"}

# --- what is taken -----------------------------------------------------------------------------------------------


def exactly_one(attrs: dict[str, Any], *ways: str, sentence: str) -> None:
    """ValidationError unless exactly one of these members was sent."""
    if sum(attrs.get(way) is not None for way in ways) != 1:
        raise serializers.ValidationError(sentence)


class OneContact(Body):
    """A contact, by id or by phone."""

    contact_id = Text(required=False, max_length=ID)
    phone = Phone(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        exactly_one(attrs, "contact_id", "phone", sentence="Send exactly one of contactId and phone.")
        return attrs


class NewMessage(OneContact):
    template_id = Text(required=False, max_length=ID)
    template = TemplateName(required=False)
    phone_number_id = Text(required=False, max_length=ID)
    variables = Variables(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        exactly_one(attrs, "template_id", "template", sentence="Send exactly one of templateId and template.")
        return super().validate(attrs)


class MessagesQuery(CursorQuery):
    contact = Text(required=False, max_length=ID)
    status = Choice(Status.values, required=False)
    template = Text(required=False, max_length=ID)
    since = Text(required=False, max_length=ID)


# --- what is given -----------------------------------------------------------------------------------------------


class ContactNamed(Body):
    id = Text()
    phone = Text(allow_null=True)
    name = Text(allow_blank=True)


class TemplateNamed(Body):
    id = Text()
    name = Text()
    language = Text()
    category = Text()
    status = Text()


class NumberNamed(Body):
    id = Text()
    number = Text()


class ErrorNamed(Body):
    code = serializers.IntegerField(allow_null=True, help_text="Meta's, where it gave one.")
    text = Text(allow_blank=True)


class OriginShown(Body):
    type = Text(help_text="broadcast, sequence, api or test.")
    broadcast_id = Text(allow_null=True)
    sequence_id = Text(allow_null=True)
    name = Text(allow_null=True, help_text="What the broadcast or sequence is called.")


class FateShown(Body):
    """What became of a message."""

    status = Text(help_text=f"{', '.join(Status.values[:-1])} or {Status.values[-1]}.")
    skip_reason = Text(allow_null=True)
    error = ErrorNamed(allow_null=True)
    attempts = serializers.IntegerField(help_text="Requests made to Meta.")
    held_by_meta = YesNo(help_text="Accepted, and held for an assessment of its quality.")
    wamid = Text(allow_null=True, help_text="Meta's id.")
    due_at = serializers.DateTimeField(allow_null=True, help_text="When it is tried next.")
    created_at = serializers.DateTimeField()
    accepted_at = serializers.DateTimeField(allow_null=True)
    sent_at = serializers.DateTimeField(allow_null=True)
    delivered_at = serializers.DateTimeField(allow_null=True)
    read_at = serializers.DateTimeField(allow_null=True)
    failed_at = serializers.DateTimeField(allow_null=True)
    closed_at = serializers.DateTimeField(allow_null=True, help_text="When it was skipped or became unconfirmed.")
    replied_at = serializers.DateTimeField(allow_null=True)


class MessageShown(FateShown):
    id = Text()
    contact = ContactNamed()
    template = TemplateNamed()
    phone_number = NumberNamed()
    origin = OriginShown()


def message_shown(message: Message, origin: dict[str, Any]) -> dict[str, Any]:
    """A message with its contact, template and number, which are read already."""
    number = message.dispatch.phone_number
    return {
        "id": message.public_id,
        "contact": contact_named(message.contact),
        "template": template_named(message.template),
        "phoneNumber": {"id": number.public_id, "number": str(number)},
        "origin": origin,
        **fate_shown(message),
    }


def fate_shown(message: Message) -> dict[str, Any]:
    told = message.error_code is not None or message.error_text
    return {
        "status": message.status,
        "skipReason": message.skip_reason or None,
        "error": {"code": message.error_code, "text": message.error_text} if told else None,
        "attempts": message.attempt,
        "heldByMeta": message.held_by_meta,
        "wamid": message.wamid,
        "dueAt": None if message.due_at == PUT_OFF else message.due_at,
        "createdAt": message.created_at,
        "acceptedAt": message.accepted_at,
        "sentAt": message.sent_at,
        "deliveredAt": message.delivered_at,
        "readAt": message.read_at,
        "failedAt": message.failed_at,
        "closedAt": message.closed_at,
        "repliedAt": message.replied_at,
    }


def contact_named(contact: Contact) -> dict[str, Any]:
    return {"id": contact.public_id, "phone": contact.phone, "name": contact.name}


def template_named(template: MessageTemplate) -> dict[str, Any]:
    return {
        "id": template.public_id,
        "name": template.name,
        "language": template.language,
        "category": template.category,
        "status": template.status,
    }


def origin_shown(kind: str, *, broadcast: Any = None, sequence: Any = None) -> dict[str, Any]:
    """What asked for a message; the broadcast or the sequence as far as there is one."""
    source = broadcast or sequence
    return {
        "type": ORIGINS[Dispatch.Kind(kind)],
        "broadcastId": broadcast and broadcast.public_id,
        "sequenceId": sequence and sequence.public_id,
        "name": source and source.name,
    }


# --- reading and sending -----------------------------------------------------------------------------------------


def complete(rows: MessageQuerySet) -> MessageQuerySet:
    """The messages with everything that `message_shown` tells."""
    return rows.select_related("contact", "template", "dispatch__phone_number").defer(
        "parameters", "template__components", "contact__attributes"
    )


class MessageAreaAPI(OwnedAPI):
    area = Area.CAMPAIGNS

    def put_in(self, said: dict[str, Any]) -> Message:
        """The message that a request asks for, queued. Refusal where it couldn't go even now."""
        template, number = chosen(self.organization, said)
        contact = finding.contact(self.organization, public_id=said.get("contact_id"), phone=said.get("phone"))
        variables = said.get("variables", {})
        with transaction.atomic():
            asked: dict[str, Any] = {"template": template, "number": number, "variables": variables}
            message = single.send(contact, kind=API, now=self.now, **asked)
            audit.record("message.sent", message, contact=contact.public_id, template=template.public_id)
        return message

    def listed(self, asked: dict[str, Any]) -> tuple[list[Message], str | None]:
        """The page that is asked for, and the cursor behind it."""
        rows = self._rows(asked)
        rare: dict[str, Any] = {name: asked[name] for name in ("status", "template") if name in asked}
        if "template" in rare:
            rare["template"] = self.found(MessageTemplate, rare["template"])
        bounded = bool(rare) and "contact" not in asked
        return _page(rows, rare, limit=asked["limit"], after=_place(asked.get("cursor")), bounded=bounded)

    def _rows(self, asked: dict[str, Any]) -> MessageQuerySet:
        rows: MessageQuerySet = Message.objects.of(self.organization)
        if "since" in asked:
            rows = rows.since(self.organization, _moment(asked["since"], self.organization))
        if "contact" in asked:
            rows = rows.filter(contact=self.found(Contact, asked["contact"]))
        return rows


def _moment(text: str, organization: Organization) -> datetime:
    return local_time.parse(text, organization.zone)


def _place(cursor: Key | None) -> int | None:
    match cursor:
        case None:
            return None
        case (int(key),):
            return key
    raise serializers.ValidationError({"cursor": [NO_CURSOR]})


def _page(
    rows: MessageQuerySet, rare: dict[str, Any], *, limit: int, after: int | None, bounded: bool
) -> tuple[list[Message], str | None]:
    """The newest of `rows` that are as `rare` says, after that place, and the cursor of those that come next.

    When `bounded`, only so many of `rows` are looked at: fewer may be found, and the cursor is behind the last of them.
    One query, or two.
    """
    rows = rows.order_by("-pk") if after is None else rows.order_by("-pk").filter(pk__lt=after)
    last = list(rows.values_list("pk", flat=True)[LOOKED_AT - 1 : LOOKED_AT]) if bounded else []
    within = rows.filter(pk__gte=last[0]) if last else rows
    found: list[Any] = list(complete(within.filter(**rare))[: limit + 1])
    beyond = [found[limit - 1].pk] if len(found) > limit else last
    return found[:limit], pagination.sealed((beyond[0],)) if beyond else None


def origins_known(messages: Iterable[Message]) -> dict[int, dict[str, Any]]:
    """The origin of each dispatch, as far as it is known on this floor."""
    return {one.dispatch_id: origin_shown(one.dispatch.kind) for one in messages}
