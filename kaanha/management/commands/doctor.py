"""`manage.py doctor`: what is wrong here, and what to do about it."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from kaanha import diagnosis
from kaanha.lib.commands import KaanhaCommand

ILL = 1  # exit code when something needs a person; 2 when it can't look


class Command(KaanhaCommand):
    help = (
        f"Look at the whole installation and say what is wrong and what to do. Exit code 0: healthy, {ILL}: something "
        "needs a person, 2: PostgreSQL can't be asked."
    )
    requires_system_checks: tuple[str, ...] = ()

    def handle(self, *args: Any, **options: Any) -> None:
        self.ok = True
        super().handle(*args, **options)
        if not self.ok:
            raise SystemExit(ILL)

    def perform(self, **_: Any) -> dict[str, Any]:
        found = diagnosis.examine(now=timezone.now())
        self.ok = found.ok
        return found.as_json()

    def tell(self, result: dict[str, Any]) -> None:
        for finding in result["findings"]:
            self.stdout.write(f"{finding['severity'].upper()}  {finding['message']}\n    {finding['action']}")
        if result["ok"]:
            self.stdout.write("All is well.")
