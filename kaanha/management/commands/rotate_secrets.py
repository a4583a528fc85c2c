"""`manage.py rotate_secrets`: every stored secret under the first of ENCRYPTION_KEYS."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser

from kaanha import secret_rotation
from kaanha.lib.commands import REFUSED, KaanhaCommand

LEFT = 1  # exit code when rows stand under old keys


class Command(KaanhaCommand):
    help = (
        "Encrypt every stored secret under the first of ENCRYPTION_KEYS. Safe to run twice, to stop, and while the "
        f"system works. Exit code {LEFT}: rows stand under old keys, {REFUSED}: there are secrets that no key opens."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="only count what stands under old keys")

    def handle(self, *args: Any, **options: Any) -> None:
        self.code = 0
        super().handle(*args, **options)
        if self.code:
            raise SystemExit(self.code)

    def perform(self, *, check: bool, **_: Any) -> dict[str, Any]:
        counts = secret_rotation.rotate(write=not check)
        left = sum(count.old - count.moved for count in counts)
        unreadable = sum(count.unreadable for count in counts)
        self.code = REFUSED if unreadable else LEFT if left else 0
        return {"left": left, "unreadable": unreadable, "models": [asdict(count) for count in counts]}

    def tell(self, result: dict[str, Any]) -> None:
        for one in result["models"]:
            self.stdout.write(
                f"{one['model']}: {one['rows']:,} rows, {one['old']:,} under old keys, {one['moved']:,} encrypted anew."
            )
            for row in one["named"]:
                self.stdout.write(f"  No key opens {row}.")
        self.stdout.write(self._conclusion(result))

    def _conclusion(self, result: dict[str, Any]) -> str:
        if result["unreadable"]:
            return (
                f"No key opens {result['unreadable']:,} rows: add the key that encrypted them to ENCRYPTION_KEYS, or "
                "enter these secrets anew."
            )
        if result["left"]:
            return f"{result['left']:,} rows stand under old keys. Run: python manage.py rotate_secrets"
        return "Every secret stands under the first key: the others can be removed from ENCRYPTION_KEYS."
