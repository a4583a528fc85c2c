"""Signing in, in two steps where a second factor is on; how long a session lives, and what it has proven."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import authenticate, login, logout, update_session_auth_hash
from django.db import connection, transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from kaanha.lib.errors import Refusal
from kaanha.organizations import access, audit, lockout, second_factor
from kaanha.organizations.models import Authenticator, Organization, User

BACKEND = "django.contrib.auth.backends.ModelBackend"
PROVEN = "second_factor"  # in the session: the second factor that it has shown
STARTED = "signing_in"  # in the session: whose password was right, and whose code is awaited
CODE_AWAITED_FOR = timedelta(minutes=10)


@contextmanager
def one_at_a_time(username: str) -> Iterator[None]:
    """Judge one attempt at an account after the other, or a hundred at once would all come before the first failure."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"sign-in {username}"])
        yield


def limit_session(sender: Any, request: HttpRequest, **_: Any) -> None:
    """End the session 24 h from now. A fixed time: saving a session would otherwise count its age anew."""
    request.session.set_expiry(timezone.now() + timedelta(seconds=settings.SESSION_COOKIE_AGE))


def begin(request: HttpRequest, user: User, *, then: str, now: datetime) -> bool:
    """Sign in whoever has given the right password; False where a code is to be given first."""
    if second_factor.is_on(user):
        request.session[STARTED] = {
            "user": user.pk,
            "hash": user.get_session_auth_hash(),
            "until": (now + CODE_AWAITED_FOR).timestamp(),
            "then": then,
        }
        return False
    login(request, user, backend=BACKEND)
    return True


def awaited(request: HttpRequest, *, now: datetime) -> tuple[User | None, str]:
    """Whose code is awaited, and where it leads; nobody's when it took too long or the password has changed."""
    started = request.session.get(STARTED, {})
    if not started or started["until"] <= now.timestamp():
        return None, ""
    user = User.objects.filter(pk=started["user"], is_active=True).first()
    if user is None or not constant_time_compare(started["hash"], user.get_session_auth_hash()):
        return None, ""
    return user, started["then"]


def finish(request: HttpRequest, user: User, code: str, *, now: datetime) -> None:
    """Sign in with the code. Refusal for a wrong one, and while it is locked."""
    authenticator = check_code(request, user, code, now=now)
    login(request, user, backend=BACKEND)
    request.session.pop(STARTED, None)
    request.session[PROVEN] = authenticator.pk


def check_code(request: HttpRequest, user: User, code: str, *, now: datetime) -> Authenticator:
    """Take the code. A wrong one counts as a failed sign-in."""
    lockout.require_unlocked(request, user.email)
    try:
        return second_factor.take(user, code, now=now)
    except Refusal as refusal:
        if refusal.code == "code_wrong":
            lockout.count_failure(request, user.email)
        raise


def check_password(request: HttpRequest, user: User, password: str) -> None:
    """Refusal unless it is the user's password. A wrong one counts as a failed sign-in."""
    if authenticate(request, username=user.email, password=password) is None:
        raise Refusal("That password is wrong.", code="password_wrong")


def turn_on(request: HttpRequest, user: User, code: str, *, now: datetime) -> list[str]:
    """Turn the second factor on: this session has shown it, and the user's others end. The backup codes."""
    authenticator, codes = second_factor.turn_on(user, code, now=now)
    update_session_auth_hash(request, user)
    request.session[PROVEN] = authenticator.pk
    return codes


def turn_off(request: HttpRequest, user: User) -> None:
    """Turn the second factor off. The user's other sessions end."""
    second_factor.turn_off(user)
    update_session_auth_hash(request, user)
    request.session.pop(PROVEN, None)


def sign_out_everywhere(request: HttpRequest, user: User) -> None:
    """End every session of the user, this one too."""
    with transaction.atomic():
        user.end_sessions()
        audit.record_of_person("user.signed_out_everywhere", user)
    logout(request)


def lacks_second_factor(request: HttpRequest) -> bool:
    """Whether the organization that the request works in wants a second factor, and this session has shown none.

    A superuser sees all organizations, and needs one as soon as any of them wants it. No query of its own for members,
    nor once it has been shown; one for superusers.
    """
    if not request.user.is_authenticated or PROVEN in request.session:
        return False
    current = access.of(request)
    if current.superuser:
        return Organization.objects.filter(second_factor_required=True).exists()
    return current.organization is not None and current.organization.second_factor_required
