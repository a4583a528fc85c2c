from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand

from kaanha.simulator import commandline
from kaanha.simulator.options import add_arguments


class Command(BaseCommand):
    """The simulator under manage.py. It reads no settings and opens no database."""

    help = "Simulate Meta's WhatsApp Cloud API: rehearse broadcasts and sequences without sending anything."
    requires_system_checks = []
    requires_migrations_checks = False

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        code = commandline.run(argparse.Namespace(**options))
        if code:
            raise SystemExit(code)
