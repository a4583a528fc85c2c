"""`manage.py reset_second_factor`: for whoever has lost phone and backup codes."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from kaanha.lib.commands import KaanhaCommand
from kaanha.organizations import second_factor


class Command(KaanhaCommand):
    help = "Turn a user's second factor off and end the user's sessions: the password alone signs in again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email", metavar="EMAIL", help="the address that the user signs in with")

    def perform(self, *args: Any, **options: Any) -> dict[str, Any]:
        email = options["email"].strip().lower()
        return {"email": email, "wasOn": second_factor.reset(email)}

    def tell(self, result: Any) -> None:
        if result["wasOn"]:
            self.stdout.write(f"The second factor of {result['email']} is off. The password alone signs in now.")
        else:
            self.stdout.write(f"{result['email']} had no second factor.")
        self.stdout.write("Every session of this user has ended.")
