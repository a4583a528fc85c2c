"""Templates in the admin: as Meta has them, with a preview of the message."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import action, display

from kaanha.lib.errors import Refusal
from kaanha.organizations import access
from kaanha.organizations.access import Access, Area
from kaanha.organizations.owned_admin import CONFIRM, MAY_NOT, Emptiness, Lesson, ReadOnlyAdmin, chip, moment, two_lines
from kaanha.whatsapp.models import BusinessAccount
from templates_app import asked_syncs, reasons, rendering
from templates_app.models import MessageTemplate, TemplateSync

Status = MessageTemplate.Status
STATUS_COLORS: dict[str, str] = {
    Status.APPROVED: "success",
    Status.FLAGGED: "warning",
    Status.PENDING: "info",
    Status.IN_APPEAL: "info",
    Status.PAUSED: "warning",
    Status.REJECTED: "danger",
    Status.DISABLED: "danger",
    Status.DELETED: "danger",
}
UNTAKEN = timedelta(seconds=20)  # after which a sync that waits isn't only late
CATEGORY_COLORS = {"MARKETING": "primary", "UTILITY": "info", "AUTHENTICATION": "warning"}

NOT_CONNECTED = (
    "Connect WhatsApp, then sync: the templates of your account appear here, with what Meta has decided about each."
)


def bubble(template: MessageTemplate, values: dict[str, str] | None = None, *, compact: bool = False) -> SafeString:
    """The message as the person sees it; variables without a value stand as {{name}}, or as their example.

    `compact` is for lists: the beginning of a long text.
    """
    slots = rendering.slots(template.components, template.parameter_format)
    examples = {slot.key: slot.example for slot in slots if slot.example and slot.key != "header"}
    shown = rendering.preview(template.components, examples if values is None else values)
    shown["body"] = _formatted(shown["body"])
    return render_to_string("kaanha/bubble.html", {"message": shown, "compact": compact})


@admin.register(MessageTemplate)
class MessageTemplateAdmin(ReadOnlyAdmin):
    area = Area.CAMPAIGNS
    list_display = ("name_and_language", "message", "category_chip", "status_and_reason", "synced")
    empty = Lesson(
        "No templates yet",
        "Meta has to approve every message before it may be sent. Write templates in WhatsApp Manager; a sync brings "
        "them here, with what Meta has decided about each.",
        leads=("Sync from Meta", "admin:templates_app_messagetemplate_sync_confirm"),
    )
    list_filter: Any = (
        ("status", ChoicesDropdownFilter),
        ("category", ChoicesDropdownFilter),
    )
    search_fields = ("name",)
    actions_list = ("sync",)
    fields = (
        "name", "language", "category_chip", "status_and_reason",
        "quality", "account", "synced", "preview",
    )  # fmt: skip

    def own_pages(self) -> dict[str, tuple[str, Callable[..., HttpResponse]]]:
        return {
            "sync_confirm": ("sync-from-meta/", self.sync_view),
            "sync_progress": ("syncing/", self.progress_view),
        }

    @action(description="Sync from Meta", url_path="sync", icon="sync", permissions=["act"])
    def sync(self, request: HttpRequest) -> HttpResponse:
        return redirect(self.url("sync_confirm"))

    def sync_view(self, request: HttpRequest) -> HttpResponse:
        """Asks before a sync; leads to the one that is under way."""
        current = self.require(request)
        if elsewhere := self.choose_first(request):
            return elsewhere
        accounts = list(BusinessAccount.objects.of(current.organization).order_by("pk"))  # type: ignore[arg-type]
        back, progress = self.url("changelist"), self.url("sync_progress")
        if request.method == "POST":
            return redirect(progress if self.attempt(request, lambda: _ask(accounts)) else back)
        if TemplateSync.objects.filter(account__in=accounts, finished_at=None).exists():
            return redirect(progress)
        sentences = [f"Meta is asked for every template of {account}." for account in accounts]
        sentences.append("Templates that Meta doesn't list any more are marked as deleted. Nothing is sent.")
        asked = {"sentences": sentences, "button": "Sync now", "back": back}
        return self.page(request, CONFIRM, title="Sync templates from Meta", **asked)

    def progress_view(self, request: HttpRequest) -> HttpResponse:
        """How far the sync is, or what it has changed. Two queries; for htmx only the part that changes."""
        current = self.require(request, change=False)
        if elsewhere := self.choose_first(request):
            return elsewhere
        mine = TemplateSync.objects.filter(account__organization=current.organization)
        syncs = [_shown(sync) for sync in mine.select_related("account").order_by("account")]
        context = {
            "syncs": syncs,
            "runs": any(one["sync"].finished_at is None for one in syncs),
            "may_act": self.has_act_permission(request),
            "address": self.url("sync_progress"),
            "again": self.url("sync_confirm"),
            "list": self.url("changelist"),
        }
        if request.headers.get("HX-Request"):
            return render(request, "kaanha/template_sync_state.html", context)
        return self.page(request, "kaanha/template_sync.html", title="Sync from Meta", **context)

    def emptiness(self, request: HttpRequest) -> Emptiness | None:
        """Where no account is connected yet, that comes first. One query more for an empty list."""
        found = super().emptiness(request)
        if found is None or found.title != self.empty.title:
            return found
        current = access.of(request)
        if _connected(current):
            return found if self.has_act_permission(request) else found._replace(links=[])
        may = current.may_change(Area.SETTINGS)
        links = [("Connect WhatsApp", reverse("admin:whatsapp_businessaccount_add"))] if may else []
        return Emptiness(found.title, [NOT_CONNECTED, *([] if may else [MAY_NOT])], links)

    @display(description="Name", ordering="name")
    def name_and_language(self, template: MessageTemplate) -> SafeString:
        return two_lines(template.name, template.language)

    @display(description="Message")
    def message(self, template: MessageTemplate) -> SafeString:
        return bubble(template, compact=True)

    @display(description="Category", ordering="category")
    def category_chip(self, template: MessageTemplate) -> SafeString:
        return chip(template.get_category_display(), CATEGORY_COLORS.get(template.category, ""))

    @display(description="Status", ordering="status")
    def status_and_reason(self, template: MessageTemplate) -> SafeString:
        shown = chip(template.get_status_display(), STATUS_COLORS.get(template.status, ""))
        why = reasons.why(template)
        return format_html('<div>{}<p class="k-reason" dir="auto">{}</p></div>', shown, why) if why else shown

    @display(description="Synced", ordering="synced_at")
    def synced(self, template: MessageTemplate) -> str:
        return moment(template.synced_at, "never")

    @display(description="Preview, with the examples that Meta was given")
    def preview(self, template: MessageTemplate) -> SafeString:
        return bubble(template)


def _formatted(text: str) -> SafeString:
    """WhatsApp's own marks as it shows them: *bold*, _italic_ and ~struck~."""
    marked = str(escape(text))
    for mark, tag in (("*", "strong"), ("_", "em"), ("~", "s")):
        sign = re.escape(mark)
        marked = re.sub(rf"(?<!\w){sign}(?=\S)([^{sign}\n]+?)(?<=\S){sign}(?!\w)", rf"<{tag}>\1</{tag}>", marked)
    return mark_safe(marked)  # noqa: S308 — escaped above; only our own three tags were added


