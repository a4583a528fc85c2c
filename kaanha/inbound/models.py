"""Callbacks as they came."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from kaanha.whatsapp.models import MetaApp


class Callback(models.Model):
    """A body that Meta posted and signed, byte for byte. Applied bodies are dropped after seven days."""

    app = models.ForeignKey(MetaApp, on_delete=models.CASCADE, related_name="callbacks", db_index=False)
    body = models.BinaryField()
    received_at = models.DateTimeField()
    # While a process applies it; when this ends, the process is gone and another takes over.
    leased_until = models.DateTimeField(null=True)
    applied_at = models.DateTimeField(null=True)
    # What in it could not be used, and why: [{"where": …, "reason": …}, …]. Kept until somebody has looked.
    problems = models.JSONField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["id"], name="callback_open", condition=Q(applied_at=None)),  # the work list
            models.Index(fields=["applied_at"], name="callback_applied", condition=Q(problems=None)),  # the clean-up
            models.Index(fields=["id"], name="callback_problems", condition=Q(problems__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"callback {self.pk} at {self.received_at:%Y-%m-%d %H:%M:%S}"
