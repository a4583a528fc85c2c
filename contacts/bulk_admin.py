"""Bulk changes in the admin: what was done to large selections, by whom, and how far what is being done is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.decorators import display

from contacts import bulk
from contacts.models import BulkChange
from kaanha.organizations.access import Area
from kaanha.organizations.owned_admin import Lesson, ReadOnlyAdmin, chip, moment

# What is said of those for whom it was news, by what was done.
NEWS: dict[str, str] = {
    BulkChange.Act.ADD_TAG: "Didn't have the tag",
    BulkChange.Act.REMOVE_TAG: "Had the tag",
    BulkChange.Act.OPT_OUT: "Weren't opted out",
}


@admin.register(BulkChange)
class BulkChangeAdmin(ReadOnlyAdmin):
    """Changes of selections that were too large for one request."""

    area = Area.CONTACTS
    empty = Lesson(
        "No bulk changes yet",
        f"Select contacts in their list and choose what is to be done. Up to {bulk.AT_ONCE:,} are changed at once; "
        "for more, you see here how far it is.",
        leads=("Contacts", "admin:contacts_contact_changelist"),
    )
    list_display = ("what", "standing", "asked", "total", "done", "changed", "by")
    list_select_related = ("by", "tag")
    ordering = ("-id",)

    def own_pages(self) -> dict[str, tuple[str, Callable[..., HttpResponse]]]:
        return {
            "progress": ("<path:object_id>/progress/", self.progress_view),
            "stop": ("<path:object_id>/stop/", self.stop_view),
        }

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        self.require(request, change=False)
        change = self.found(request, object_id)
        return self.page(request, "kaanha/bulk_change.html", title=str(change), **self._state(request, change))

    def progress_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The part of the page that changes while contacts are changed. Three queries."""
        self.require(request, change=False)
        change = self.found(request, object_id)
        return render(request, "kaanha/bulk_change_progress.html", self._state(request, change))

    def _state(self, request: HttpRequest, change: BulkChange) -> dict[str, Any]:
        running = change.finished_at is None
        return {
            "original": change,
            "chip": _standing(change),
            "running": running,
            "percent": round(100 * change.done / max(change.total, 1)),
            "left": change.total - change.done,
            "news": NEWS[change.act],
            "asked": moment(change.asked_at),
            "finished": moment(change.finished_at),
            "may_stop": running and self.has_act_permission(request),
        }

    def stop_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self.require(request)
        change = self.found(request, object_id)

        def act() -> str:
            bulk.stop(change, at=timezone.now())
            return "The change is stopped."

        left = change.total - change.done
        sentences = [f"{change.done:,} contacts are done and stay so. The other {left:,} are left as they are."]
        return self.confirmed(request, change, act, title="Stop the change", sentences=sentences, button="Stop")

    # --- list ----------------------------------------------------------------------------------------------------

    @display(description="What")
    def what(self, change: BulkChange) -> str:
        return str(change)

    @display(description="Status")
    def standing(self, change: BulkChange) -> SafeString:
        return _standing(change)

    @display(description="Asked for", ordering="asked_at")
    def asked(self, change: BulkChange) -> str:
        return moment(change.asked_at)


def _standing(change: BulkChange) -> SafeString:
    if change.problem:
        return chip("stopped", "danger")
    return chip("running", "info") if change.finished_at is None else chip("done", "success")
