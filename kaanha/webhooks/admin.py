"""Webhooks in the admin: endpoints with their secrets, the log of deliveries with replays, the event log."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminSelectWidget

from kaanha.lib import outward_http
from kaanha.organizations import access, audit
from kaanha.organizations.access import Area
from kaanha.organizations.fields import LocalTimeField
from kaanha.organizations.owned_admin import OwnedAdmin, OwnedForm, ReadOnlyAdmin, chip, moment
from kaanha.webhooks import delivering
from kaanha.webhooks.models import Delivery, Endpoint, Event, Kind, Status

COLORS = {Status.PENDING: "info", Status.DELIVERED: "success", Status.FAILED: "danger"}
REPLAYED = 10_000  # deliveries in one replay


class EndpointForm(OwnedForm):
    kinds = forms.MultipleChoiceField(
        label="Events",
        choices=[(kind.value, kind.value) for kind in Kind],
        widget=forms.CheckboxSelectMultiple,
        help_text="Each message has several events: choose those that you use.",
    )

    class Meta:
        model = Endpoint
        fields = ("url", "description", "kinds", "active")

    def clean_url(self) -> str:
        url: str = self.cleaned_data["url"].strip()
        try:
            outward_http.check(url)
        except outward_http.Forbidden as refusal:
            raise ValidationError(str(refusal), code=refusal.code) from refusal
        return url


class ReplayForm(forms.Form):
    """Which deliveries of an endpoint are to be repeated."""

    since = LocalTimeField(label="Events from")
    until = LocalTimeField(label="Events before")
    which = forms.ChoiceField(
        label="Which",
        choices=[("failed", "Those that failed"), ("all", "All, also what was delivered")],
        widget=UnfoldAdminSelectWidget(),
    )


@admin.register(Endpoint)
class EndpointAdmin(OwnedAdmin):
    """Where webhooks go. A test event is sent on each save; the secret is shown once."""

    area = Area.SETTINGS
    audited = "webhook.changed"
    form = EndpointForm
    list_display = ("url", "description", "listens_to", "state", "created")
    search_fields = ("url", "description")
    fields = ("url", "description", "kinds", "active", "state", "created")
    readonly_fields = ("state", "created")
    actions_detail = ("test_button", "replay_button", "rotate_button", "enable_button")

    def own_pages(self) -> dict[str, tuple[str, Callable[..., HttpResponse]]]:
        return {
            "test": ("<path:object_id>/test/", self.test_view),
            "replay": ("<path:object_id>/replay/", self.replay_view),
            "rotate": ("<path:object_id>/rotate-secret/", self.rotate_view),
            "enable": ("<path:object_id>/turn-on/", self.enable_view),
        }

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        current = self.require(request)
        if elsewhere := self.choose_first(request):
            return elsewhere
        form: Any = self.get_form(request)(request.POST or None)
        if request.method == "POST" and form.is_valid():
            endpoint = form.save(commit=False)
            endpoint.organization, endpoint.secret = current.organization, Endpoint.new_secret()
            with transaction.atomic():
                endpoint.save()
                audit.record("webhook.changed", endpoint, fields=form.changed_data, added=True)
            self.log_addition(request, endpoint, "Added.")
            self._test(request, endpoint)
            return self._shown(request, endpoint, title="The new endpoint's secret")
        asked = {"form": form, "button": "Add the endpoint", "back": self.url("changelist")}
        return self.page(request, "kaanha/form.html", title="Add a webhook endpoint", **asked)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        super().save_model(request, obj, form, change)
        # After the page's own transaction: nobody waits for a stranger while holding locks.
        transaction.on_commit(lambda: self._test(request, obj))

    def test_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self.require(request)
        endpoint = self.found(request, object_id)
        if request.method == "POST":
            self._test(request, endpoint)
            return redirect(self.url("change", endpoint.pk))
        sentences = ["A test event is sent now, once."]
        return self.confirmed(request, endpoint, str, title="Send a test event", sentences=sentences, button="Send it")

    def rotate_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self.require(request)
        endpoint = self.found(request, object_id)
        if request.method == "POST":
            endpoint.secret = Endpoint.new_secret()
            with transaction.atomic():
                endpoint.save(update_fields=["secret"])
                audit.record("webhook.changed", endpoint, fields=["secret"])
            self.log_change(request, endpoint, "The secret was replaced.")
            return self._shown(request, endpoint, title="The new secret")
        sentences = ["The old secret is gone at once: deliveries from now on are signed with the new one."]
        asked: dict[str, Any] = {"sentences": sentences, "button": "Replace it", "danger": True}
        return self.confirmed(request, endpoint, str, title="Replace the secret", **asked)

    def enable_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self.require(request)
        endpoint = self.found(request, object_id)

        def enable() -> str:
            with transaction.atomic():
                endpoint.enable()
                audit.record("webhook.changed", endpoint, fields=["disabled_at"])
            return "It listens again. What it has missed can be replayed."

        sentences = ["It gets what happens from now on."]
        asked: dict[str, Any] = {"sentences": sentences, "button": "Turn it on"}
        return self.confirmed(request, endpoint, enable, title="Turn the endpoint on", **asked)

    def replay_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self.require(request)
        endpoint = self.found(request, object_id)

        def replay(since: datetime, until: datetime, which: str) -> str:
            chosen = Delivery.objects.filter(endpoint=endpoint, event__occurred_at__range=(since, until))
            return _replayed(chosen.filter(status=Status.FAILED) if which == "failed" else chosen)

        sentences = ["They arrive with the event ids that they had: a receiver that knows an id may pass it over."]
        asked: dict[str, Any] = {"sentences": sentences, "button": "Replay", "form": ReplayForm(request.POST or None)}
        return self.confirmed(request, endpoint, replay, title="Replay deliveries", **asked)

    @action(description="Send a test event", url_path="test-button", permissions=["act"])
    def test_button(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(self.url("test", object_id))

    @action(description="Replay …", url_path="replay-button", permissions=["act"])
    def replay_button(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(self.url("replay", object_id))

    @action(description="Replace the secret …", url_path="rotate-button", permissions=["act"])
    def rotate_button(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(self.url("rotate", object_id))

    @action(description="Turn on …", url_path="enable-button", permissions=["act"])
    def enable_button(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(self.url("enable", object_id))

    @display(description="Events")
    def listens_to(self, endpoint: Endpoint) -> str:
        return ", ".join(endpoint.kinds)

    @display(description="State")
    def state(self, endpoint: Endpoint) -> SafeString:
        if endpoint.disabled_at:
            return format_html("{} {}", chip("disabled", "danger"), endpoint.disabled_reason)
        if not endpoint.active:
            return chip("off")
        if endpoint.failing_since:
            return format_html("{} since {}", chip("failing", "warning"), moment(endpoint.failing_since))
        return chip("listening", "success")

    @display(description="Created", ordering="created_at")
    def created(self, endpoint: Endpoint) -> str:
        return moment(endpoint.created_at)

    def _test(self, request: HttpRequest, endpoint: Endpoint) -> None:
        """Send a test event and say what came of it."""
        attempt = delivering.test(endpoint, now=timezone.now())
        took = f"in {attempt.milliseconds:,} ms"
        if attempt.response_code is not None and 200 <= attempt.response_code < 300:
            messages.success(request, f"The test event was delivered {took} (answer {attempt.response_code}).")
        else:
            why = attempt.error or f"The answer was {attempt.response_code}, {took}."
            messages.warning(request, f"The test event was not delivered. {why}")

    def _shown(self, request: HttpRequest, endpoint: Endpoint, *, title: str) -> HttpResponse:
        shown = {"label": f"Secret of {endpoint}", "secret": endpoint.secret, "back": self.url("changelist")}
        return self.page(request, "kaanha/shown_once.html", title=title, **shown)


class EndpointFilter(DropdownFilter):
    """The organization's endpoints."""

    title = "endpoint"
    parameter_name = "endpoint"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        owner = access.of(request).organization
        rows = Endpoint.objects.of(owner) if owner else Endpoint.objects.none()
        return [(str(row.pk), str(row)) for row in rows.order_by("pk")]

    def queryset(self, request: HttpRequest, rows: QuerySet[Delivery]) -> QuerySet[Delivery]:
        chosen = self.value() or ""
        return rows.filter(endpoint=int(chosen)) if chosen.isdecimal() and len(chosen) < 19 else rows


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    """The log of deliveries, the latest first."""

    area = Area.SETTINGS
    list_display = ("when", "kind", "endpoint", "status_chip", "response_code", "duration", "attempts")
    list_select_related = ("event", "endpoint")
    list_filter: Any = (("status", ChoicesDropdownFilter), EndpointFilter)
    ordering = ("-id",)
    fields = (
        "when", "kind", "event_id_shown", "endpoint", "status_chip", "reason", "next_attempt", "attempts_shown",
        "body_shown",
    )  # fmt: skip
    actions = ("replay_selected",)
    actions_detail = ("replay_button",)
    actions_row = ("replay_button",)

    def own_pages(self) -> dict[str, tuple[str, Callable[..., HttpResponse]]]:
        return {"replay": ("<path:object_id>/replay/", self.replay_view)}

    def replay_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self.require(request)
        delivery = self.found(request, object_id)
        return self.confirmed(
            request,
            delivery,
            lambda: _replayed(Delivery.objects.filter(pk=delivery.pk)),
            title="Replay the delivery",
            sentences=["It is sent again, with the event id that it had."],
            button="Replay",
        )

    @action(description="Replay", url_path="replay-button", permissions=["act"])
    def replay_button(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(self.url("replay", object_id))

    @admin.action(description="Replay", permissions=["act"])
    def replay_selected(self, request: HttpRequest, deliveries: QuerySet[Delivery]) -> None:
        self.attempt(request, lambda: _replayed(deliveries))

    @display(description="When", ordering="id")
    def when(self, delivery: Delivery) -> str:
        return moment(delivery.event.occurred_at)

    @display(description="Event")
    def kind(self, delivery: Delivery) -> str:
        return delivery.event.kind

    @display(description="Event id")
    def event_id_shown(self, delivery: Delivery) -> str:
        return delivery.event.public_id

    @display(description="Status", ordering="status")
    def status_chip(self, delivery: Delivery) -> SafeString:
        return chip(delivery.get_status_display(), COLORS[Status(delivery.status)])

    @display(description="Duration")
    def duration(self, delivery: Delivery) -> str:
        return "–" if delivery.milliseconds is None else f"{delivery.milliseconds:,} ms"

    @display(description="Next attempt")
    def next_attempt(self, delivery: Delivery) -> str:
        return moment(delivery.next_attempt_at)

    @display(description="Attempts")
    def attempts_shown(self, delivery: Delivery) -> SafeString | str:
        line = "<p>{}. {} · {} · {} ms {}</p>"
        tried = [
            (one.number, moment(one.at), one.response_code or one.error, f"{one.milliseconds:,}", one.excerpt)
            for one in delivery.tried.order_by("number")
        ]
        return format_html_join("", line, tried) or "–"

    @display(description="Body")
    def body_shown(self, delivery: Delivery) -> SafeString:
        return format_html('<pre class="k-json">{}</pre>', _pretty(json.loads(delivery.event.body())))


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
        return format_html('<pre class="k-json">{}</pre>', _pretty(event.data))


def _replayed(chosen: Any) -> str:
    """Deliver these once more, the oldest first and at most so many at a time, and say how many."""
    keys = chosen.replayable().order_by("pk").values_list("pk", flat=True)[:REPLAYED]
    count = Delivery.objects.filter(pk__in=list(keys)).replay(now=timezone.now())
    rest = " There are more: replay again." if count == REPLAYED else ""
    return f"Replayed: {count:,}. What is pending, a test, or goes to an endpoint that is off isn't replayed.{rest}"


def _pretty(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False)
