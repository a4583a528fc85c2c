"""`manage.py demo`: a CSV, three broadcasts, a simulated WhatsApp, and a check of every number."""

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Send three broadcasts from a sample CSV to a simulated WhatsApp and check every number; ends by itself."
    requires_system_checks: tuple[str, ...] = ()

    def handle(self, **_: Any) -> None:
        os.execv(sys.executable, [sys.executable, "-m", "kaanha.demo"])  # noqa: S606
