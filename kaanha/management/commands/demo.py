"""`manage.py demo`: a CSV, three broadcasts, a sequence, a simulated WhatsApp, and a check of every number."""

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Three broadcasts and a sequence to a simulated WhatsApp, every number checked; ends by itself."
    requires_system_checks: tuple[str, ...] = ()

    def handle(self, **_: Any) -> None:
        os.execv(sys.executable, [sys.executable, "-m", "kaanha.demo"])  # noqa: S606
