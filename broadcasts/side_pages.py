"""Pages beside a broadcast's own: the copy of it, and its recipients as a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, StreamingHttpResponse
from django.shortcuts import redirect
from unfold.decorators import action
from unfold.widgets import UnfoldAdminTextInputWidget

from broadcasts import drafting, recipients
from broadcasts.models import Broadcast
from kaanha.lib import spreadsheets
from kaanha.messaging.admin import failure_code
from kaanha.messaging.models import OPEN, SkipReason
from kaanha.messaging.models import Status as MessageStatus
from kaanha.organizations import audit
from kaanha.organizations.owned_admin import OwnedAdmin

# What the filters of the recipients' list call their choices in an address, and what each may be.
FILTERS: dict[str, tuple[str, Any]] = {
    "status__exact": ("status", {OPEN, *MessageStatus.values}),
    "skip_reason__exact": ("reason", set(SkipReason.values)),
}


class CopyForm(forms.Form):
    name = forms.CharField(
        label="Name of the copy", max_length=drafting.NAME, widget=UnfoldAdminTextInputWidget(attrs={"autofocus": True})
    )


class SidePages(OwnedAdmin):
    """Stands before OwnedAdmin in BroadcastAdmin."""

    actions_row: Any = ("duplicate_row",)

    def own_pages(self) -> dict[str, tuple[str, Callable[..., HttpResponse]]]:
        return {
            **super().own_pages(),
            "duplicate": ("<path:object_id>/duplicate/", self.duplicate_view),
            "export": ("<path:object_id>/export/", self.export_view),  # type: ignore[dict-item]
        }

    @action(description="Duplicate …", url_path="duplicate-from-list", permissions=["act"])
    def duplicate_row(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(self.url("duplicate", object_id))

    def duplicate_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask for a name; then lead to the new draft."""
        self.require(request)
        broadcast = self.found(request, object_id)
        form = CopyForm(request.POST or None, initial={"name": drafting.copy_name(broadcast.name)})
        if request.method == "POST" and form.is_valid():
            by: Any = request.user
            draft = drafting.copy(broadcast, name=form.cleaned_data["name"], by=by)
            self.log_addition(request, draft, f"Copied from {broadcast.name!r}.")
            self.message_user(request, f"Draft {draft.name!r} is made. Nothing has been sent.", "SUCCESS")
            return redirect(self.url("change", draft.pk))
        sentences = ["A draft with the same template, variables, number and tags. Nothing is sent by it."]
        asked = {"sentences": sentences, "form": form, "button": "Duplicate", "back": self.url("change", broadcast.pk)}
        title, subtitle = "Duplicate", str(broadcast)
        return self.page(request, "kaanha/confirm.html", title=title, subtitle=subtitle, original=broadcast, **asked)

    def export_view(self, request: HttpRequest, object_id: str) -> HttpResponse | StreamingHttpResponse:
        """The recipients that the filters of their list leave. The download is a line of the audit log."""
        self.require(request, change=False)
        broadcast: Broadcast = self.found(request, object_id)
        if request.method != "GET":
            return HttpResponseNotAllowed(["GET"])
        chosen: dict[str, Any] = {name: request.GET[key] for key, (name, _) in FILTERS.items() if request.GET.get(key)}
        known = dict(FILTERS.values())
        if any(value not in known[name] for name, value in chosen.items()):
            raise Http404
        rows = recipients.of(broadcast, **chosen)
        if code := request.GET.get("code"):
            rows, chosen["code"] = failure_code(rows, code), code
        with transaction.atomic():
            audit.record("broadcast.exported", broadcast, **chosen)
        return spreadsheets.download(f"{broadcast.public_id}.csv", recipients.COLUMNS, recipients.table(rows))