def _connected(current: Access) -> bool:
    accounts: Any = BusinessAccount.objects.all()
    if current.organization is not None:
        accounts = accounts.of(current.organization)
    return bool(accounts.exists())


def _ask(accounts: list[BusinessAccount]) -> str:
    """Ask for a sync of every account; what happens now, in a sentence."""
    if not accounts:
        raise Refusal("No WhatsApp account is connected yet: connect one under Settings → WhatsApp accounts.")
    begun = asked_syncs.ask(accounts, now=timezone.now())
    return "The sync begins." if begun else "A sync is under way already: this is how far it is."


def _shown(sync: TemplateSync) -> dict[str, Any]:
    state, color = _state(sync)
    return {"sync": sync, "account": sync.account, "chip": chip(state, color), "sentence": _sentence(sync)}


def _state(sync: TemplateSync) -> tuple[str, str]:
    if sync.finished_at:
        return ("Not synced", "danger") if sync.refusal else ("Synced", "success")
    return ("Syncing", "info") if sync.attempts else ("Waiting", "warning")


def _sentence(sync: TemplateSync) -> str:
    """Where the sync stands, and what to do where it doesn't go on."""
    if sync.refusal:
        return sync.refusal
    if sync.finished_at:
        told = ", ".join(f"{getattr(sync, name):,} {name}" for name in ("created", "updated", "unchanged", "deleted"))
        return f"Templates synced: {told}. {moment(sync.finished_at)}."
    if sync.attempts > 1:
        return f"A worker was killed over it: begun anew, time {sync.attempts} of {asked_syncs.TRIES}."
    if sync.attempts:
        return "Meta's list is read, page by page. Nothing is changed before its end."
    if timezone.now() - sync.asked_at < UNTAKEN:
        return "A worker takes it up in a moment."
    return f"No worker has taken it up since {moment(sync.asked_at)}: ask who runs Kaanha to see whether workers run."
