"""Endpoints of customers, the events that they hear of, and what became of each delivery."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Self

from django.contrib.postgres.fields import ArrayField
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, models
from django.db.models import Q

from kaanha.lib import public_ids
from kaanha.lib.errors import Refusal
from kaanha.lib.outward_http import URL, Answer
from kaanha.lib.secrets import SecretField
from kaanha.organizations.models import Organization, OwnedModel, OwnedQuerySet

# How long to wait after the first, second and third failure; after the fourth the delivery has failed.
RETRIES = (timedelta(seconds=5), timedelta(seconds=25), timedelta(minutes=2))
DISABLED_AFTER = timedelta(hours=24)  # of nothing but failure
GONE = 410  # the receiver wants no more: RFC 9110, "410 Gone"
BATCH_EVERY = timedelta(seconds=5)  # what happens in between leaves together, where an endpoint takes batches
SLOW = timedelta(seconds=3)  # an endpoint that takes longer to answer stands beside those that fail


class Kind(models.TextChoices):
    """What may happen, by the name under which customers hear of it, and in words."""

    MESSAGE_RECEIVED = "message.received", "somebody wrote to you"
    MESSAGE_SENT = "message.sent", "Meta has accepted a message"
    MESSAGE_DELIVERED = "message.delivered", "a message is on the device"
    MESSAGE_READ = "message.read", "a message was read"
    MESSAGE_FAILED = "message.failed", "a message has failed for good"
    CONTACT_CREATED = "contact.created", "a contact was added, imported, or wrote first"
    CONTACT_UPDATED = "contact.updated", "name, address, attributes or tags of a contact changed"
    CONTACT_OPTED_IN = "contact.opted_in", "a contact gave consent"
    CONTACT_OPTED_OUT = "contact.opted_out", "a contact withdrew consent"
    BROADCAST_COMPLETED = "broadcast.completed", "nobody is waiting for a broadcast any more"
    SEQUENCE_ENROLLED = "sequence.enrolled", "a contact entered a sequence"
    SEQUENCE_COMPLETED = "sequence.completed", "a contact came to the end of a sequence"
    TEMPLATE_STATUS_CHANGED = "template.status_changed", "Meta has decided on a template"


class Source(models.TextChoices):
    """What a message was sent for, as its events say."""

    BROADCAST = "broadcast", "Broadcasts"
    STEP = "step", "Sequences"
    API = "api", "The API"


TEST = "test"
ENDPOINT_OFF = "The endpoint is off, or deleted. Turn it on, then replay."
DISABLED = "webhook.disabled"  # in the event log alone
# Kept for the event log also where nobody listens. Messages, contacts and enrollments are many, and are their own log.
LOGGED = (Kind.BROADCAST_COMPLETED, Kind.TEMPLATE_STATUS_CHANGED, DISABLED)


class EndpointQuerySet(OwnedQuerySet):
    def present(self) -> Self:
        """Those that nobody has deleted."""
        return self.filter(deleted_at=None)

    def listening(self) -> Self:
        """Those that are told of events: not turned off, by people or by failing."""
        return self.filter(active=True, disabled_at=None)


class Endpoint(OwnedModel):
    """A customer's address, with the events that it hears of.

    listening ─(a member)─▶ off · listening ─(24 h of nothing but failure, or 410)─▶ disabled ─(a member)─▶ listening
    any ─(a member)─▶ deleted: off for ever, and dropped with the last of its deliveries. A row that vanished at once
    would break the statement that records an event for it at the same moment, and with it a batch of sending.
    """

    PUBLIC_KIND = "whe"

    url = models.CharField("URL", max_length=URL)
    kinds = ArrayField(models.CharField(max_length=40), verbose_name="events")
    secret = SecretField()
    description = models.CharField(max_length=200, blank=True)
    active = models.BooleanField(default=True)
    # Up to 100 events in one POST, every five seconds.
    batched = models.BooleanField(default=False)
    # Of messages, those that were sent for one of these; all where none is named.
    sources = ArrayField(models.CharField(max_length=10, choices=Source.choices), default=list, blank=True)
    # Its last answer took long: it may keep no more than half of the threads waiting.
    slow = models.BooleanField(default=False)
    # Since when no delivery has succeeded. Such an endpoint gets one at a time.
    failing_since = models.DateTimeField(null=True, blank=True)
    disabled_at = models.DateTimeField(null=True, blank=True)
    disabled_reason = models.CharField(max_length=200, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[EndpointQuerySet] = EndpointQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        verbose_name_plural = "webhooks"  # the title of their list

    def __str__(self) -> str:
        return self.description or self.url

    @property
    def listening(self) -> bool:
        return self.active and self.disabled_at is None

    @property
    def version(self) -> str:
        """What changes whenever somebody changes the endpoint, and not with how its deliveries fare."""
        said = [self.url, self.kinds, self.description, self.active, self.batched, self.sources]
        return f'"{hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]}"'

    @staticmethod
    def new_secret() -> str:
        """A secret to sign with, as the customer is shown it once."""
        return "whsec_" + secrets.token_urlsafe(32)

    def signature(self, body: bytes) -> str:
        """What `X-Kaanha-Signature` says of `body`: hex HMAC-SHA256 under the secret."""
        return hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()

    def heed(self, answer: Answer, *, given_up: bool, now: datetime) -> None:
        """Learn from an attempt, the row locked: whether it is slow, fails since now, and whether it is disabled.

        Disabled at once when the receiver says that it is gone, or when a delivery is `given_up` after 24 h of
        nothing but failure.
        """
        before = self.slow, self.failing_since, self.disabled_at
        self.slow = timedelta(milliseconds=answer.milliseconds) > SLOW
        self.failing_since = None if answer.ok else self.failing_since or now
        if answer.status == GONE:
            self._disable("It answered 410 Gone: it wants no more.", now)
        elif given_up and self.failing_since and now - self.failing_since >= DISABLED_AFTER:
            self._disable("Nothing but failures for 24 hours.", now)
        if before != (self.slow, self.failing_since, self.disabled_at):
            self.save(update_fields=["slow", "failing_since", "disabled_at", "disabled_reason"])

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
        indexes = [
            models.Index(fields=["organization", "-occurred_at"], name="event_latest"),  # the event log
            models.Index(fields=["organization", "kind"], name="event_of_kind"),  # the log of deliveries, by event
        ]

    def __str__(self) -> str:
        return f"{self.kind} at {self.occurred_at:%Y-%m-%d %H:%M:%S %Z}"

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

    def said(self) -> dict[str, Any]:
        """What is sent of it, the same each time."""
        return {
            "event": self.kind,
            "organizationId": public_ids.encode(Organization.PUBLIC_KIND, self.organization_id),
            "timestamp": self.occurred_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "data": self.data,
        }

    def body(self) -> bytes:
        """The bytes of a POST of this event alone."""
        return _bytes(self.said())


def batch_body(events: Iterable[Event]) -> bytes:
    """The bytes of a POST of many events, each with the id by which it is known."""
    return _bytes({"events": [{"id": event.public_id, **event.said()} for event in events]})


def _bytes(said: dict[str, Any]) -> bytes:
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()


class Status(models.TextChoices):
    PENDING = "pending", "Pending"
    DELIVERED = "delivered", "Delivered"
    FAILED = "failed", "Failed"


class DeliveryQuerySet(OwnedQuerySet):
    def standing(self, status: str) -> Self:
        """Those in this status. The pending are told by their next attempt, too, whose index holds nobody else."""
        found = self.filter(status=status)
        return found.filter(next_attempt_at__isnull=False) if status == Status.PENDING else found

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
    # The first of the deliveries that leave in the same POST; itself where it leaves alone.
    posted_with = models.BigIntegerField(null=True)
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
            # the same of what has failed, which is seldom and asked for often; replays
            models.Index(fields=["organization", "-id"], name="delivery_failed", condition=Q(status=Status.FAILED)),
            models.Index(
                fields=["endpoint", "-id"], name="delivery_failed_of_endpoint", condition=Q(status=Status.FAILED)
            ),
        ]

    def __str__(self) -> str:
        return f"Delivery of {self.event.kind}"

    def require_replayable(self) -> None:
        """Refusal for what `DeliveryQuerySet.replayable` leaves out: on its way already, a test, with nowhere to go."""
        if self.status == Status.PENDING:
            raise Refusal("This delivery is pending: it is tried without a replay.", code="delivery_pending")
        if self.event.kind == TEST:
            raise Refusal("A test isn't replayed. Send a new one to the endpoint.", code="delivery_is_test")
        if not self.endpoint.listening:
            raise Refusal(ENDPOINT_OFF, code="endpoint_off")

    def settle(self, answer: Answer, *, attempt: int, retried: bool, now: datetime) -> bool:
        """Take in what came of the attempt of that number, the row locked; whether it changes anything.

        A success counts whenever it comes. A failure counts only for whoever holds the claim: another may be at it.
        """
        if self.status == Status.DELIVERED or (not answer.ok and self.attempts != attempt):
            return False
        self.response_code, self.milliseconds, self.lease_until = answer.status, answer.milliseconds, None
        self.reason = "" if answer.ok else (answer.error or f"It answered {answer.status}.")[:300]
        if answer.ok or not retried or self.tries > len(RETRIES) or self.status == Status.FAILED:
            self.status, self.next_attempt_at = (Status.DELIVERED if answer.ok else Status.FAILED), None
        else:
            self.next_attempt_at = now + RETRIES[self.tries - 1]
        return True

    @staticmethod
    def keep(settled: Sequence[Delivery]) -> None:
        """Write what the deliveries of one POST have settled to: a statement for each of at most five outcomes."""
        alike: dict[Any, list[Delivery]] = defaultdict(list)
        for one in settled:
            alike[one.status, one.next_attempt_at].append(one)
        columns = ("status", "reason", "response_code", "milliseconds", "lease_until", "next_attempt_at")
        for rows in alike.values():
            values = {column: getattr(rows[0], column) for column in columns}
            Delivery.objects.filter(pk__in=[row.pk for row in rows]).update(**values)


class Attempt(models.Model):
    """One POST of a delivery, and what came of it. Appended, never changed."""

    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="tried", db_index=False)
    number = models.IntegerField()
    at = models.DateTimeField()
    response_code = models.IntegerField(null=True)
    milliseconds = models.IntegerField()
    error = models.CharField(max_length=300, blank=True)
    excerpt = models.TextField(blank=True)  # how the answer begins
    events = models.SmallIntegerField(default=1)  # in this POST

    class Meta:
        constraints = [models.UniqueConstraint(fields=["delivery", "number"], name="attempt_once")]

    def __str__(self) -> str:
        return f"{self.number}: {self.response_code or self.error}"

    @property
    def ok(self) -> bool:
        return self.response_code is not None and 200 <= self.response_code < 300


def _record(events: Collection[tuple[int, str, dict[str, Any]]], *, at: datetime) -> list[int]:
    told = json.dumps(list(events), cls=DjangoJSONEncoder)
    with connection.cursor() as cursor:
        logged = [str(kind) for kind in LOGGED]
        cursor.execute(_RECORD, {"at": at, "events": told, "logged": logged, "every": BATCH_EVERY.total_seconds()})
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
  SELECT id, organization_id, kinds, sources, CASE
    WHEN batched THEN to_timestamp(ceil(extract(epoch FROM %(at)s::timestamptz) / %(every)s) * %(every)s)
    ELSE %(at)s END AS due_at
  FROM webhooks_endpoint
  WHERE active AND disabled_at IS NULL AND organization_id IN (SELECT organization_id FROM told)
), recorded AS (
  INSERT INTO webhooks_event (organization_id, kind, data, occurred_at)
  SELECT organization_id, kind, data, %(at)s FROM told
  WHERE kind = ANY(%(logged)s) OR EXISTS (SELECT FROM listening l WHERE {wanted})
  ORDER BY place RETURNING id, organization_id, kind, data
), delivered AS (
  INSERT INTO webhooks_delivery
    (organization_id, event_id, endpoint_id, status, reason, tries, attempts, next_attempt_at)
  SELECT told.organization_id, told.id, l.id, 'pending', '', 0, 0, l.due_at
  FROM recorded told JOIN listening l ON {wanted} ORDER BY told.id
)
SELECT id FROM recorded
""".replace(
    "{wanted}",
    """l.organization_id = told.organization_id AND told.kind = ANY(l.kinds) AND (l.sources = '{}'
      OR told.kind NOT LIKE 'message.%%' OR NOT told.data ? 'source' OR told.data ->> 'source' = ANY(l.sources))""",
)
