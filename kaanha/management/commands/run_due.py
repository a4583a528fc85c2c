"""`manage.py run_due`: what workers and beat would do, done here and now, without Redis."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from kaanha import due
from kaanha.lib.commands import KaanhaCommand
from kaanha.messaging import sending

WORDS = {
    "callbacks": "callbacks applied",
    "leases_ended": "messages given up as unconfirmed",
    "canceled": "messages of canceled broadcasts skipped",
    "receipts_matched": "receipts that found their message",
    "syncs": "syncs of templates done",
    "broadcasts_moved": "broadcasts started, finished or paused",
    "sent": "messages sent",
    "skipped": "messages skipped",
    "deferred": "messages put off",
    "webhooks_tried": "webhook deliveries tried",
}


class Command(KaanhaCommand):
    help = (
        "Do everything that is due, in this process and without Redis, until nothing is left. Safe beside running "
        "workers: the same claims hold."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--seconds", type=float, help="end after so long, even if more is due")

    def perform(self, *, seconds: float | None = None, **_: Any) -> dict[str, int]:
        try:
            done = due.everything(until=None if seconds is None else timezone.now() + timedelta(seconds=seconds))
        finally:
            sending.stop()
        return {name: done[name] for name in WORDS}

    def tell(self, result: dict[str, int]) -> None:
        for name, count in result.items():
            if count:
                self.stdout.write(f"{count:,} {WORDS[name]}.")
        if not any(result.values()):
            self.stdout.write("Nothing was due.")
