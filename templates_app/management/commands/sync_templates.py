"""Import message templates from Meta."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from kaanha.lib.commands import KaanhaCommand
from kaanha.lib.errors import Refusal
from kaanha.organizations.models import Organization
from kaanha.whatsapp.models import BusinessAccount
from templates_app.models import MessageTemplate
from templates_app.syncing import sync, together


class Command(KaanhaCommand):
    help = "Import an organization's message templates, with what Meta has decided about them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", help="slug of the organization")
        parser.add_argument("--name", help="only the template of this name, in all its languages")

    def perform(self, *args: Any, **options: Any) -> dict[str, Any]:
        organization, name = Organization.named(options["organization"]), options["name"]
        if name is not None and not name.strip():
            raise Refusal("--name is empty: give a template's name, or leave it out for all of them.")
        accounts = BusinessAccount.objects.of(organization).order_by("pk")
        if not accounts:
            raise Refusal(
                f"{organization.slug} has no WhatsApp account. Connect one with: "
                f"python manage.py connect_whatsapp {organization.slug}",
                code="account_not_found",
            )
        now = timezone.now()
        outcome = together([sync(account, now=now, name=name) for account in accounts])
        templates = MessageTemplate.objects.of(organization)
        if name and not templates.filter(name=name).exists():
            raise Refusal(f"Meta has no template {name!r} in this account.", code="template_not_found")
        approved = templates.approved().count()
        return {"organization": organization.slug, **asdict(outcome), "approved": approved}

    def tell(self, result: Any) -> None:
        self.stdout.write(
            f"{result['created']} created, {result['updated']} updated, {result['unchanged']} unchanged, "
            f"{result['deleted']} deleted. {result['approved']} can be sent."
        )
        for problem in result["problems"]:
            self.stdout.write(f"  {problem}")
