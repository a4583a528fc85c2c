"""Callbacks as they came."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import chain

from django.db import models
from django.db.models import Q

from kaanha.lib import cursors
from kaanha.whatsapp.models import MetaApp


class Callback(models.Model):
    """A body that Meta posted and signed, byte for byte. Dropped seven days after it was applied, with problems thirty.

    A number that isn't connected may have a problem with every body: they can't be kept for ever.
    """

    app = models.ForeignKey(MetaApp, on_delete=models.CASCADE, related_name="callbacks", db_index=False)
    body = models.BinaryField()
    received_at = models.DateTimeField()
    # While a process applies it; when this ends, the process is gone and another takes over.
    leased_until = models.DateTimeField(null=True)
    applied_at = models.DateTimeField(null=True)
    # What in it could not be used, and why: [{"where": …, "reason": …}, …]. For somebody to look at.
    problems = models.JSONField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["id"], name="callback_open", condition=Q(applied_at=None)),  # the work list
            # the clean-up; not problems=None, which in an index of a JSONField means JSON's null
            models.Index(fields=["applied_at"], name="callback_applied", condition=Q(problems__isnull=True)),
            models.Index(fields=["applied_at"], name="callback_troubled", condition=Q(problems__isnull=False)),
            # the admin's list
            models.Index(fields=["id"], name="callback_problems", condition=Q(problems__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"callback {self.pk} at {self.received_at:%Y-%m-%d %H:%M:%S %Z}"

    @staticmethod
    def store(app: int, body: bytes, *, at: datetime) -> None:
        """Keep a body."""
        Callback.store_many([(app, body, at)])

    @staticmethod
    def store_many(bodies: Sequence[tuple[int, bytes, datetime]]) -> None:
        """Keep bodies, each with its app and when it came: all of them or, with an error, none.

        By hand: what Django puts together for it costs more than all else that a callback takes.
        """
        with cursors.for_bytes() as cursor:
            cursor.execute(_STORE + ", ".join(["(%s, %b, %s)"] * len(bodies)), list(chain.from_iterable(bodies)))


_STORE = "INSERT INTO inbound_callback (app_id, body, received_at) VALUES "
