"""Broadcasts in the API: a draft is written, looked at, tested and sent, and then watched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from django.db import transaction
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from broadcasts import audience, drafting, duration, launch, preflight, recipients, report, trials
from broadcasts.models import Broadcast, PauseReason, Status
from contacts import finding
from contacts.api import Tags
from kaanha.lib import local_time, pagination, spreadsheets
from kaanha.lib.api_json import Body, Nothing, Text, YesNo, camel
from kaanha.lib.errors import Refusal
from kaanha.lib.openapi import described, page_of
from kaanha.lib.pagination import PageQuery
from kaanha.messaging import counting
from kaanha.messaging.api import (
    ID,
    ContactNamed,
    FateShown,
    MessageShown,
    NumberNamed,
    OneContact,
    TemplateNamed,
    contact_named,
    exactly_one,
    fate_shown,
    message_shown,
    origin_shown,
    template_named,
)
from kaanha.messaging.counting import Funnel
from kaanha.messaging.models import OPEN, Dispatch, Message, SkipReason
from kaanha.messaging.models import Status as MessageStatus
from kaanha.organizations import audit
from kaanha.organizations.access import Area
from kaanha.organizations.api import OwnedAPI, missing
from templates_app.api import Choice, TemplateName, Variables

CSV = "text/csv"
SETTLED = ("dispatched", "sent", "delivered", "read", "failed", "skipped", "unconfirmed")

# --- what is taken -----------------------------------------------------------------------------------------------


class BroadcastName(Text):
    """A name, on one line."""

    default_error_messages = {"lines": "Write the name on one line."}

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=drafting.NAME, **options)

    def to_internal_value(self, data: Any) -> str:
        name = super().to_internal_value(data)
        if not name.isprintable():
            self.fail("lines")
        return name


class DraftChange(Body):
    """What PATCH takes: what isn't sent stays as it is."""

    name = BroadcastName(required=False)
    template_id = Text(required=False, max_length=ID)
    template = TemplateName(required=False)
    phone_number_id = Text(required=False, max_length=ID)
    tags = Tags(required=False)
    excluded_tags = Tags(required=False)
    variables = Variables(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if {"template_id", "template"} <= attrs.keys():
            raise serializers.ValidationError("Send either templateId or template.")
        return attrs


class NewBroadcast(DraftChange):
    name = BroadcastName()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        exactly_one(attrs, "template_id", "template", sentence="Send exactly one of templateId and template.")
        return attrs


class CopyNamed(Body):
    name = BroadcastName(required=False, help_text="Left out, the old name and (copy).")


class ScheduledFor(Body):
    at = Text(max_length=ID)


class ResumedSo(Body):
    at_once = YesNo(default=False, help_text="True sends one that was paused before its time now, not at that time.")


class BroadcastsQuery(PageQuery):
    status = Choice(Status.values, required=False)
    search = Text(required=False, allow_blank=True, max_length=drafting.NAME)


class RecipientsFilter(Body):
    status = Choice([OPEN, *MessageStatus.values], required=False)
    reason = Choice(SkipReason.values, required=False)


class RecipientsQuery(PageQuery, RecipientsFilter):
    pass


# --- what is given -----------------------------------------------------------------------------------------------


class TagNamed(Body):
    id = Text()
    name = Text()


class FunnelShown(Body):
    """total = waiting + sent + failed + skipped + unconfirmed; delivered and read are among those sent."""

    total = serializers.IntegerField()
    waiting = serializers.IntegerField()
    dispatched = serializers.IntegerField(help_text="All that Meta ever accepted, what failed later included.")
    sent = serializers.IntegerField()
    delivered = serializers.IntegerField()
    read = serializers.IntegerField()
    failed = serializers.IntegerField()
    skipped = serializers.IntegerField()
    unconfirmed = serializers.IntegerField()


class StandingShown(Body):
    """Where a broadcast stands."""

    id = Text()
    name = Text()
    status = Text(help_text=f"{', '.join(Status.values[:-1])} or {Status.values[-1]}.")
    status_detail = Text(allow_null=True, help_text="What happened and what to do, in words.")
    pause_reason = Text(allow_null=True, help_text=f"{', '.join(PauseReason.values[:-1])} or {PauseReason.values[-1]}.")
    scheduled_at = serializers.DateTimeField(allow_null=True)
    queued_at = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    paused_at = serializers.DateTimeField(allow_null=True)
    resume_at = serializers.DateTimeField(allow_null=True, help_text="When it goes on by itself.")
    completed_at = serializers.DateTimeField(allow_null=True, help_text="When it ended, in whichever way.")
    funnel = FunnelShown()


class BroadcastShown(StandingShown):
    template = TemplateNamed()
    phone_number = NumberNamed()
    tags = TagNamed(many=True)
    excluded_tags = TagNamed(many=True)
    variables = serializers.DictField(child=serializers.DictField(child=Text(allow_blank=True)))
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class WaitsForShown(Body):
    id = Text()
    name = Text()


class RatesShown(Body):
    delivered = serializers.FloatField(allow_null=True, help_text="delivered ÷ dispatched.")
    read = serializers.FloatField(allow_null=True, help_text="read ÷ delivered.")
    failed = serializers.FloatField(allow_null=True, help_text="failed ÷ total.")


class SkipsShown(Body):
    reason = Text()
    count = serializers.IntegerField()


class FailuresShown(Body):
    code = serializers.IntegerField(allow_null=True, help_text="Meta's, where it gave one.")
    text = Text(allow_blank=True)
    count = serializers.IntegerField()


class StatsShown(StandingShown):
    waits_for = WaitsForShown(allow_null=True, help_text="The broadcast that a queued one waits for.")
    rates = RatesShown()
    skipped_by_reason = SkipsShown(many=True)
    failed_by_code = FailuresShown(many=True)
    held_by_meta = serializers.IntegerField()
    replied = serializers.IntegerField()


class LeftOutShown(Body):
    """Who holds a tag and stays out. Each person counts once, for the first of these that holds."""

    excluded_tag = serializers.IntegerField()
    opted_out = serializers.IntegerField(help_text="Opted out, or never opted in.")
    without_phone = serializers.IntegerField()
    marketing_opted_out = serializers.IntegerField(help_text="Told WhatsApp to stop your marketing.")
    country_blocked = serializers.IntegerField(help_text="Meta delivers no marketing to their country.")
    frequency_cap = serializers.IntegerField(help_text="Had a marketing message in the 24 hours before.")
    missing_variable = serializers.IntegerField(help_text="Have no value for a variable, or one that is too long.")


class PreviewShown(Body):
    at = serializers.DateTimeField(help_text="For when it is judged: now, or when it is scheduled.")
    total = serializers.IntegerField(help_text="How many really get it, if nothing changes until then.")
    recipients = ContactNamed(many=True, help_text="The first ten.")
    left_out = LeftOutShown()
    seconds = serializers.FloatField(
        help_text="How long it takes at the number's throughput, with nothing else to send."
    )
    problems = serializers.ListField(child=Text(), help_text="What keeps it from being sent, each in a sentence.")


class RecipientShown(FateShown):
    id = Text(help_text="The message's.")
    contact = ContactNamed()


def broadcasts_shown(broadcasts: Sequence[Broadcast]) -> list[dict[str, Any]]:
    """Broadcasts, whose templates and numbers are read already, with tags and funnels. Three queries."""
    keys = [broadcast.pk for broadcast in broadcasts]
    tags, excluded = _tags(Broadcast.tags.through, keys), _tags(Broadcast.excluded_tags.through, keys)
    funnels = counting.funnels(broadcast.dispatch_id for broadcast in broadcasts)
    return [
        {
            **_standing(one, funnels.get(one.dispatch_id, Funnel())),
            "template": template_named(one.template),
            "phoneNumber": {"id": one.phone_number.public_id, "number": str(one.phone_number)},
            "tags": tags.get(one.pk, []),
            "excludedTags": excluded.get(one.pk, []),
            "variables": one.variables,
            "createdAt": one.created_at,
            "updatedAt": one.updated_at,
        }
        for one in broadcasts
    ]


def _tags(through: Any, keys: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """The tags of each broadcast, by name. One query."""
    found: dict[int, list[dict[str, Any]]] = {}
    rows = through.objects.filter(broadcast__in=keys).select_related("tag").order_by("tag__name", "tag")
    for row in rows:
        found.setdefault(row.broadcast_id, []).append({"id": row.tag.public_id, "name": row.tag.name})
    return found


def _standing(broadcast: Broadcast, funnel: Funnel) -> dict[str, Any]:
    return {
        "id": broadcast.public_id,
        "name": broadcast.name,
        "status": broadcast.status,
        "statusDetail": broadcast.status_detail or None,
        "pauseReason": broadcast.pause_reason or None,
        "scheduledAt": broadcast.scheduled_at,
        "queuedAt": broadcast.queued_at,
        "startedAt": broadcast.started_at,
        "pausedAt": broadcast.paused_at,
        "resumeAt": broadcast.resume_at,
        "completedAt": broadcast.completed_at,
        "funnel": {"total": funnel.total, "waiting": funnel.waiting}
        | {name: getattr(funnel, name) for name in SETTLED},
    }


def _stats(broadcast: Broadcast) -> dict[str, Any]:
    funnel, ahead = counting.funnel(broadcast.dispatch_id), launch.waits_for(broadcast)
    return {
        **_standing(broadcast, funnel),
        "waitsFor": ahead and {"id": ahead.public_id, "name": ahead.name},
        "rates": {
            "delivered": _rate(funnel.delivered, funnel.dispatched),
            "read": _rate(funnel.read, funnel.delivered),
            "failed": _rate(funnel.failed, funnel.total),
        },
        "skippedByReason": [{"reason": key, "count": rows} for key, rows in report.by_reason(broadcast).items()],
        "failedByCode": report.failures(broadcast),
        **report.held_and_replied(broadcast),
    }


def _rate(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _recipients_shown(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [{"id": one.public_id, "contact": contact_named(one.contact), **fate_shown(one)} for one in messages]


# --- drafts ------------------------------------------------------------------------------------------------------


class BroadcastAreaAPI(OwnedAPI):
    area = Area.CAMPAIGNS

    def broadcast(self, public_id: str) -> Broadcast:
        """The organization's broadcast of that id, with its template and number. One query."""
        rows = Broadcast.objects.of(self.organization).by_public_id(public_id)
        found: Broadcast | None = rows.select_related("template", "phone_number").first()
        if found is None:
            raise missing(Broadcast)
        found.organization = self.organization
        return found

    def shown(self, broadcast: Broadcast, code: int = status.HTTP_200_OK) -> Response:
        [told] = broadcasts_shown([broadcast])
        return Response(told, status=code, headers={"ETag": broadcast.version})


class BroadcastsAPI(BroadcastAreaAPI):
    """`/api/broadcasts`."""

    @described("broadcasts_list", query=BroadcastsQuery, answers={200: page_of(BroadcastShown)})
    def get(self, request: Request) -> Response:
        """The broadcasts, the newest first, with their funnels. Six queries."""
        asked = pagination.asked(request.query_params, BroadcastsQuery)
        rows = Broadcast.objects.of(self.organization).filter(name__icontains=asked.get("search", ""))
        if "status" in asked:
            rows = rows.filter(status=asked["status"])
        rows = rows.select_related("template", "phone_number")
        return Response(pagination.paged(rows, asked, by=("-pk",), shown=broadcasts_shown))

    @described(
        "broadcasts_create",
        body=NewBroadcast,
        answers={201: BroadcastShown},
        errors=(404,),
        example={
            "name": "Spring sale",
            "templateId": "tpl_…",
            "tags": ["VIP"],
            "variables": {"body.first_name": {"field": "first_name", "fallback": "there"}},
        },
    )
    def post(self, request: Request) -> Response:
        """Write a draft. Nothing is sent by it."""
        return self.shown(drafting.create(self.organization, self.asked(NewBroadcast)), status.HTTP_201_CREATED)


class BroadcastAPI(BroadcastAreaAPI):
    """`/api/broadcasts/{id}`."""

    @described("broadcasts_get", answers={200: BroadcastShown}, errors=(404,))
    def get(self, request: Request, broadcast: str) -> Response:
        """One broadcast."""
        return self.shown(self.broadcast(broadcast))

    @described(
        "broadcasts_update",
        body=DraftChange,
        answers={200: BroadcastShown},
        errors=(404, 409),
        versioned=True,
        example={"name": "Spring sale, second round", "excludedTags": ["VIP"]},
    )
    def patch(self, request: Request, broadcast: str) -> Response:
        """Change a draft. 409 for one that was sent or scheduled, 412 when If-Match names another version."""
        said, found = self.asked(DraftChange), self.broadcast(broadcast)
        return self.shown(drafting.edit(found, said, versions=self.versions(), at=self.now))

    @described("broadcasts_delete", answers={204: None}, errors=(404, 409), versioned=True)
    def delete(self, request: Request, broadcast: str) -> Response:
        """Delete a draft. 409 for one that was sent or scheduled: that one can be canceled."""
        drafting.delete(self.broadcast(broadcast), versions=self.versions())
        return Response(status=status.HTTP_204_NO_CONTENT)


class CopyAPI(BroadcastAreaAPI):
    """`/api/broadcasts/{id}/duplicate`."""

    @described(
        "broadcasts_duplicate",
        body=CopyNamed,
        answers={201: BroadcastShown},
        errors=(404,),
        example={"name": "Spring sale, second round"},
    )
    def post(self, request: Request, broadcast: str) -> Response:
        """Write a draft of the same template, number, variables and tags. Nothing is sent by it."""
        said, found = self.asked(CopyNamed), self.broadcast(broadcast)
        return self.shown(drafting.copy(found, **said), status.HTTP_201_CREATED)


# --- before it is sent -------------------------------------------------------------------------------------------


class PreviewAPI(BroadcastAreaAPI):
    """`/api/broadcasts/{id}/preview`."""

    @described("broadcasts_preview", answers={200: PreviewShown}, errors=(404, 409))
    def get(self, request: Request, broadcast: str) -> Response:
        """Who would get it, who stays out and why, and what keeps it from being sent. 409 once it has begun."""
        found = self.broadcast(broadcast)
        if found.dispatch_id is not None:
            raise Refusal("This broadcast has begun. Its people are under /recipients.", code="wrong_status")
        seen = audience.preview(found, now=self.now)
        told = {
            "at": seen.at,
            "total": seen.total,
            "recipients": [contact_named(one) for one in seen.first],
            "leftOut": {camel(reason.value): count for reason, count in seen.left_out.items()},
            "seconds": duration.expected(seen.total, found.phone_number).total_seconds(),
        }
        return Response({**told, "problems": preflight.problems(found)})


class TrialAPI(BroadcastAreaAPI):
    """`/api/broadcasts/{id}/test`."""

    @described(
        "broadcasts_test",
        body=OneContact,
        answers={202: MessageShown},
        errors=(404,),
        example={"contactId": "ct_…"},
    )
    def post(self, request: Request, broadcast: str) -> Response:
        """Send the message to one opted-in contact, as it is filled now.

        It counts nowhere: not in the broadcast's numbers, and not for the frequency cap.
        """
        said, found = self.asked(OneContact), self.broadcast(broadcast)
        contact = finding.contact(self.organization, public_id=said.get("contact_id"), phone=said.get("phone"))
        message = trials.send(found, contact, now=self.now)
        origin = origin_shown(Dispatch.Kind.TEST, broadcast=found)
        return Response(message_shown(message, origin), status=status.HTTP_202_ACCEPTED)


# --- acts --------------------------------------------------------------------------------------------------------


class ActAPI(BroadcastAreaAPI):
    """An act on one broadcast; the answer is the broadcast as it stands then."""

    def done(self, public_id: str, act: Callable[..., None]) -> Response:
        found = self.broadcast(public_id)
        act(found)
        return self.shown(found)

    def begun(self, public_id: str, act: Callable[..., None], *, verb: str) -> Response:
        """The same with a draft, of a version that the request is willing to send."""
        with transaction.atomic():
            if self.versions() is not None:
                drafting.held(self.broadcast(public_id), self.versions(), verb=verb)
            return self.done(public_id, act)


class SendAPI(ActAPI):
    """`/api/broadcasts/{id}/send`."""

    @described(
        "broadcasts_send",
        body=Nothing,
        answers={200: BroadcastShown},
        errors=(404,),
        versioned=True,
        example={},
    )
    def post(self, request: Request, broadcast: str) -> Response:
        """Queue a draft: it starts when no other broadcast of the organization is sending. 422 while it can't work."""
        self.asked(Nothing)
        return self.begun(broadcast, partial(launch.send, now=self.now), verb="sent")


class ScheduleAPI(ActAPI):
    """`/api/broadcasts/{id}/schedule`."""

    @described(
        "broadcasts_schedule",
        body=ScheduledFor,
        answers={200: BroadcastShown},
        errors=(404,),
        versioned=True,
        example={"at": "2036-12-24T09:30"},
    )
    def post(self, request: Request, broadcast: str) -> Response:
        """Let a draft go at a time in the future: with an offset, or local to the organization's timezone."""
        at: datetime = local_time.parse(self.asked(ScheduledFor)["at"], self.organization.zone)
        return self.begun(broadcast, partial(launch.schedule, at=at, now=self.now), verb="scheduled")


class UnscheduleAPI(ActAPI):
    """`/api/broadcasts/{id}/unschedule`."""

    @described(
        "broadcasts_unschedule",
        body=Nothing,
        answers={200: BroadcastShown},
        errors=(404,),
        example={},
    )
    def post(self, request: Request, broadcast: str) -> Response:
        """Make a scheduled broadcast a draft again. 409 for any other."""
        self.asked(Nothing)
        return self.done(broadcast, launch.unschedule)


class PauseAPI(ActAPI):
    """`/api/broadcasts/{id}/pause`."""

    @described(
        "broadcasts_pause",
        body=Nothing,
        answers={200: BroadcastShown},
        errors=(404,),
        example={},
    )
    def post(self, request: Request, broadcast: str) -> Response:
        """Let nothing more go until it is resumed; what is on its way arrives. 409 unless it is on its way."""
        self.asked(Nothing)
        return self.done(broadcast, partial(launch.pause, now=self.now))


class ResumeAPI(ActAPI):
    """`/api/broadcasts/{id}/resume`."""

    @described(
        "broadcasts_resume",
        body=ResumedSo,
        answers={200: BroadcastShown},
        errors=(404,),
        example={},
    )
    def post(self, request: Request, broadcast: str) -> Response:
        """Queue the rest of a paused broadcast, or let it keep a time that lies ahead. 409 for any other."""
        at_once: bool = self.asked(ResumedSo)["at_once"]
        return self.done(broadcast, partial(launch.resume, now=self.now, at_once=at_once))


class CancelAPI(ActAPI):
    """`/api/broadcasts/{id}/cancel`."""

    @described(
        "broadcasts_cancel",
        body=Nothing,
        answers={200: BroadcastShown},
        errors=(404,),
        example={},
    )
    def post(self, request: Request, broadcast: str) -> Response:
        """End it for good; messages already handed to Meta still arrive. 409 once it has ended."""
        self.asked(Nothing)
        return self.done(broadcast, partial(launch.cancel, now=self.now))


# --- what became of it -------------------------------------------------------------------------------------------


class StatsAPI(BroadcastAreaAPI):
    """`/api/broadcasts/{id}/stats`."""

    @described("broadcasts_stats", answers={200: StatsShown}, errors=(404,))
    def get(self, request: Request, broadcast: str) -> Response:
        """The funnel, why messages weren't sent or failed, and what it waits for. At most nine queries."""
        return Response(_stats(self.broadcast(broadcast)))


class RecipientsAPI(BroadcastAreaAPI):
    """`/api/broadcasts/{id}/recipients`."""

    @described("broadcasts_recipients", query=RecipientsQuery, answers={200: page_of(RecipientShown)}, errors=(404,))
    def get(self, request: Request, broadcast: str) -> Response:
        """The people it goes to and what became of each: all, of a status, skipped for a reason. Five queries."""
        asked = pagination.asked(request.query_params, RecipientsQuery)
        found, chosen = self.broadcast(broadcast), {name: asked.get(name) for name in ("status", "reason")}
        total = None if "cursor" in asked else recipients.known_total(found, **chosen)
        rows = recipients.of(found, **chosen)
        return Response(pagination.paged(rows, asked, by=("contact_id",), shown=_recipients_shown, total=total))


class RecipientsTableAPI(BroadcastAreaAPI):
    """`/api/broadcasts/{id}/recipients.csv`."""

    @described(
        "broadcasts_export",
        query=RecipientsFilter,
        answers={(200, CSV): OpenApiTypes.STR},
        errors=(404,),
    )
    def get(self, request: Request, broadcast: str) -> StreamingHttpResponse:
        """All of them as one CSV file, written while it is read."""
        asked = pagination.asked(request.query_params, RecipientsFilter)
        found = self.broadcast(broadcast)
        rows = recipients.of(found, status=asked.get("status"), reason=asked.get("reason"))
        audit.record("broadcast.exported", found, **asked)
        return spreadsheets.download(f"{found.public_id}.csv", recipients.COLUMNS, recipients.table(rows))
