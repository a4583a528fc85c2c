"""Message templates as Meta holds them, one row per language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

from django.db import models

from kaanha.lib.errors import Refusal
from kaanha.organizations.models import Organization, OwnedModel, OwnedQuerySet
from kaanha.whatsapp.cloud_api.events import language_code
from kaanha.whatsapp.models import BusinessAccount, PhoneNumber


class TemplateQuerySet(OwnedQuerySet):
    def approved(self) -> Self:
        """Templates that Meta lets us send."""
        return self.filter(status__in=MessageTemplate.SENDABLE)


class MessageTemplate(OwnedModel):
    """A template in one language. Meta decides its status; `components` stand as Meta gives them.

    PENDING ─▶ APPROVED ⇄ PAUSED ─▶ DISABLED     PENDING ─▶ REJECTED     any ─▶ DELETED (gone at Meta)
    """

    PUBLIC_KIND = "tpl"

    class Category(models.TextChoices):
        MARKETING = "MARKETING", "Marketing"
        UTILITY = "UTILITY", "Utility"
        AUTHENTICATION = "AUTHENTICATION", "Authentication"

    class Status(models.TextChoices):
        """Source: Cloud API, "Template status"."""

        APPROVED = "APPROVED", "Approved"
        PENDING = "PENDING", "In review"
        IN_APPEAL = "IN_APPEAL", "In appeal"
        FLAGGED = "FLAGGED", "Flagged"
        REJECTED = "REJECTED", "Rejected"
        PAUSED = "PAUSED", "Paused by Meta"
        DISABLED = "DISABLED", "Disabled by Meta"
        LOCKED = "LOCKED", "Locked"
        ARCHIVED = "ARCHIVED", "Archived"
        LIMIT_EXCEEDED = "LIMIT_EXCEEDED", "Limit exceeded"
        PENDING_DELETION = "PENDING_DELETION", "Being deleted"
        DELETED = "DELETED", "Deleted"

    # FLAGGED is a warning from older days: such a template is still sent.
    SENDABLE = (Status.APPROVED, Status.FLAGGED)

    class ParameterFormat(models.TextChoices):
        POSITIONAL = "POSITIONAL", "{{1}}"
        NAMED = "NAMED", "{{name}}"

    account = models.ForeignKey(BusinessAccount, on_delete=models.CASCADE, related_name="templates")
    meta_id = models.CharField(max_length=64, blank=True)
    name = models.CharField(max_length=512)
    language = models.CharField(max_length=20)
    category = models.CharField(max_length=20, choices=Category.choices)
    # An unknown status of tomorrow is kept as it comes, and isn't sendable.
    status = models.CharField(max_length=30, choices=Status.choices, default=Status.PENDING)
    parameter_format = models.CharField(
        max_length=12, choices=ParameterFormat.choices, default=ParameterFormat.POSITIONAL
    )
    components: models.JSONField[list[dict[str, Any]], list[dict[str, Any]]] = models.JSONField(default=list)
    quality = models.CharField(max_length=10, blank=True)
    rejected_reason = models.TextField(blank=True)
    synced_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[TemplateQuerySet] = TemplateQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        verbose_name = "template"
        ordering = ["name", "language"]
        constraints = [
            models.UniqueConstraint(fields=["account", "name", "language"], name="template_language_once"),
        ]
        indexes = [
            models.Index(fields=["meta_id"], name="template_meta_id")  # Meta's status callbacks
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.language})"

    @property
    def sendable(self) -> bool:
        return self.status in self.SENDABLE

    @property
    def standing(self) -> str:
        """Where it stands, in words: Template autumn_sale (en_US) is paused at Meta."""
        return f"Template {self} is {self.status.lower().replace('_', ' ')} at Meta"

    @classmethod
    def named(
        cls,
        organization: Organization,
        name: str,
        language: str | None = None,
        *,
        account: BusinessAccount | None = None,
    ) -> MessageTemplate:
        """The organization's template of that name, or the account's. Refusal when there is none, or a choice to make.

        A language may be written with a hyphen.
        """
        everywhere = cls.objects.of(organization).filter(name=name).exclude(status=cls.Status.DELETED)
        known = list(everywhere if account is None else everywhere.filter(account=account))
        found = known if language is None else in_language(known, language)
        if len(found) == 1:
            return found[0]
        raise _ambiguous(found) if found else _absent(name, known, language, organization, account)


def in_language(templates: Sequence[MessageTemplate], language: str) -> list[MessageTemplate]:
    """Those of `templates` in this language; it may be written with a hyphen."""
    exactly = [template for template in templates if template.language == language]
    return exactly or [row for row in templates if language_code(row.language) == language_code(language)]


def _languages(templates: Sequence[MessageTemplate]) -> str:
    return ", ".join(sorted({template.language for template in templates}))


def _ambiguous(found: Sequence[MessageTemplate]) -> Refusal:
    """What is left to choose: first the language, then the account, by one of its numbers."""
    if len({template.language for template in found}) > 1:
        return Refusal(
            f"Template {found[0].name!r} has several languages: {_languages(found)}. Choose one with --language.",
            code="template_language_needed",
        )
    numbers = PhoneNumber.objects.usable().filter(account__in=[template.account_id for template in found])
    listed = ", ".join(f"{number.phone_number_id} ({number})" for number in numbers.order_by("pk")) or "none yet"
    return Refusal(
        f"Template {found[0]} stands in several WhatsApp accounts. Choose the sending number with --phone-number-id: "
        f"{listed}.",
        code="template_account_needed",
    )


def _absent(
    name: str,
    known: Sequence[MessageTemplate],
    language: str | None,
    organization: Organization,
    account: BusinessAccount | None,
) -> Refusal:
    if known:
        sentence = f"Template {name!r} has no language {language!r}; it has: {_languages(known)}."
    else:
        where = f" in the number's WhatsApp account ({account})" if account else ""
        sentence = f"There is no template {name!r}{where}. Run: python manage.py sync_templates {organization.slug}"
    return Refusal(sentence, code="template_not_found")


class TemplateSync(models.Model):
    """The sync with Meta that was last asked for: one row per account, so that two can't run at once.

    asked ─▶ leased, by the worker that walks ─▶ finished, with what has changed or with a refusal
    A lease that ran out is a dead worker's: another one begins anew, as the next of `attempts`.
    """

    account = models.OneToOneField(BusinessAccount, on_delete=models.CASCADE, related_name="template_sync")
    asked_at = models.DateTimeField()
    leased_until = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    # How far the walk has come.
    pages = models.PositiveIntegerField(default=0)
    templates = models.PositiveIntegerField(default=0)
    finished_at = models.DateTimeField(null=True)
    refusal = models.TextField(blank=True)
    created = models.PositiveIntegerField(default=0)
    updated = models.PositiveIntegerField(default=0)
    unchanged = models.PositiveIntegerField(default=0)
    deleted = models.PositiveIntegerField(default=0)
    # Sentences: what is new or has another status, and what can't be stored or sent.
    changes: models.JSONField[list[str], list[str]] = models.JSONField(default=list)
    problems: models.JSONField[list[str], list[str]] = models.JSONField(default=list)

    def __str__(self) -> str:
        return f"sync of {self.account_id}, asked for at {self.asked_at:%Y-%m-%d %H:%M:%S %Z}"
