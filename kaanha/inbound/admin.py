"""Callbacks of which something could not be used, for superusers."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from kaanha.inbound.models import Callback
from kaanha.organizations.owned_admin import SuperuserAdmin, moment

SHOWN = 100_000  # bytes of a body that a page shows


@admin.register(Callback)
class CallbackAdmin(SuperuserAdmin):
    """Kept for thirty days, to be looked at. Bodies hold what people wrote, so nobody below a superuser sees them."""

    list_display = ("received", "app", "applied", "first_problem")
    list_select_related = ("app",)
    ordering = ("-id",)
    fields = ("received", "app", "applied", "problems_shown", "body_shown")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Callback]:
        rows: QuerySet[Callback] = super().get_queryset(request).filter(problems__isnull=False)
        return rows if request.resolver_match and "object_id" in request.resolver_match.kwargs else rows.defer("body")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @display(description="Received", ordering="received_at")
    def received(self, callback: Callback) -> str:
        return moment(callback.received_at)

    @display(description="Applied")
    def applied(self, callback: Callback) -> str:
        return moment(callback.applied_at, "not yet")

    @display(description="First problem")
    def first_problem(self, callback: Callback) -> str:
        first = callback.problems[0] if callback.problems else {}
        return str(first.get("reason", first) if isinstance(first, dict) else first)

    @display(description="Problems")
    def problems_shown(self, callback: Callback) -> SafeString:
        return _json(callback.problems)

    @display(description="Body")
    def body_shown(self, callback: Callback) -> SafeString:
        text = bytes(callback.body)[:SHOWN].decode(errors="replace")
        try:
            return _json(json.loads(text))
        except ValueError:
            return format_html('<pre class="k-json">{}</pre>', text)


def _json(value: Any) -> SafeString:
    return format_html('<pre class="k-json">{}</pre>', json.dumps(value, indent=2, ensure_ascii=False))
