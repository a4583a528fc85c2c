"""Creating organizations, with what they need to begin."""

from __future__ import annotations

import difflib
import zoneinfo
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email, validate_slug
from django.db import IntegrityError, transaction
from django.utils.text import slugify
from django.utils.timezone import now

from kaanha.lib.errors import Refusal
from kaanha.organizations import audit, invitations
from kaanha.organizations.models import Membership, Organization, Role, User

EMAIL = 254  # characters that a user's address may have


def create_organization(
    name: str, *, slug: str | None = None, timezone: str = "UTC", owner_email: str | None = None
) -> Organization:
    """A new organization, with `owner_email` as its owner. Refusal for a slug that is taken or a timezone unknown.

    Who has no account becomes the owner by an invitation: see `invitation_for`.
    """
    name = name.strip()
    if not 0 < len(name) <= 200 or not name.isprintable():
        raise Refusal("The name of an organization has 1 to 200 characters, all on one line.")
    chosen = slug if slug is not None else slugify(name)[:80].strip("-_")
    _check_slug(name, chosen)
    _check_timezone(timezone)
    email = _checked_email(owner_email) if owner_email else None
    try:
        with transaction.atomic():
            organization = Organization.objects.create(name=name, slug=chosen, timezone=timezone)
            audit.record("organization.created", organization)
            if email:
                _let_in(organization, email)
    except IntegrityError as error:  # somebody else was faster
        raise _taken(chosen) from error
    return organization


def _check_slug(name: str, slug: str) -> None:
    if not slug:
        raise Refusal(f"No slug can be made of the name {name!r}: choose one with --slug, such as --slug my-shop.")
    try:
        validate_slug(slug)
    except ValidationError as error:
        raise Refusal(f"{slug!r} is no slug: use letters, digits, - and _ only, such as my-shop.") from error
    if len(slug) > 80:
        raise Refusal("A slug has at most 80 characters.")
    if Organization.objects.filter(slug=slug).exists():
        raise _taken(slug)


def _taken(slug: str) -> Refusal:
    return Refusal(f"The slug {slug!r} is taken: choose another one with --slug.", code="slug_taken")


def _check_timezone(name: str) -> None:
    known = zoneinfo.available_timezones()
    if name in known:
        return
    by_folded = {zone.casefold(): zone for zone in sorted(known)}
    wanted = name.strip().casefold().replace(" ", "_")
    same_city = [zone for folded, zone in by_folded.items() if wanted and folded.rpartition("/")[2] == wanted]
    close = [by_folded[folded] for folded in difflib.get_close_matches(wanted, by_folded, n=3)]
    nearest = ", ".join(dict.fromkeys([*same_city, *close])) or "Asia/Kolkata, Europe/Madrid, UTC"
    raise Refusal(f"{name!r} is not a known timezone. Use one such as: {nearest}.", code="timezone_unknown")


def _checked_email(email: str) -> str:
    email = email.strip().lower()
    try:
        validate_email(email)
    except ValidationError as error:
        raise Refusal(f"{email!r} is no e-mail address.", code="email_invalid") from error
    if len(email) > EMAIL:
        raise Refusal(f"The e-mail address has more than {EMAIL} characters.", code="email_invalid")
    return email


def invitation_for(organization: Organization, email: str) -> str:
    """The link by which the owner of a new organization comes in; empty for who is in already."""
    email = _checked_email(email)
    if Membership.objects.of(organization).filter(user__email=email).exists():
        return ""
    told: dict[str, Any] = {"by_role": Role.OWNER, "by": None, "now": now()}
    _, token = invitations.invite(organization, email, Role.OWNER, **told)
    return invitations.link_of(token)


def _let_in(organization: Organization, email: str) -> None:
    """Make whoever has an account of that address the owner."""
    user = User.objects.filter(email=email).first()
    if user is None:
        return
    if not user.is_staff:
        user.is_staff = True
        user.save(update_fields=["is_staff"])
    membership = Membership.objects.create(organization=organization, user=user, role=Role.OWNER)
    audit.record("member.joined", membership, role=Role.OWNER)
