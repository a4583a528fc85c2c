"""Connect an organization with its WhatsApp account."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.core.management.base import CommandParser

from kaanha.lib.commands import KaanhaCommand
from kaanha.lib.errors import Refusal
from kaanha.organizations.models import Organization
from kaanha.whatsapp.connecting import Credentials, connect

STDIN = "-"


class Command(KaanhaCommand):
    help = (
        "Connect an organization with its WhatsApp account and numbers. Meta is asked first; nothing is written unless "
        "the token, the account and the numbers are right. Run it again to renew a token or a secret."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("organization", help="slug of the organization")
        add("--waba-id", required=True, help="id of the WhatsApp account at Meta")
        add(
            "--phone-number-id",
            action="append",
            default=[],
            dest="phone_number_ids",
            metavar="ID",
            help="id of a phone number at Meta; repeatable (default: every number of the account)",
        )
        add("--access-token", help=f"{STDIN} reads it from stdin (default: WHATSAPP_ACCESS_TOKEN of the environment)")
        add("--app-id", required=True, help="id of the app at Meta")
        add("--app-secret", help=f"{STDIN} reads it from stdin (default: WHATSAPP_APP_SECRET of the environment)")
        add("--verify-token", help="what Meta proves itself with at the callback URL (default: a random one)")
        add("--throughput", type=int, metavar="N", help="messages a second of each number (default: what Meta says)")
        add(
            "--no-check",
            action="store_false",
            dest="check",
            help="don't ask Meta; takes numbers from --phone-number-id",
        )

    def perform(self, *args: Any, **options: Any) -> dict[str, Any]:
        organization = Organization.named(options["organization"])
        credentials = Credentials(
            waba_id=options["waba_id"],
            access_token=_secret(options["access_token"], "access-token"),
            app_id=options["app_id"],
            app_secret=_secret(options["app_secret"], "app-secret"),
            verify_token=options["verify_token"],
        )
        connection = connect(
            organization,
            credentials,
            phone_number_ids=options["phone_number_ids"],
            throughput=options["throughput"],
            check=options["check"],
        )
        return connection.as_json()

    def tell(self, result: Any) -> None:
        write = self.stdout.write
        write(f"WhatsApp account {result['wabaId']} is connected to {result['organization']}.")
        for number in result["phoneNumbers"]:
            pace = f"{number['throughput']}/s, quality {number['quality']}"
            write(f"  {number['displayNumber']} (id {number['id']}): {pace}")
        limit = result["messagingLimit"]
        write(f"  messaging limit: {f'{limit:,} people a day' if limit else 'unlimited or unknown'}")
        write(f"\nEnter at Meta, App {result['appId']}, WhatsApp, Configuration:")
        write(f"  Callback URL: {result['callbackUrl']}")
        write(f"  Verify token: {result['verifyToken']}")
        for warning in result["warnings"]:
            self.stderr.write(f"Warning: {warning}")


def _secret(given: str | None, option: str) -> str:
    """The secret from the command line, stdin or the environment, in this order."""
    variable = f"WHATSAPP_{option.upper().replace('-', '_')}"
    value = (sys.stdin.readline() if given == STDIN else given or os.environ.get(variable, "")).strip()
    if not value:
        raise Refusal(f"There is no {option.replace('-', ' ')}: give it with --{option} or in {variable}.")
    return value
