"""Endpoints of customers, the events that they hear of, and what became of each delivery."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Self

from django.contrib.postgres.fields import ArrayField
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, models
from django.db.models import Q

from kaanha.lib import public_ids
from kaanha.lib.outward_http import URL, Answer
from kaanha.lib.secrets import SecretField
from kaanha.organizations.models import Organization, OwnedModel, OwnedQuerySet

# How long to wait after the first, second and third failure; after the fourth the delivery has failed.
RETRIES = (timedelta(seconds=5), timedelta(seconds=25), timedelta(minutes=2))
DISABLED_AFTER = timedelta(hours=24)  # of nothing but failure
GONE = 410  # the receiver wants no more: RFC 9110, "410 Gone"


class Kind(models.TextChoices):
    """What may happen, by the name under which customers hear of it."""

    MESSAGE_RECEIVED = "message.received"
    MESSAGE_SENT = "message.sent"
    MESSAGE_DELIVERED = "message.delivered"
    MESSAGE_READ = "message.read"
    MESSAGE_FAILED = "message.failed"
    CONTACT_CREATED = "contact.created"
    CONTACT_UPDATED = "contact.updated"
    CONTACT_OPTED_IN = "contact.opted_in"
    CONTACT_OPTED_OUT = "contact.opted_out"
    BROADCAST_COMPLETED = "broadcast.completed"
    SEQUENCE_ENROLLED = "sequence.enrolled"
    SEQUENCE_COMPLETED = "sequence.completed"
    TEMPLATE_STATUS_CHANGED = "template.status_changed"


TEST = "test"
DISABLED = "webhook.disabled"  # in the event log alone
# Kept for the event log also where nobody listens. Messages and contacts have histories of their own, and are many.
LOGGED = (
    Kind.BROADCAST_COMPLETED,
    Kind.SEQUENCE_ENROLLED,
    Kind.SEQUENCE_COMPLETED,
    Kind.TEMPLATE_STATUS_CHANGED,
    DISABLED,
)


class EndpointQuerySet(OwnedQuerySet):
    def listening(self) -> Self:
        """Those that are told of events: not turned off, by people or by failing."""
        return self.filter(active=True, disabled_at=None)


class Endpoint(OwnedModel):
    """A customer's address, with the events that it hears of.

    listening ─(a member)─▶ off · listening ─(24 h of nothing but failure, or 410)─▶ disabled ─(a member)─▶ listening
    """

    PUBLIC_KIND = "whe"

    url = models.CharField("URL", max_length=URL)
    kinds = ArrayField(models.CharField(max_length=40), verbose_name="events")
    secret = SecretField()
    description = models.CharField(max_length=200, blank=True)
    active = models.BooleanField(default=True)
    # Since when no delivery has succeeded. Such an endpoint gets one at a time.
    failing_since = models.DateTimeField(null=True, blank=True)
    disabled_at = models.DateTimeField(null=True, blank=True)
    disabled_reason = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[EndpointQuerySet] = EndpointQuerySet.as_manager()  # type: ignore[assignment]

    def __str__(self) -> str:
        return self.description or self.url

    @property
    def listening(self) -> bool:
        return self.active and self.disabled_at is None

    @staticmethod
    def new_secret() -> str:
        """A secret to sign with, as the customer is shown it once."""
        return "whsec_" + secrets.token_urlsafe(32)

    def signature(self, body: bytes) -> str:
        """What `X-Kaanha-Signature` says of `body`: hex HMAC-SHA256 under the secret."""
        return hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()

    def heed(self, *, ok: bool, gone: bool, given_up: bool, now: datetime) -> None:
        """Learn from an attempt, the row locked: whether it fails since now, and whether it is disabled.

        Disabled at once when the receiver says that it is `gone`, or when a delivery is `given_up` after 24 h of
        nothing but failure.
        """
        if not ok:
            self.failing_since = self.failing_since or now
        else:
            self.failing_since = None
        if gone:
            self._disable("It answered 410 Gone: it wants no more.", now)
        elif given_up and self.failing_since and now - self.failing_since >= DISABLED_AFTER:
            self._disable("Nothing but failures for 24 hours.", now)
        self.save(update_fields=["failing_since", "disabled_at", "disabled_reason"])

    def enable(self) -> None:
        """Listen again, whatever was before."""
        self.active, self.failing_since, self.disabled_at, self.disabled_reason = True, None, None, ""
        self.save(update_fields=["active", "failing_since", "disabled_at", "disabled_reason"])

    def _disable(self, reason: str, now: datetime) -> None:
        if self.disabled_at is None:
            self.disabled_at, self.disabled_reason = now, reason
            told = {"endpointId": self.public_id, "url": self.url, "reason": reason}
            Event.record(self.organization_id, DISABLED, told, at=now)


class Event(OwnedModel):
    """What other systems may want to hear about. Written in the transaction that made it true, never changed."""

    PUBLIC_KIND = "evt"

    kind = models.CharField(max_length=40)
    data = models.JSONField(encoder=DjangoJSONEncoder)
    occurred_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["organization", "-occurred_at"], name="event_latest")]  # the event log

    def __str__(self) -> str:
        return f"{self.kind} at {self.occurred_at:%Y-%m-%d %H:%M:%S}"

    @classmethod
    def heard(cls, *kinds: str) -> set[tuple[int, str]]:
        """Which organizations listen to which of `kinds`: for those who'd rather not describe what nobody hears.

        One statement over a table that holds a few rows for each customer.
        """
        with connection.cursor() as cursor:
            cursor.execute(_HEARD, [[str(kind) for kind in kinds]] * 2)
            return set(cursor.fetchall())

    @classmethod
    def record(cls, organization: Organization | int, kind: str, data: dict[str, Any], *, at: datetime) -> Event | None:
        """Note that `kind` (such as `broadcast.completed`) happened. Call it in the transaction that makes it so.

        The event, with deliveries to the endpoints that listen now. None where nobody does and the log doesn't keep it.
        """
        owner = organization if isinstance(organization, int) else organization.pk
        keys = _record([(owner, kind, data)], at=at)
        return cls(pk=keys[0], organization_id=owner, kind=kind, data=data, occurred_at=at) if keys else None

    @classmethod
    def record_many(cls, events: Collection[tuple[int, str, dict[str, Any]]], *, at: datetime) -> None:
        """Note many at once, each as (organization, kind, data), in one statement with their deliveries."""
        if events:
            _record(events, at=at)

    def body(self) -> bytes:
        """What is sent of it, the same bytes each time."""
        said = {
            "event": self.kind,
            "organizationId": public_ids.encode(Organization.PUBLIC_KIND, self.organization_id),
            "timestamp": self.occurred_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "data": self.data,
        }
        return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()


class Status(models.TextChoices):
    PENDING = "pending", "Pending"
    DELIVERED = "delivered", "Delivered"
    FAILED = "failed", "Failed"


class DeliveryQuerySet(OwnedQuerySet):
    def replayable(self) -> Self:
        """Those that have come to an end, of endpoints that listen."""
        ended = self.exclude(status=Status.PENDING).exclude(event__kind=TEST)
        return ended.filter(endpoint__in=Endpoint.objects.listening())

    def replay(self, *, now: datetime) -> int:
        """Deliver once more what may be; how many. The same event ids, with tries of their own."""
        return self.replayable().update(status=Status.PENDING, tries=0, next_attempt_at=now, reason="")


class Delivery(OwnedModel):
    """One event on its way to one endpoint.

    pending ─▶ delivered, or failed after four tries; a replay makes either pending again. A claim moves
    `next_attempt_at` to the end of its lease: a process that dies leaves it due again by itself.
    """

    PUBLIC_KIND = "whd"

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+", db_index=False)
    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PENDING)
    # Why it has failed, or failed the last time.
    reason = models.CharField(max_length=300, blank=True)
    tries = models.SmallIntegerField(default=0)  # since it was recorded, or replayed
    attempts = models.IntegerField(default=0)  # ever; also names the claim
    next_attempt_at = models.DateTimeField(null=True)
    lease_until = models.DateTimeField(null=True)
    # Of the last attempt.
    response_code = models.IntegerField(null=True)
    milliseconds = models.IntegerField("duration", null=True)

    objects: ClassVar[DeliveryQuerySet] = DeliveryQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        verbose_name_plural = "deliveries"
        constraints = [
            models.UniqueConstraint(fields=["event", "endpoint"], name="delivery_once"),
            models.CheckConstraint(
                condition=Q(status=Status.PENDING, next_attempt_at__isnull=False)
                | (~Q(status=Status.PENDING) & Q(next_attempt_at=None, lease_until=None)),
                name="delivery_pending_is_due",
            ),
        ]
        indexes = [
            # claims
            models.Index(
                fields=["endpoint", "next_attempt_at"], name="delivery_due", condition=Q(next_attempt_at__isnull=False)
            ),
            # how many are on their way to an endpoint
            models.Index(
                fields=["endpoint", "lease_until"], name="delivery_leased", condition=Q(lease_until__isnull=False)
            ),
            models.Index(fields=["organization", "-id"], name="delivery_latest"),  # the log
            models.Index(fields=["endpoint", "-id"], name="delivery_of_endpoint"),  # the log of one endpoint
        ]

    def __str__(self) -> str:
        return f"{self.public_id} {self.status}"

    def settle(self, answer: Answer, *, attempt: int, retried: bool, now: datetime) -> None:
        """Take in what came of the attempt of that number, the row locked.

        A success counts whenever it comes. A failure counts only for whoever holds the claim: another may be at it.
        """
        if self.status == Status.DELIVERED or (not answer.ok and self.attempts != attempt):
            return
        self.response_code, self.milliseconds, self.lease_until = answer.status, answer.milliseconds, None
        self.reason = "" if answer.ok else (answer.error or f"It answered {answer.status}.")[:300]
        if answer.ok or not retried or self.tries > len(RETRIES) or self.status == Status.FAILED:
            self.status, self.next_attempt_at = (Status.DELIVERED if answer.ok else Status.FAILED), None
        else:
            self.next_attempt_at = now + RETRIES[self.tries - 1]
        self.save(update_fields=["status", "reason", "response_code", "milliseconds", "lease_until", "next_attempt_at"])


class Attempt(models.Model):
    """One POST of a delivery, and what came of it. Appended, never changed."""

    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="tried", db_index=False)
    number = models.IntegerField()
    at = models.DateTimeField()
    response_code = models.IntegerField(null=True)
    milliseconds = models.IntegerField()
    error = models.CharField(max_length=300, blank=True)
    excerpt = models.TextField(blank=True)  # how the answer begins

    class Meta:
        constraints = [models.UniqueConstraint(fields=["delivery", "number"], name="attempt_once")]

    def __str__(self) -> str:
        return f"{self.number}: {self.response_code or self.error}"


def _record(events: Collection[tuple[int, str, dict[str, Any]]], *, at: datetime) -> list[int]:
    told = json.dumps(list(events), cls=DjangoJSONEncoder)
    with connection.cursor() as cursor:
        cursor.execute(_RECORD, {"at": at, "events": told, "logged": [str(kind) for kind in LOGGED]})
        return [key for (key,) in cursor.fetchall()]


_HEARD = """
SELECT DISTINCT organization_id, kind FROM webhooks_endpoint, unnest(kinds) AS kind
WHERE active AND disabled_at IS NULL AND kinds && %s::varchar[] AND kind = ANY(%s::varchar[])
"""
# As one text: an array of texts is escaped letter by letter.
_RECORD = """
WITH told AS MATERIALIZED (
  SELECT (e ->> 0)::bigint AS organization_id, e ->> 1 AS kind, e -> 2 AS data, place
  FROM jsonb_array_elements(%(events)s::jsonb) WITH ORDINALITY AS one (e, place)
), listening AS MATERIALIZED (
  SELECT id, organization_id, kinds FROM webhooks_endpoint
  WHERE active AND disabled_at IS NULL AND organization_id IN (SELECT organization_id FROM told)
), recorded AS (
  INSERT INTO webhooks_event (organization_id, kind, data, occurred_at)
  SELECT organization_id, kind, data, %(at)s FROM told
  WHERE kind = ANY(%(logged)s) OR EXISTS (
    SELECT FROM listening l WHERE l.organization_id = told.organization_id AND told.kind = ANY(l.kinds))
  ORDER BY place RETURNING id, organization_id, kind
), delivered AS (
  INSERT INTO webhooks_delivery
    (organization_id, event_id, endpoint_id, status, reason, tries, attempts, next_attempt_at)
  SELECT r.organization_id, r.id, l.id, 'pending', '', 0, 0, %(at)s
  FROM recorded r JOIN listening l ON l.organization_id = r.organization_id AND r.kind = ANY(l.kinds) ORDER BY r.id
)
SELECT id FROM recorded
"""
