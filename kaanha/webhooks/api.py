"""Webhook endpoints, their deliveries and replays in the API."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from kaanha.lib import outward_http, pagination
from kaanha.lib.api_json import Body, Text, YesNo
from kaanha.lib.openapi import cursor_page_of, described
from kaanha.lib.pagination import CursorQuery
from kaanha.organizations.access import Area
from kaanha.organizations.api import OwnedAPI, missing
from kaanha.webhooks import endpoints
from kaanha.webhooks.models import TEST, Attempt, Delivery, Endpoint, Kind, Source, Status

DESCRIPTION = 200  # letters
ID = 60  # letters of an id, and more
STATES = ("listening", "failing", "off", "disabled")
ALL = "all"

# --- what is taken -----------------------------------------------------------------------------------------------


class Address(Text):
    """Where events go; refused with the reason where that can be told without asking anybody."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=outward_http.URL, **options)

    def to_internal_value(self, data: Any) -> str:
        url = super().to_internal_value(data)
        try:
            outward_http.check(url)
        except outward_http.Forbidden as refusal:
            raise serializers.ValidationError(str(refusal)) from refusal
        return url


class OneOf(serializers.ChoiceField):
    """One of a few words."""

    def __init__(self, choices: Sequence[str], **options: Any) -> None:
        super().__init__(choices, **options)
        known = ", ".join(map(str, self.choices))
        sentence = f"Write one of {known}."
        self.error_messages |= {"invalid_choice": sentence, "null": sentence, "required": f"It is missing. {sentence}"}

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(data if isinstance(data, str) else "")


class Several(serializers.ListField):
    """A list of such words, each once."""

    def __init__(self, choices: Sequence[str], **options: Any) -> None:
        known = ", ".join(choices)
        sentences: dict[str, Any] = dict.fromkeys(("not_a_list", "null", "max_length"), f"Write a list of {known}.")
        sentences |= {"empty": "The list is empty. Name at least one.", "required": "It is missing. Send it."}
        super().__init__(
            child=OneOf(choices), max_length=len(choices), error_messages=sentences, **options
        )  # fmt: skip

    def to_internal_value(self, data: Any) -> list[str]:
        return list(dict.fromkeys(super().to_internal_value(data)))


class Moment(serializers.DateTimeField):
    """A time that says its zone."""

    default_error_messages = {
        "invalid": 'Write a time such as "2026-03-01T09:30:00Z".',
        "naive": 'Say the zone, too, such as in "2026-03-01T09:30:00Z".',
        "required": "It is missing. Send it.",
        "null": 'It is null. Write a time such as "2026-03-01T09:30:00Z".',
    }

    def to_internal_value(self, value: Any) -> datetime:
        return super().to_internal_value(value if isinstance(value, str) else "")

    def enforce_timezone(self, value: datetime) -> datetime:
        if timezone.is_naive(value):
            self.fail("naive")
        try:
            return value.astimezone(UTC)  # PostgreSQL knows no zone 18 hours away
        except OverflowError:
            self.fail("invalid")


class EndpointChange(Body):
    """What PATCH takes: what isn't sent stays as it is."""

    url = Address(required=False)
    events = Several(Kind.values, source="kinds", required=False, allow_empty=False)
    sources = Several(
        Source.values,
        required=False,
        help_text="Of messages, those that were sent for one of these; all where the list is empty.",
    )
    description = Text(required=False, allow_blank=True, max_length=DESCRIPTION)
    batched = YesNo(required=False, help_text="Up to 100 events in one POST, every five seconds.")
    active = YesNo(required=False)


class NewEndpoint(EndpointChange):
    url = Address()
    events = Several(Kind.values, source="kinds", allow_empty=False)


class ReplayRange(Body):
    from_ = Moment(help_text="Events that happened then or later.")
    to = Moment(help_text="Events that happened before.")
    status = OneOf([Status.FAILED, Status.DELIVERED, ALL], default=Status.FAILED.value)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["from_"] >= attrs["to"]:
            raise serializers.ValidationError({"to": ["It isn't after from. Send the later time here."]})
        return attrs


