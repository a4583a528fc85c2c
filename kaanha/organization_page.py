"""The page of an organization, with closing it: its owner types the name, and reads before what it stops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from unfold.decorators import action
from unfold.widgets import UnfoldAdminTextInputWidget

from kaanha import closing
from kaanha.closing import MANY, Consequences
from kaanha.organizations.admin import OrganizationAdmin, rank
from kaanha.organizations.models import Organization, Role


class NameForm(forms.Form):
    """The organization's name, typed by whoever means it."""

    name = forms.CharField(
        label="Name of the organization", widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"})
    )

    def __init__(self, *args: Any, organization: Organization, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.wanted = organization.name.strip()
        self.fields["name"].help_text = f"Type {self.wanted} to show that you mean it."

    def clean_name(self) -> str:
        typed = str(self.cleaned_data["name"])
        if typed.split() != self.wanted.split():
            raise forms.ValidationError(f"That isn't its name: type {self.wanted}.")
        return typed


@admin.register(Organization)
class OrganizationPage(OrganizationAdmin):
    actions_detail = ("close_button", *OrganizationAdmin.actions_detail)

    def own_pages(self) -> dict[str, tuple[str, Callable[..., HttpResponse]]]:
        return {**super().own_pages(), "close": ("<path:object_id>/close/", self.close_view)}

    @action(description="Close the organization …", url_path="close-button", permissions=["close"])
    def close_button(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(self.url("close", object_id))

    def has_close_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """An owner, where it is open; of what isn't found the page behind the button says so."""
        if rank(request) != Role.OWNER:
            return False
        row = self.get_object(request, str(object_id)) if object_id else None
        return row is None or row.closed_at is None

    def close_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if rank(request) != Role.OWNER:
            raise PermissionDenied
        organization = self.found(request, object_id)
        form = NameForm(request.POST or None, organization=organization)
        if request.method == "POST" and form.is_valid():
            return self._close(request, organization)
        asked: dict[str, Any] = {
            "sentences": list(sentences(closing.consequences(organization))),
            "button": "Close the organization",
            "danger": True,
            "form": form,
            "back": self.url("change", organization.pk),
        }
        title = "Close the organization"
        shown = {"title": title, "subtitle": str(organization), "original": organization}
        return self.page(request, "kaanha/confirm.html", **shown, **asked)

    def _close(self, request: HttpRequest, organization: Organization) -> HttpResponse:
        def close() -> str:
            closing.close(organization, now=timezone.now())
            return f"{organization} is closed."

        done = self.attempt(request, close, row=organization)
        return redirect("admin:index" if done else self.url("close", organization.pk))


def sentences(found: Consequences) -> Iterator[str]:
    """What closing does, to how many."""
    if found.sending is not None:
        yield (
            f"Broadcast {found.sending.name!r} is sending: the organization can be closed once it has completed, or "
            "when you cancel it."
        )
    many = f"{MANY:,} or more" if found.contacts == MANY else f"{found.contacts:,}"
    yield f"{_people(found.members)} working in it, and it vanishes from the list of organizations."
    yield (
        f"Nothing is sent to its contacts ({many}) any more. What is under way waits for a person: "
        f"{_count(found.scheduled, 'scheduled broadcast')} back to draft, {_count(found.queued, 'queued broadcast')} "
        f"paused, {_count(found.sequences, 'running sequence')} paused."
    )
    yield (
        f"Other systems are shut out at once: {_count(found.keys, 'API key')} revoked, "
        f"{_count(found.endpoints, 'webhook endpoint')} turned off. Open invitations end."
    )
    yield (
        "All rows stay. What people write is still kept, and whoever writes STOP is opted out. Only whoever runs this "
        "installation can reopen the organization."
    )


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _people(count: int) -> str:
    return "One member stops" if count == 1 else f"{count:,} members stop"
