"""Broadcasts and the law of their life."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Self

from django.db import models
from django.db.models import Q

from contacts.models import Tag
from kaanha.lib import states
from kaanha.lib.errors import Refusal
from kaanha.messaging.models import Dispatch
from kaanha.organizations.models import OwnedModel, OwnedQuerySet, User
from kaanha.whatsapp.models import PhoneNumber
from templates_app.models import MessageTemplate


class Status(models.TextChoices):
    DRAFT = "draft", "Draft"
    SCHEDULED = "scheduled", "Scheduled"
    QUEUED = "queued", "Queued"
    SENDING = "sending", "Sending"
    PAUSED = "paused", "Paused"
    COMPLETED = "completed", "Completed"
    CANCELED = "canceled", "Canceled"
    FAILED = "failed", "Failed"


TRANSITIONS: dict[str, frozenset[Status]] = {
    Status.DRAFT: frozenset({Status.SCHEDULED, Status.QUEUED, Status.CANCELED}),
    Status.SCHEDULED: frozenset({Status.DRAFT, Status.QUEUED, Status.PAUSED, Status.CANCELED, Status.FAILED}),
    Status.QUEUED: frozenset({Status.SENDING, Status.PAUSED, Status.CANCELED, Status.FAILED}),
    Status.SENDING: frozenset({Status.COMPLETED, Status.PAUSED, Status.CANCELED, Status.FAILED}),
    Status.PAUSED: frozenset({Status.SCHEDULED, Status.QUEUED, Status.CANCELED, Status.FAILED}),
    Status.COMPLETED: frozenset(),
    Status.CANCELED: frozenset(),
    Status.FAILED: frozenset(),
}


class PauseReason(models.TextChoices):
    OPERATOR = "operator", "Paused by an operator"
    LATE = "late", "Fell due while the system was down"
    TEMPLATE = "template", "Trouble with the template"
    ACCOUNT = "account", "Trouble with the WhatsApp account"
    NOTHING_TO_DO = "nothing_to_do", "Nothing could be sent for a while"
    SAFETY = "safety", "Too many failures"


class BroadcastQuerySet(OwnedQuerySet):
    def due(self, now: datetime) -> Self:
        """Scheduled broadcasts whose time has come."""
        return self.filter(status=Status.SCHEDULED, scheduled_at__lte=now)

    def queued_in_order(self) -> Self:
        """Queued broadcasts, those that have waited longest first."""
        return self.filter(status=Status.QUEUED).order_by("queued_at", "pk")

    def move(self, target: Status, **changes: Any) -> int:
        """Move those that may go to `target` there, with `changes`; how many moved."""
        return self.filter(status__in=states.sources(TRANSITIONS, target)).update(status=target, **changes)


class Broadcast(OwnedModel):
    """A template for everybody who holds one of the tags.

        draft ──send──▶ queued ──lock──▶ sending ──▶ completed
          └─schedule─▶ scheduled ──due──▶ queued ◀─resume── paused ◀── sending
                           ▲─────── resume, where its time lies ahead ──┘
         scheduled, queued ──▶ paused      any before completed ──▶ canceled      failed: nothing can repair it

    Its recipients are the messages of its dispatch, frozen when sending first starts.
    """

    PUBLIC_KIND = "bc"

    name = models.CharField(max_length=200)
    template = models.ForeignKey(MessageTemplate, on_delete=models.PROTECT, related_name="broadcasts")
    phone_number = models.ForeignKey(PhoneNumber, on_delete=models.PROTECT, related_name="broadcasts")
    tags: models.ManyToManyField[Tag, Any] = models.ManyToManyField(Tag, related_name="+", blank=True)
    excluded_tags: models.ManyToManyField[Tag, Any] = models.ManyToManyField(Tag, related_name="+", blank=True)
    # How the template's variables are filled:
    # {"body.1": {"field": "name", "fallback": "there"}, "body.2": {"text": "30 November"}}
    variables = models.JSONField(default=dict, blank=True)

    status = models.CharField(max_length=10, choices=Status.choices, default=Status.DRAFT, editable=False)
    scheduled_at = models.DateTimeField(null=True, blank=True)
    queued_at = models.DateTimeField(null=True, editable=False)
    started_at = models.DateTimeField(null=True, editable=False)
    completed_at = models.DateTimeField(null=True, editable=False)
    paused_at = models.DateTimeField(null=True, editable=False)
    pause_reason = models.CharField(max_length=20, choices=PauseReason.choices, blank=True, editable=False)
    # In words: what happened and what to do.
    status_detail = models.TextField(blank=True, editable=False)
    resume_at = models.DateTimeField(null=True, editable=False)
    # The funnel when the safety stop last looked: how many were sent or failed, and how many failed.
    watched_settled = models.PositiveIntegerField(default=0, editable=False)
    watched_failed = models.PositiveIntegerField(default=0, editable=False)
    dispatch = models.OneToOneField(
        Dispatch, on_delete=models.PROTECT, null=True, editable=False, related_name="broadcast"
    )
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, editable=False, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects: ClassVar[BroadcastQuerySet] = BroadcastQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [
            # With Redis gone, too, one broadcast of an organization sends at a time.
            models.UniqueConstraint(
                fields=["organization"], condition=Q(status=Status.SENDING), name="broadcast_one_sending"
            ),
            models.CheckConstraint(condition=Q(status__in=Status.values), name="broadcast_status_known"),
            models.CheckConstraint(
                condition=~Q(status=Status.SCHEDULED) | Q(scheduled_at__isnull=False), name="broadcast_scheduled_when"
            ),
            models.CheckConstraint(
                condition=~Q(status=Status.SENDING) | Q(dispatch__isnull=False), name="broadcast_sending_dispatch"
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "-created_at"], name="broadcast_newest"),  # the list
            models.Index(  # the sweep
                fields=["status", "scheduled_at"],
                name="broadcast_open",
                condition=Q(status__in=[Status.SCHEDULED, Status.QUEUED, Status.SENDING, Status.PAUSED]),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def version(self) -> str:
        """What changes whenever the draft is written anew."""
        return f'"{self.updated_at.timestamp():.6f}"'

    def time_ahead(self, now: datetime) -> datetime | None:
        """The time that it was scheduled for, where it hasn't started and that time hasn't come."""
        ahead = self.dispatch_id is None and self.scheduled_at is not None and self.scheduled_at > now
        return self.scheduled_at if ahead else None

    def move(self, target: Status, *, source: Status | None = None, **changes: Any) -> None:
        """Move this broadcast to `target` if its state still allows, and is still `source` where an act asks for one.

        Refusal with its actual state otherwise.
        """
        itself = type(self).objects.filter(pk=self.pk)
        if source is not None:
            itself = itself.filter(status=source)
        if not itself.move(target, **changes):
            self.refresh_from_db()
            raise Refusal(
                f"Broadcast {self.name!r} is {self.get_status_display().lower()}: "
                f"it can't become {target.label.lower()}.",
                code="wrong_status",
            )
        self.refresh_from_db()


class Trial(models.Model):
    """A test of a broadcast's message, to one contact: a dispatch of its own, outside of the broadcast's numbers."""

    broadcast = models.ForeignKey(Broadcast, on_delete=models.CASCADE, related_name="trials")
    dispatch = models.OneToOneField(Dispatch, on_delete=models.CASCADE, related_name="trial")

    def __str__(self) -> str:
        return f"Test of {self.broadcast}"
