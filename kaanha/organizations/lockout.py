"""Failed sign-ins: counted by django-axes in PostgreSQL, five in a row lock for 30 minutes.

Who is locked by what, and why: docs/decisions/a-lock-is-for-an-account-at-an-address.md
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from axes.handlers.database import AxesDatabaseHandler
from axes.handlers.proxy import AxesProxyHandler
from axes.helpers import get_client_username
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth.signals import user_login_failed
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from kaanha.lib import doors
from kaanha.lib.errors import Refusal
from kaanha.organizations import audit
from kaanha.organizations.models import User

LOCKED_FOR = settings.AXES_COOLOFF_TIME
IN_A_ROW = settings.AXES_FAILURE_LIMIT  # failures of one account from one address
OF_ACCOUNT = 25  # failures of one account, from wherever
OF_ADDRESS = 100  # failures from one address, at whatever accounts
CUSTOMER = 64  # bits of an IPv6 address that name a customer: providers give each a /64 at least


def address_of(request: HttpRequest) -> str | None:
    """The address that failures are counted by: of IPv6 the network that one customer has, each of whose is his."""
    address = doors.address_of(request)
    if address is None or ":" not in address:
        return address
    return str(ipaddress.ip_network((address, CUSTOMER), strict=False).network_address)


class Handler(AxesDatabaseHandler):
    """Axes' own, with the two ceilings beside the lock."""

    def get_failures(self, request: HttpRequest, credentials: Any = None) -> int:
        """What Axes compares with its limit: the limit while it is locked. One query."""
        username = get_client_username(request, credentials)
        attempted: Any = request
        until = locked_until(username, attempted.axes_ip_address, now=attempted.axes_attempt_time)
        return IN_A_ROW if until else 0

    def user_login_failed(self, sender: Any, credentials: Any, request: Any = None, **kwargs: Any) -> None:
        refused = request.axes_locked_out
        super().user_login_failed(sender, credentials, request, **kwargs)
        if request.axes_locked_out and not refused:
            user = User.objects.filter(email=get_client_username(request, credentials)).first()
            if user is not None:  # the log has no lines of those who don't exist: anybody could write them
                audit.record_of_person("user.sign_in_locked", user)

    def clean_expired_user_attempts(self, request: Any = None, credentials: Any = None) -> int:
        """Drop what no longer counts. What another sign-in drops is left to it: they never wait."""
        stale = AccessAttempt.objects.filter(attempt_time__lte=request.axes_attempt_time - LOCKED_FOR)
        with transaction.atomic():
            mine = list(stale.select_for_update(skip_locked=True).values_list("pk", flat=True))
            return int(AccessAttempt.objects.filter(pk__in=mine).delete()[0]) if mine else 0


def counted(now: datetime) -> QuerySet[AccessAttempt]:
    """The failures that count: each row those of one browser at one account and address, dated by the last of them."""
    return AccessAttempt.objects.filter(attempt_time__gt=now - LOCKED_FOR)


def locked_until(username: str | None, address: str | None, *, now: datetime) -> datetime | None:
    """When this account may sign in from this address again; None when it may. One query."""
    rows = list(counted(now).filter(Q(username=username) | Q(ip_address=address)))
    return end_among(rows, username, address)


def end_among(rows: Iterable[AccessAttempt], username: str | None, address: str | None) -> datetime | None:
    """The same, out of rows that have been read."""
    of_account = [row for row in rows if row.username == username]
    of_address = [row for row in rows if row.ip_address == address]
    ends = (
        _end([row for row in of_account if row.ip_address == address], IN_A_ROW),
        _end(of_account, OF_ACCOUNT),
        _end(of_address, OF_ADDRESS) if address else None,
    )
    return max((end for end in ends if end), default=None)


def _end(rows: list[AccessAttempt], limit: int) -> datetime | None:
    """When so many of the rows are too old to count that the others stay below the limit."""
    left, end = sum(row.failures_since_start for row in rows), None
    for row in sorted(rows, key=lambda row: row.attempt_time):
        if left < limit:
            break
        left, end = left - row.failures_since_start, row.attempt_time + LOCKED_FOR
    return end


def require_unlocked(request: HttpRequest, username: str) -> None:
    """Refusal while it is locked; the answer to the request is the page that says until when."""
    credentials = {"username": username}
    if AxesProxyHandler.is_allowed(request, credentials):
        return
    request.axes_locked_out, request.axes_credentials = True, credentials  # type: ignore[attr-defined]
    raise Refusal("Too many failed attempts. Try again later.", code="locked")


def count_failure(request: HttpRequest, username: str) -> None:
    """A failure beside the password's, which Django tells by itself. The fifth in a row locks."""
    user_login_failed.send(sender=__name__, credentials={"username": username}, request=request)


def release(username: str) -> int:
    """Forget the account's failures, wherever they come from; how many there were."""
    rows = AccessAttempt.objects.filter(username=username.strip().lower())
    failures = sum(rows.values_list("failures_since_start", flat=True))
    rows.delete()
    return failures