class DeliveriesQuery(CursorQuery):
    endpoint = Text(required=False, max_length=ID)
    status = OneOf(Status.values, required=False)
    event = OneOf([*Kind.values, TEST], required=False)


# --- what is given -----------------------------------------------------------------------------------------------


class EndpointShown(Body):
    id = Text()
    url = Text()
    events = serializers.ListField(child=Text())
    sources = serializers.ListField(child=Text())
    description = Text(allow_blank=True)
    batched = YesNo()
    active = YesNo()
    state = serializers.ChoiceField(STATES)
    failing_since = serializers.DateTimeField(allow_null=True)
    disabled_at = serializers.DateTimeField(allow_null=True)
    disabled_reason = Text(allow_null=True)
    created_at = serializers.DateTimeField()


class EndpointsShown(Body):
    data_ = EndpointShown(many=True)


class EndpointWithSecretShown(EndpointShown):
    secret = Text(help_text="Signs what is sent from now on. It is shown this once.")


class DeliveryShown(Body):
    id = Text()
    endpoint_id = Text()
    event = Text()
    event_id = Text(help_text="What X-Kaanha-Event-Id says of it.")
    occurred_at = serializers.DateTimeField()
    status = serializers.ChoiceField(Status.values)
    reason = Text(allow_null=True, help_text="Why it has failed, or failed the last time.")
    attempts = serializers.IntegerField()
    response_code = serializers.IntegerField(allow_null=True)
    milliseconds = serializers.IntegerField(allow_null=True)
    next_attempt_at = serializers.DateTimeField(allow_null=True)


class AttemptShown(Body):
    number = serializers.IntegerField()
    at = serializers.DateTimeField()
    response_code = serializers.IntegerField(allow_null=True)
    milliseconds = serializers.IntegerField()
    reason = Text(allow_null=True, help_text="What went wrong where nobody answered.")
    answer = Text(allow_blank=True, help_text="How the answer began.")
    events = serializers.IntegerField(help_text="How many events the POST carried.")


class EventShown(Body):
    event = Text()
    organization_id = Text()
    timestamp = Text()
    data_ = serializers.JSONField()


class DeliveryInFullShown(DeliveryShown):
    tried = AttemptShown(many=True)
    body = EventShown(help_text="The event, as it is sent.")


class ReplayedShown(Body):
    replayed = serializers.IntegerField()
    more = YesNo(help_text="There are more than 10,000: send the same again.")


def endpoint_shown(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "id": endpoint.public_id,
        "url": endpoint.url,
        "events": endpoint.kinds,
        "sources": endpoint.sources,
        "description": endpoint.description,
        "batched": endpoint.batched,
        "active": endpoint.active,
        "state": _state(endpoint),
        "failingSince": endpoint.failing_since,
        "disabledAt": endpoint.disabled_at,
        "disabledReason": endpoint.disabled_reason or None,
        "createdAt": endpoint.created_at,
    }


def deliveries_shown(deliveries: Sequence[Delivery]) -> list[dict[str, Any]]:
    """Deliveries that were read with their events and endpoints."""
    return [
        {
            "id": one.public_id,
            "endpointId": one.endpoint.public_id,
            "event": one.event.kind,
            "eventId": one.event.public_id,
            "occurredAt": one.event.occurred_at,
            "status": one.status,
            "reason": one.reason or None,
            "attempts": one.attempts,
            "responseCode": one.response_code,
            "milliseconds": one.milliseconds,
            "nextAttemptAt": one.next_attempt_at,
        }
        for one in deliveries
    ]


def _state(endpoint: Endpoint) -> str:
    if endpoint.disabled_at:
        return "disabled"
    if not endpoint.active:
        return "off"
    return "failing" if endpoint.failing_since else "listening"


