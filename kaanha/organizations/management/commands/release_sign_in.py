"""`manage.py release_sign_in`: for whoever is locked out and can't wait."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from kaanha.lib.commands import KaanhaCommand
from kaanha.organizations import lockout


class Command(KaanhaCommand):
    help = "Forget the failed sign-ins of an account, so that it may sign in at once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email", metavar="EMAIL", help="the address that was typed when signing in")

    def perform(self, *args: Any, **options: Any) -> dict[str, Any]:
        email = options["email"].strip().lower()
        return {"email": email, "failures": lockout.release(email)}

    def tell(self, result: Any) -> None:
        self.stdout.write(f"Forgot {result['failures']} failed sign-ins of {result['email']}.")
