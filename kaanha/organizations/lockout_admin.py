"""Failed sign-ins that count, for superusers: who is locked until when, and released."""

from __future__ import annotations

from typing import Any

from axes.models import AccessAttempt
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.decorators import action, display

from kaanha.organizations import lockout
from kaanha.organizations.owned_admin import SuperuserAdmin, chip, moment


@admin.register(AccessAttempt)
class FailedSignInAdmin(SuperuserAdmin):
    """A row for each browser at an account; what no longer counts isn't shown."""

    list_display = ("account", "address", "failures", "last", "state", "browser")
    list_display_links = None
    search_fields = ("username", "ip_address")
    search_help_text = "An account or an address"
    actions = ("release",)
    ordering = ("-attempt_time",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[AccessAttempt]:
        rows: QuerySet[AccessAttempt] = super().get_queryset(request)
        return rows.filter(attempt_time__gt=timezone.now() - lockout.LOCKED_FOR)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The rows with when each can be tried again. One query for the page: an account's rows are judged together."""
        changes = super().get_changelist_instance(request)
        changes.title = "Failed sign-ins of the last 30 minutes"
        counted = list(lockout.counted(timezone.now()))
        changes.result_list = list(changes.result_list)
        for row in changes.result_list:
            row.locked_until = lockout.end_among(counted, row.username, row.ip_address)
        return changes

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @action(description="Release: forget these failures", permissions=["view"])
    def release(self, request: HttpRequest, rows: QuerySet[AccessAttempt]) -> None:
        names = sorted({str(row.username) for row in rows})
        rows.delete()
        messages.success(request, f"Forgot the failed sign-ins of {', '.join(names)} that were selected.")

    @display(description="Account", ordering="username")
    def account(self, row: AccessAttempt) -> str:
        return str(row.username)

    @display(description="Address", ordering="ip_address")
    def address(self, row: AccessAttempt) -> str:
        return row.ip_address or "–"

    @display(description="Failures", ordering="failures_since_start")
    def failures(self, row: AccessAttempt) -> int:
        return int(row.failures_since_start)

    @display(description="Last", ordering="attempt_time")
    def last(self, row: AccessAttempt) -> str:
        return moment(row.attempt_time)

    @display(description="State")
    def state(self, row: Any) -> SafeString:
        until = row.locked_until
        return chip(f"locked until {timezone.localtime(until):%H:%M %Z}", "danger") if until else chip("counted")

    @display(description="Browser")
    def browser(self, row: AccessAttempt) -> str:
        return str(row.user_agent)[:80]
