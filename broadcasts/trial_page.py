"""The page from which a test of a broadcast is sent: to whom, and as they would read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.widgets import UnfoldAdminTextInputWidget

from broadcasts import audience, trials
from broadcasts.filling import filled
from broadcasts.models import Broadcast
from contacts.models import Contact, ContactQuerySet
from kaanha.lib.errors import Refusal
from kaanha.organizations.owned_admin import OwnedAdmin

OFFERED, NAMED = 5, 4  # contacts that are offered, and that a sentence names
TYPED = 200  # letters


class TrialForm(forms.Form):
    """One contact of the organization, by the beginning of a number or a name."""

    to = forms.CharField(
        label="To whom",
        max_length=TYPED,
        help_text="A phone number or a name of one of your contacts, or the beginning of it.",
        widget=UnfoldAdminTextInputWidget(attrs={"list": "offered", "autocomplete": "off", "autofocus": True}),
    )

    def __init__(self, people: ContactQuerySet, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.people = people

    def clean_to(self) -> Contact:
        typed = " ".join(self.cleaned_data["to"].split())
        found: list[Contact] = list(self.people.beginning(typed)[: NAMED + 1])
        exact = [one for one in found if typed in (one.phone, one.name)]
        if len(exact) == 1 or len(found) == 1:
            return (exact or found)[0]
        if not found:
            raise forms.ValidationError(
                "None of your contacts begins so. Add the person as a contact first, opted in, then send the test."
            )
        some = ", ".join(f"{one.name or 'no name'} ({one.phone or 'no number'})" for one in found[:NAMED])
        more = " and others" if len(found) > NAMED else ""
        raise forms.ValidationError(f"Several contacts begin so: {some}{more}. Write the number of the one you mean.")


class TrialPage(OwnedAdmin):
    """Stands before OwnedAdmin in BroadcastAdmin."""

    def own_pages(self) -> dict[str, tuple[str, Callable[..., HttpResponse]]]:
        return {**super().own_pages(), "test": ("<path:object_id>/test/", self.test_view)}

    def test_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask to whom; `_look` shows the message as they would read it, anything else sends it."""
        self.require(request)
        broadcast: Broadcast = self.found(request, object_id)
        people: ContactQuerySet = Contact.objects.of(broadcast.organization_id).active()
        form = TrialForm(people, request.POST or None)
        contact = form.cleaned_data["to"] if request.method == "POST" and form.is_valid() else None
        if contact and "_look" not in request.POST and self._sent(request, broadcast, contact):
            return redirect(self.url("review" if broadcast.status == "draft" else "change", broadcast.pk))
        offered = trials.last_tested(broadcast, OFFERED)
        known = {one.pk for one in offered}
        first = audience.recipients(broadcast).exclude(pk__in=known).order_by("pk")[: OFFERED - len(offered)]
        context = {
            "form": form,
            "offered": [*offered, *first],
            "contact": contact,
            "bubble": filled(broadcast, contact),
        }
        return self.page(
            request,
            "kaanha/broadcast_test.html",
            title="Send a test",
            subtitle=str(broadcast),
            original=broadcast,
            **context,
        )

    def _sent(self, request: HttpRequest, broadcast: Broadcast, contact: Contact) -> bool:
        contact.organization = broadcast.organization
        try:
            message = trials.send(broadcast, contact, now=timezone.now())
        except Refusal as refusal:
            messages.error(request, str(refusal))
            return False
        link = reverse("admin:messaging_message_change", args=[message.pk])
        done = "The test to {} is on its way. <a href='{}'>See what becomes of it</a>"
        messages.success(request, format_html(done, contact, link))
        self.log_change(request, broadcast, f"Test sent to {contact}.")
        return True
