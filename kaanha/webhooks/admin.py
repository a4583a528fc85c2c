"""The event log in the admin."""

from __future__ import annotations

import json

from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from kaanha.organizations.access import Area
from kaanha.organizations.owned_admin import ReadOnlyAdmin, moment
from kaanha.webhooks.models import Event


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    """What happened, the latest first."""

    area = Area.SETTINGS
    list_display = ("kind", "occurred")
    ordering = ("-occurred_at",)
    fields = ("kind", "occurred", "data_shown")

    @display(description="When", ordering="occurred_at")
    def occurred(self, event: Event) -> str:
        return moment(event.occurred_at)

    @display(description="Data")
    def data_shown(self, event: Event) -> SafeString:
        return format_html('<pre class="k-json">{}</pre>', json.dumps(event.data, indent=2, ensure_ascii=False))
