"""Events: what happened in an organization, kept as it was at that moment."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, models

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

    @classmethod
    def record_many(cls, events: Collection[tuple[int, str, dict[str, Any]]], *, at: datetime) -> None:
        """Note many at once, each as (organization, kind, data), in one statement."""
        if events:
            with connection.cursor() as cursor:
                cursor.execute(_RECORD, [at, json.dumps(list(events), cls=DjangoJSONEncoder)])


# As one text: an array of texts is escaped letter by letter.
_RECORD = """
INSERT INTO webhooks_event (organization_id, kind, data, occurred_at)
SELECT (e ->> 0)::bigint, e ->> 1, e -> 2, %s FROM jsonb_array_elements(%s::jsonb) AS e
"""
