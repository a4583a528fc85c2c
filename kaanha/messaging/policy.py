"""May this go to this person now? Judged for each contact in the moment of claiming."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.conf import settings

from contacts.models import first_name
from kaanha.messaging.models import Dispatch, SkipReason
from templates_app.models import MessageTemplate

NOT_MARKETING = frozenset({MessageTemplate.Category.UTILITY, MessageTemplate.Category.AUTHENTICATION})


def is_marketing(category: str) -> bool:
    """Whether the rules for MARKETING apply; they do to a category of tomorrow, too."""
    return category not in NOT_MARKETING


def lane(category: str) -> str:
    """The lane in which a template of `category` travels."""
    return Dispatch.Lane.MARKETING if is_marketing(category) else Dispatch.Lane.UTILITY


def is_capped(category: str, kind: str) -> bool:
    """Whether the frequency cap counts for a template of `category` that a dispatch of `kind` sends."""
    return is_marketing(category) and kind != Dispatch.Kind.TEST


@dataclass(frozen=True, slots=True)
class Addressee:
    """A contact as it is in the moment of claiming."""

    id: int
    phone: str | None
    country: str
    name: str
    email: str
    opted_in: bool
    deleted_at: datetime | None
    marketing_opted_out_at: datetime | None
    attributes: dict[str, Any]

    def values(self) -> dict[str, str]:
        """What variables may be filled with: the attributes by name, the contact's own fields above them."""
        own = {"name": self.name, "first_name": first_name(self.name), "email": self.email}
        attributes = self.attributes if isinstance(self.attributes, dict) else {}
        free = {str(name): _text(value) for name, value in attributes.items()}
        return free | {f"attributes.{name}": value for name, value in free.items()} | own | {"phone": self.phone or ""}


def _text(value: object) -> str:
    """An attribute as people write it: nothing for null, and numbers without an exponent or an empty fraction."""
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else format(Decimal(repr(value)), "f")
    return "" if value is None else str(value)


def objection(addressee: Addressee | None, category: str, *, capped: bool) -> SkipReason | None:
    """Why a template of `category` may not go to `addressee`; None if it may.

    Consent counts for every category; Meta's own marketing switch, the country rule and the cap for MARKETING only.
    """
    if addressee is None or addressee.deleted_at is not None:
        return SkipReason.DELETED
    if not addressee.opted_in:
        return SkipReason.OPTED_OUT
    if not addressee.phone:
        return SkipReason.INVALID_PHONE
    if not is_marketing(category):
        return None
    if addressee.marketing_opted_out_at is not None:
        return SkipReason.MARKETING_OPTED_OUT
    if addressee.country in settings.MARKETING_BLOCKED_COUNTRIES:
        return SkipReason.COUNTRY_BLOCKED
    return SkipReason.FREQUENCY_CAP if capped else None
