"""The audit log in the admin: read by owners and admins, filtered, searched and taken along as CSV. Nobody edits it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.contrib import admin, messages
from django.contrib.postgres.search import SearchQuery, SearchVector
from django.db import connection, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import DropdownFilter, RangeDateFilter
from unfold.decorators import display

from kaanha.lib import spreadsheets
from kaanha.organizations import access, audit
from kaanha.organizations.access import Area
from kaanha.organizations.models import APIKey, AuditEntry, Organization, User
from kaanha.organizations.owned_admin import Lesson, ReadOnlyAdmin, chip, moment, two_lines

KINDS = AuditEntry.ActorKind
KIND_COLORS = {KINDS.STAFF: "danger", KINDS.KEY: "info", KINDS.COMMAND: "warning", KINDS.SYSTEM: ""}
HEADER = (
    "time", "action", "by", "name", "object", "object id", "object name", "details", "ip address", "request id",
)  # fmt: skip
SIGNS = str.maketrans("", "", "'\\\0")  # would end the quotation
ROWS = 2_000  # read at a time


class ActionFilter(DropdownFilter):
    """The actions that the organization's log knows."""

    title = "action"
    parameter_name = "action"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(action, words(action)) for action in distinct("action", access.of(request).organization)]

    def queryset(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows.filter(action=self.value()) if self.value() else rows


class ActorFilter(DropdownFilter):
    """The people and keys that the organization's log knows, also those who have left."""

    title = "who"
    parameter_name = "who"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        owner = access.of(request).organization
        people = User.objects.filter(pk__in=distinct("user_id", owner)).order_by("email")
        keys = APIKey.objects.filter(pk__in=distinct("api_key_id", owner)).order_by("name", "pk")
        others = [KINDS.STAFF, KINDS.COMMAND, KINDS.SYSTEM]
        return [
            *((f"user-{user.pk}", user.email) for user in people),
            *((f"api_key-{key.pk}", f"API key {key}") for key in keys),
            *((f"actor_kind-{kind}", str(kind.label)) for kind in others),
        ]

    def queryset(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        known = {value for value, _ in self.lookup_choices}
        column, _, value = (self.value() or "").partition("-")
        return rows.filter(**{column: value}) if f"{column}-{value}" in known else rows


class DayFilter(RangeDateFilter):
    """Days as the organization's clocks have them, both included."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        zone = access.of(request).zone
        since, until = (self._day(f"{self.parameter_name}_{end}") for end in ("from", "to"))
        if since:
            queryset = queryset.filter(at__gte=datetime.combine(since, time(), zone))
        if until:
            queryset = queryset.filter(at__lt=datetime.combine(until + timedelta(days=1), time(), zone))
        return queryset

    def _day(self, name: str) -> date | None:
        """The day that was chosen; what is none filters nothing."""
        try:
            day = date.fromisoformat(str(self.used_parameters.get(name, "")))
        except ValueError:
            return None
        return day if 1 < day.year < date.max.year else None


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    area = Area.SETTINGS
    empty = Lesson(
        "Nothing is noted yet",
        "The audit log says who changed what, and when: settings, members, keys, contacts, campaigns. Lines "
        "come by themselves.",
    )
    list_display = ("when", "who", "what", "on", "more")
    several = "audit entries"
    list_display_links = ("when",)
    sortable_by: Any = ()  # any other order would sort a million lines
    ordering = ("-at", "-id")
    list_filter: Any = (ActorFilter, ActionFilter, ("at", DayFilter))
    search_fields = ("actor_name", "object_label", "object_id")
    search_help_text = "The beginning of words: a name, an e-mail address, an id."
    list_before_template = "kaanha/audit_list_head.html"
    fields = ("when", "what", "who", "on", "object_id", "details_shown", "ip", "request_id")

    def own_pages(self) -> dict[str, tuple[str, Callable[..., HttpResponse]]]:
        return {"export": ("export/", self.export_view)}  # type: ignore[dict-item]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).order_by("-at", "-id")

    def get_search_results(
        self, request: HttpRequest, rows: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Lines in which every word that was typed begins a word. By the index `audit_words`."""
        # Of an address the part before the @: the index has addresses as one word each.
        parts = [part.partition("@")[0].translate(SIGNS) for part in search_term.split()]
        typed = [part for part in parts if any(map(str.isalnum, part))]
        if not typed:
            return rows, False
        query = " & ".join(f"'{word}':*" for word in typed)  # quoted: no sign in it is an operator
        found = SearchVector("actor_name", "object_label", "object_id", config="simple")
        asked = SearchQuery(query, search_type="raw", config="simple")
        return rows.annotate(words=found).filter(words=asked), False

    def export_view(self, request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
        """The lines that the list's filters leave, the latest first. The download is a line of the log itself."""
        current = self.require(request, change=False)
        if current.organization is None:
            messages.info(request, "Choose the organization whose log you want first.")
            return redirect("admin:organizations_organization_choose")
        rows = self.get_changelist_instance(request).get_queryset(request)
        with transaction.atomic():
            audit.record("export.downloaded", current.organization, what="audit log", filters=request.GET.dict())
        name = f"audit-{current.organization.slug}-{timezone.localdate():%Y-%m-%d}.csv"
        return spreadsheets.download(name, HEADER, cells(rows, current.organization.zone))

    @display(description="When")
    def when(self, entry: AuditEntry) -> str:
        return moment(entry.at)

    @display(description="Who")
    def who(self, entry: AuditEntry) -> SafeString | str:
        if entry.actor_kind == KINDS.PERSON:
            return entry.actor_name
        label = chip(entry.get_actor_kind_display(), KIND_COLORS[KINDS(entry.actor_kind)])
        return format_html("{} {}", entry.actor_name, label)

    @display(description="Did")
    def what(self, entry: AuditEntry) -> str:
        return words(entry.action)

    @display(description="What")
    def on(self, entry: AuditEntry) -> SafeString:
        return two_lines(entry.object_label or "–", entry.object_kind)

    @display(description="Details")
    def more(self, entry: AuditEntry) -> str:
        return ", ".join(f"{name}: {_plain(value)}" for name, value in entry.details.items() if value) or "–"

    @display(description="Details")
    def details_shown(self, entry: AuditEntry) -> SafeString | str:
        shown = json.dumps(entry.details, indent=2, ensure_ascii=False)
        return format_html('<pre class="k-json">{}</pre>', shown) if entry.details else "–"


def words(action: str) -> str:
    """An action as one reads it: `member.role_changed` is "Member: role changed"."""
    noun, _, verb = action.partition(".")
    return f"{noun.capitalize()}: {verb.replace('_', ' ')}"


def cells(rows: QuerySet[Any], zone: ZoneInfo) -> Iterator[tuple[str, ...]]:
    """The lines as cells, read a few thousand at a time."""
    for entry in rows.iterator(chunk_size=ROWS):
        yield (
            entry.at.astimezone(zone).isoformat(timespec="seconds"),
            entry.action,
            entry.get_actor_kind_display(),
            entry.actor_name,
            entry.object_kind,
            entry.object_id,
            entry.object_label,
            json.dumps(entry.details, ensure_ascii=False) if entry.details else "",
            entry.ip or "",
            entry.request_id,
        )


def distinct(column: str, organization: Organization | None) -> list[Any]:
    """The values of an indexed column in the organization's log, in order; one look into the index for each.

    DISTINCT would read every line. None for all organizations together, where no index leads.
    """
    if organization is None:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_DISTINCT.format(column=connection.ops.quote_name(column)), {"organization": organization.pk})
        return [value for (value,) in cursor.fetchall()]


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


_DISTINCT = """
WITH RECURSIVE known AS (
    (SELECT {column} AS value FROM organizations_auditentry
     WHERE organization_id = %(organization)s AND {column} IS NOT NULL ORDER BY {column} LIMIT 1)
    UNION ALL
    SELECT (SELECT {column} FROM organizations_auditentry
            WHERE organization_id = %(organization)s AND {column} > known.value ORDER BY {column} LIMIT 1)
    FROM known WHERE known.value IS NOT NULL
)
SELECT value FROM known WHERE value IS NOT NULL
"""
