"""Meta apps, portfolios, business accounts and phone numbers, as far as sending and hearing need them."""

from __future__ import annotations

import secrets
from typing import ClassVar, Self

from django.conf import settings
from django.db import models
from django.urls import reverse

from kaanha.lib.errors import Refusal
from kaanha.lib.secrets import SecretField
from kaanha.organizations.models import OwnedModel, OwnedQuerySet


def new_callback_key() -> str:
    return secrets.token_urlsafe(24)


def new_verify_token() -> str:
    return secrets.token_urlsafe(24)


class MetaApp(models.Model):
    """An app at Meta. Its secret signs every callback, so it is known by the key in the callback's URL.

    One app may carry the accounts of several organizations; it belongs to the installation.
    """

    app_id = models.CharField(max_length=64, unique=True)
    secret = SecretField()
    # Accepted beside `secret` while the secret is being rotated.
    previous_secret = SecretField(blank=True, default="")
    verify_token = SecretField(default=new_verify_token)
    callback_key = models.CharField(max_length=64, unique=True, default=new_callback_key, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "Meta app"

    def __str__(self) -> str:
        return f"Meta app {self.app_id}"

    @property
    def callback_url(self) -> str:
        """What to enter at Meta as the callback URL."""
        return settings.PUBLIC_URL + reverse("callback", args=[self.callback_key])

    @property
    def secrets(self) -> list[str]:
        return [secret for secret in (self.secret, self.previous_secret) if secret]


class Portfolio(OwnedModel):
    """A business portfolio at Meta: the messaging limit belongs to it and is shared by all its numbers."""

    PUBLIC_KIND = "pf"

    name = models.CharField(max_length=200, blank=True)
    meta_id = models.CharField(max_length=64, blank=True)
    # Unique people per rolling 24 h; None is unlimited. Source: Cloud API, "Messaging limits".
    messaging_limit = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "meta_id"], name="portfolio_once")]

    def __str__(self) -> str:
        return self.name or f"Portfolio {self.meta_id or self.pk}"


class BusinessAccount(OwnedModel):
    """A WhatsApp Business Account (WABA): it owns templates and phone numbers."""

    PUBLIC_KIND = "wa"

    app = models.ForeignKey(MetaApp, on_delete=models.PROTECT, related_name="accounts")
    portfolio = models.ForeignKey(Portfolio, on_delete=models.PROTECT, related_name="accounts")
    waba_id = models.CharField("WABA id", max_length=64, unique=True)
    name = models.CharField(max_length=200, blank=True)
    access_token = SecretField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "WhatsApp account"

    def __str__(self) -> str:
        return self.name or f"WABA {self.waba_id}"


class PhoneNumberQuerySet(OwnedQuerySet):
    def usable(self) -> Self:
        return self.filter(disconnected_at=None)


class PhoneNumber(OwnedModel):
    """A number that sends."""

    PUBLIC_KIND = "pn"

    class Quality(models.TextChoices):
        GREEN = "GREEN", "High"
        YELLOW = "YELLOW", "Medium"
        RED = "RED", "Low"
        UNKNOWN = "UNKNOWN", "Not rated yet"

    account = models.ForeignKey(BusinessAccount, on_delete=models.CASCADE, related_name="numbers")
    phone_number_id = models.CharField("phone number id", max_length=64, unique=True)
    display_number = models.CharField(max_length=32)
    verified_name = models.CharField(max_length=200, blank=True)
    # Messages per second. Source: Cloud API, "Throughput": 80 by default, up to 1,000.
    throughput = models.PositiveIntegerField(default=80)
    quality = models.CharField(max_length=10, choices=Quality.choices, default=Quality.UNKNOWN)
    disconnected_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[PhoneNumberQuerySet] = PhoneNumberQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(throughput__gt=0), name="phone_number_throughput_positive")
        ]

    def __str__(self) -> str:
        return self.display_number

    @classmethod
    def sending_for(
        cls, organization: object, phone_number_id: str | None = None, *, account: BusinessAccount | None = None
    ) -> PhoneNumber:
        """The number of that id, or the first one, of the organization or the account. Refusal when there is none."""
        numbers = cls.objects.of(organization).usable().order_by("pk")  # type: ignore[arg-type]
        if account is not None:
            numbers = numbers.filter(account=account)
        if phone_number_id is not None:
            numbers = numbers.filter(phone_number_id=phone_number_id)
        found: PhoneNumber | None = numbers.first()
        if found is None:
            owner = f"WhatsApp account {account}" if account else "organization"
            missing = "connected phone number" if phone_number_id is None else f"phone number {phone_number_id!r}"
            raise Refusal(
                f"The {owner} has no {missing}. Connect one with: python manage.py connect_whatsapp",
                code="phone_number_not_found",
            )
        return found
