"""Heartbeats."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import ClassVar, Self

from django.db import models

INTERVAL = timedelta(seconds=10)  # between two beats
SILENT = timedelta(seconds=45)  # four beats missed: the process hangs, or has died
FORGOTTEN = timedelta(days=1)  # a process that is silent for so long isn't coming back


class HeartbeatQuerySet(models.QuerySet["Heartbeat"]):
    def alive(self, now: datetime) -> Self:
        """Processes that were heard of lately."""
        return self.filter(at__gt=now - SILENT)

    def silent(self, now: datetime) -> Self:
        """Processes that ended without a word, or hang."""
        return self.exclude(at__gt=now - SILENT)


class Heartbeat(models.Model):
    """When a process last said that it lives. A row for each name; those that say goodbye take theirs with them."""

    class Kind(models.TextChoices):
        BEAT = "beat", "Beat"
        WORKER = "worker", "Worker"

    kind = models.CharField(max_length=10, choices=Kind.choices)
    # The host and the worker: two on one machine have two names.
    name = models.CharField(max_length=200)
    started_at = models.DateTimeField()
    at = models.DateTimeField()
    # What it does at the moment, where that isn't the usual: "Redis is away: …".
    note = models.CharField(max_length=200, blank=True)
    # The lanes that a worker serves.
    lanes = models.JSONField(default=list)

    objects: ClassVar[HeartbeatQuerySet] = HeartbeatQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [models.UniqueConstraint(fields=["kind", "name"], name="heartbeat_once")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.name}"
