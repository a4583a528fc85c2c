"""The second factor: set up with an authenticator app, asked for after the password, with ten backup codes."""

from __future__ import annotations

import math
import secrets
from datetime import datetime
from urllib.parse import quote, urlencode

from django.db import transaction
from django.utils import timezone

from kaanha.lib.errors import Refusal
from kaanha.organizations import audit
from kaanha.organizations.models import Authenticator, BackupCode, User

ISSUER = "Kaanha"
BACKUP_CODES = 10
LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: what is written alike is one letter
LENGTH = 16  # letters of a backup code: 80 bits
ALIKE = str.maketrans({"i": "1", "l": "1", "o": "0", "-": None, " ": None})


def is_on(user: User) -> bool:
    return Authenticator.objects.filter(user=user, confirmed=True).exists()


def start(user: User, *, afresh: bool) -> Authenticator:
    """What the user's app is to be given; a new secret where `afresh`. Refusal where it is on already."""
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)  # two windows get the same
        found = Authenticator.objects.filter(user=user).first()
        if found is None:
            return Authenticator.objects.create(user=user, secret=Authenticator.new_secret())
        if found.confirmed:
            raise Refusal("Your second factor is on already. Turn it off to use another app.", code="already_on")
        if afresh:
            found.secret = Authenticator.new_secret()
            found.throttle_reset(commit=False)
            found.save()
        return found


def app_address(authenticator: Authenticator) -> str:
    """What the QR code says. Source: Google Authenticator, "Key Uri Format"."""
    asked = {"secret": authenticator.secret, "issuer": ISSUER, "algorithm": "SHA1", "digits": 6}
    label = quote(f"{ISSUER}:{authenticator.user}", safe="")
    return f"otpauth://totp/{label}?{urlencode({**asked, 'period': Authenticator.PERIOD})}"


def turn_on(user: User, code: str, *, now: datetime) -> tuple[Authenticator, list[str]]:
    """Turn it on with the first code that the app shows; the backup codes, which nobody can read again.

    Every session of the user ends. Refusal as for `take`.
    """
    authenticator = _take(user, code, now=now, confirmed=False)
    with transaction.atomic():
        Authenticator.objects.filter(pk=authenticator.pk).update(confirmed=True, confirmed_at=now)
        codes = _new_codes(authenticator)
        user.end_sessions()
        audit.record_of_person("user.second_factor_on", user)
    return authenticator, codes


def take(user: User, code: str, *, now: datetime) -> Authenticator:
    """Take a code of the app or a backup code, which is spent with it.

    Refusal `code_wrong` for any other, and `code_too_soon`, without looking at it, right after a wrong one.
    """
    return _take(user, code, now=now, confirmed=True)


def renew_codes(user: User) -> list[str]:
    """Ten new backup codes; the old ones are worth nothing."""
    with transaction.atomic():
        authenticator = Authenticator.objects.select_for_update().filter(user=user, confirmed=True).first()
        if authenticator is None:
            raise Refusal("Your second factor is off. Turn it on first.", code="not_on")
        codes = _new_codes(authenticator)
        audit.record_of_person("user.backup_codes_renewed", user)
    return codes


def turn_off(user: User) -> bool:
    """Forget app and backup codes and end every session; whether there was one that was on."""
    with transaction.atomic():
        was_on = is_on(user)
        Authenticator.objects.filter(user=user).delete()
        user.end_sessions()
        if was_on:
            audit.record_of_person("user.second_factor_off", user)
    return was_on


def reset(email: str) -> bool:
    """The same for whoever has lost phone and codes. Refusal for an unknown address."""
    user = User.objects.filter(email=email.strip().lower()).first()
    if user is None:
        raise Refusal(f"Nobody signs in as {email!r}. Check the address.", code="user_not_found")
    return turn_off(user)


def _take(user: User, code: str, *, now: datetime, confirmed: bool) -> Authenticator:
    with transaction.atomic():
        found = Authenticator.objects.select_for_update().filter(user=user, confirmed=confirmed).first()
        if found is None:
            raise Refusal("There is no second factor to give a code of. Start over.", code="not_on")
        found.user = user
        taken, wait = _judge(found, code, now=now)
    # Outside, so that the failure stays counted.
    if wait:
        raise Refusal(f"Wait {wait} s, then give the code that is shown.", code="code_too_soon")
    if not taken:
        raise Refusal("That code is wrong, or it was used before. Give the one that is shown now.", code="code_wrong")
    return found


def _judge(authenticator: Authenticator, code: str, *, now: datetime) -> tuple[bool, int]:
    """Whether the code is taken, and the seconds to wait where it isn't looked at."""
    allowed, why = authenticator.verify_is_allowed()
    if not allowed:
        return False, max(1, math.ceil((why["locked_until"] - timezone.now()).total_seconds()))
    typed = code.strip().lower().translate(ALIKE)
    if _is_of_app(typed):
        taken = authenticator.take_code(typed, now=now)
    else:
        unused = authenticator.backup_codes.filter(digest=BackupCode.digest_of(typed), used_at=None)
        taken = authenticator.confirmed and unused.update(used_at=now) == 1
    if taken:
        authenticator.throttle_reset(commit=True)
    else:
        authenticator.throttle_increment(commit=True)
    return taken, 0


def _is_of_app(typed: str) -> bool:
    return len(typed) == 6 and typed.isascii() and typed.isdigit()


def _new_codes(authenticator: Authenticator) -> list[str]:
    codes = ["".join(secrets.choice(LETTERS) for _ in range(LENGTH)) for _ in range(BACKUP_CODES)]
    authenticator.backup_codes.all().delete()
    BackupCode.objects.bulk_create(
        BackupCode(authenticator=authenticator, digest=BackupCode.digest_of(code)) for code in codes
    )
    return ["-".join(code[at : at + 4] for at in range(0, LENGTH, 4)) for code in codes]
