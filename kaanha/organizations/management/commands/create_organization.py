"""Create an organization."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.db import transaction

from kaanha.lib.commands import KaanhaCommand
from kaanha.lib.errors import Refusal
from kaanha.organizations import keys
from kaanha.organizations.creating import create_organization, invitation_for


class Command(KaanhaCommand):
    help = "Create an organization, optionally with its owner and an API key."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="what people read")
        parser.add_argument("--slug", help="the name used in commands (default: made of the name)")
        parser.add_argument("--timezone", default="UTC", help="a name such as Asia/Kolkata (default: UTC)")
        parser.add_argument("--owner-email", metavar="EMAIL", help="who owns it; invited if they have no account")
        parser.add_argument("--api-key", metavar="NAME", help="issue an API key of this name; it is shown once")

    def perform(self, *args: Any, **options: Any) -> dict[str, Any]:
        key_name = options["api_key"]
        if key_name is not None and not 0 < len(key_name.strip()) <= 100:
            raise Refusal("The name of an API key has 1 to 100 characters.")
        with transaction.atomic():
            organization = create_organization(
                options["name"],
                slug=options["slug"],
                timezone=options["timezone"],
                owner_email=options["owner_email"],
            )
            link = invitation_for(organization, options["owner_email"]) if options["owner_email"] else ""
            key = {"apiKey": keys.issue(organization, name=key_name.strip())[1]} if key_name else {}
        owner = {"ownerEmail": options["owner_email"].strip().lower()} if options["owner_email"] else {}
        return {
            "organization": organization.slug,
            "id": organization.public_id,
            "name": organization.name,
            "timezone": organization.timezone,
            **owner,
            **({"invitation": link} if link else {}),
            **key,
        }

    def tell(self, result: Any) -> None:
        self.stdout.write(
            f"Created {result['name']}: {result['organization']} in commands, {result['id']} in the API, "
            f"times in {result['timezone']}."
        )
        if "invitation" in result:
            self.stdout.write(f"By this link {result['ownerEmail']} becomes the owner. It is shown this once:")
            self.stdout.write(result["invitation"])
        elif "ownerEmail" in result:
            self.stdout.write(f"{result['ownerEmail']} has an account already, and is the owner.")
            self.stdout.write(f"A password is set with: python manage.py changepassword {result['ownerEmail']}")
        if "apiKey" in result:
            self.stdout.write(f"API key, shown this once: {result['apiKey']}")