def _attempt_shown(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "at": attempt.at,
        "responseCode": attempt.response_code,
        "milliseconds": attempt.milliseconds,
        "reason": attempt.error or None,
        "answer": attempt.excerpt,
        "events": attempt.events,
    }


# --- endpoints ---------------------------------------------------------------------------------------------------


class EndpointAreaAPI(OwnedAPI):
    area = Area.SETTINGS

    def endpoint(self, public_id: str) -> Endpoint:
        """The organization's endpoint of that id; one that is deleted is missing. One query."""
        endpoint: Endpoint = self.found(Endpoint, public_id)
        if endpoint.deleted_at is not None:
            raise missing(Endpoint)
        return endpoint

    def shown(self, endpoint: Endpoint, code: int = status.HTTP_200_OK, *, secret: bool = False) -> Response:
        told = endpoint_shown(endpoint) | ({"secret": endpoint.secret} if secret else {})
        return Response(told, status=code, headers={"ETag": endpoint.version})

    def delivery(self, public_id: str) -> Delivery:
        """The organization's delivery of that id, with event and endpoint. One query."""
        rows = Delivery.objects.of(self.organization).by_public_id(public_id).select_related("event", "endpoint")
        found: Delivery | None = rows.first()
        if found is None:
            raise missing(Delivery)
        return found


class EndpointsAPI(EndpointAreaAPI):
    """`/api/webhooks`."""

    @described("webhooks_list", answers={200: EndpointsShown})
    def get(self, request: Request) -> Response:
        """The endpoints, in the order in which they were added: all of them, for there are at most 20. Two queries."""
        rows = Endpoint.objects.of(self.organization).present().order_by("pk")
        return Response({"data": [endpoint_shown(one) for one in rows]})

    @described(
        "webhooks_create",
        body=NewEndpoint,
        answers={201: EndpointWithSecretShown},
        example={
            "url": "https://example.com/hooks/kaanha",
            "events": ["message.delivered", "message.read", "contact.opted_out"],
            "description": "Shop",
            "batched": True,
        },
    )
    def post(self, request: Request) -> Response:
        """Add an endpoint: 201 with its secret, which is shown this once. A test event goes to it."""
        endpoint = endpoints.create(self.organization, self.asked(NewEndpoint), now=self.now)
        return self.shown(endpoint, status.HTTP_201_CREATED, secret=True)


class EndpointAPI(EndpointAreaAPI):
    """`/api/webhooks/{id}`."""

    @described("webhooks_get", answers={200: EndpointShown}, errors=(404,))
    def get(self, request: Request, endpoint: str) -> Response:
        """One endpoint."""
        return self.shown(self.endpoint(endpoint))

    @described(
        "webhooks_update",
        body=EndpointChange,
        answers={200: EndpointShown},
        errors=(404,),
        versioned=True,
        example={"events": ["contact.opted_out"], "active": True},
    )
    def patch(self, request: Request, endpoint: str) -> Response:
        """Change what is sent; a test event goes to the endpoint when anything changes and it listens."""
        said, found = self.asked(EndpointChange), self.endpoint(endpoint)
        return self.shown(endpoints.edit(found, said, versions=self.versions(), now=self.now)[0])

    @described("webhooks_delete", answers={204: None}, errors=(404,), versioned=True)
    def delete(self, request: Request, endpoint: str) -> Response:
        """Delete the endpoint with its secret. What is pending fails; its log stays until it is old."""
        endpoints.delete(self.endpoint(endpoint), versions=self.versions(), now=self.now)
        return Response(status=status.HTTP_204_NO_CONTENT)


class EndpointSecretAPI(EndpointAreaAPI):
    """`/api/webhooks/{id}/rotate-secret`."""

    @described("webhooks_rotate_secret", answers={200: EndpointWithSecretShown}, errors=(404,))
    def post(self, request: Request, endpoint: str) -> Response:
        """Replace the secret: the new one is shown this once, and signs all that is sent from now on."""
        return self.shown(endpoints.rotate(self.endpoint(endpoint)), secret=True)


