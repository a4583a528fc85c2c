"""Events: what happened in an organization, kept as it was at that moment."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from kaanha.organizations.models import Organization, OwnedModel


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
    def record(cls, organization: Organization | int, kind: str, data: dict[str, Any], *, at: datetime) -> Event:
        """Note that `kind` (such as `broadcast.completed`) happened. Call it in the transaction that makes it so."""
        key = organization if isinstance(organization, int) else organization.pk
        return cls.objects.create(organization_id=key, kind=kind, data=data, occurred_at=at)