class EndpointEnableAPI(EndpointAreaAPI):
    """`/api/webhooks/{id}/enable`."""

    @described("webhooks_enable", answers={200: EndpointShown}, errors=(404,))
    def post(self, request: Request, endpoint: str) -> Response:
        """Turn the endpoint on, whether it was disabled or turned off. It hears what happens from now on."""
        return self.shown(endpoints.enable(self.endpoint(endpoint)))


class EndpointTestAPI(EndpointAreaAPI):
    """`/api/webhooks/{id}/test`."""

    @described("webhooks_test", answers={202: DeliveryShown}, errors=(404,))
    def post(self, request: Request, endpoint: str) -> Response:
        """Send a test event, once: 202 with its delivery, which says a moment later what came of it."""
        delivery = endpoints.test(self.endpoint(endpoint), now=self.now)
        return Response(deliveries_shown([delivery])[0], status=status.HTTP_202_ACCEPTED)


class EndpointReplayAPI(EndpointAreaAPI):
    """`/api/webhooks/{id}/replay`."""

    @described(
        "webhooks_replay",
        body=ReplayRange,
        answers={200: ReplayedShown},
        errors=(404,),
        example={"from": "2026-03-01T09:00:00Z", "to": "2026-03-01T10:00:00Z", "status": "failed"},
    )
    def post(self, request: Request, endpoint: str) -> Response:
        """Deliver once more what has failed, or all, of the events of a time; at most 10,000, the oldest first."""
        said = self.asked(ReplayRange)
        statuses = (Status.FAILED, Status.DELIVERED) if said["status"] == ALL else (said["status"],)
        replayed, more = endpoints.replay_range(
            self.endpoint(endpoint), said["from_"], said["to"], statuses, now=self.now
        )
        return Response({"replayed": replayed, "more": more})


# --- deliveries --------------------------------------------------------------------------------------------------


class DeliveriesAPI(EndpointAreaAPI):
    """`/api/webhook-deliveries`."""

    @described("deliveries_list", query=DeliveriesQuery, answers={200: cursor_page_of(DeliveryShown)}, errors=(404,))
    def get(self, request: Request) -> Response:
        """The deliveries, the latest first: all, of an endpoint, a status, an event. Two queries; one more by endpoint.

        Those to endpoints that are deleted are among them, until they are old.
        """
        asked = pagination.asked(request.query_params, DeliveriesQuery)
        rows = Delivery.objects.of(self.organization)
        if "endpoint" in asked:
            rows = rows.filter(endpoint=self.found(Endpoint, asked["endpoint"]))
        if "status" in asked:
            rows = rows.standing(asked["status"])
        if "event" in asked:
            rows = rows.filter(event__kind=asked["event"], event__organization=self.organization)
        rows = rows.select_related("event", "endpoint")
        return Response(pagination.along(rows, asked, by=("-pk",), shown=deliveries_shown))


class DeliveryAPI(EndpointAreaAPI):
    """`/api/webhook-deliveries/{id}`."""

    @described("deliveries_get", answers={200: DeliveryInFullShown}, errors=(404,))
    def get(self, request: Request, delivery: str) -> Response:
        """One delivery with each of its attempts, and the event as it is sent."""
        found = self.delivery(delivery)
        tried = [_attempt_shown(one) for one in found.tried.order_by("number")]
        return Response({**deliveries_shown([found])[0], "tried": tried, "body": found.event.said()})


class DeliveryReplayAPI(EndpointAreaAPI):
    """`/api/webhook-deliveries/{id}/replay`."""

    @described("deliveries_replay", answers={202: DeliveryShown}, errors=(404,))
    def post(self, request: Request, delivery: str) -> Response:
        """Deliver it once more, under the event id that it had: 202 with the delivery, which is pending again."""
        found = self.delivery(delivery)
        endpoints.replay_one(found, now=self.now)
        return Response(deliveries_shown([self.delivery(delivery)])[0], status=status.HTTP_202_ACCEPTED)
