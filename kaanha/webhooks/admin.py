"""Webhooks in the admin: endpoints with their secrets, the log of deliveries with replays, the event log."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldBooleanSwitchWidget

from kaanha.lib import outward_http
from kaanha.lib.errors import Refusal
from kaanha.organizations import access
from kaanha.organizations.access import Area
from kaanha.organizations.fields import LocalTimeField
from kaanha.organizations.owned_admin import Lesson, OwnedAdmin, OwnedForm, ReadOnlyAdmin, chip, key_of, moment
from kaanha.webhooks import delivering, endpoints
from kaanha.webhooks.models import Delivery, DeliveryQuerySet, Endpoint, Event, Kind, Source, Status

FEW = 2  # events that a list names
COLORS = {Status.PENDING: "info", Status.DELIVERED: "success", Status.FAILED: "danger"}


class EndpointForm(OwnedForm):
    kinds = forms.MultipleChoiceField(
        label="Events",
        choices=[(kind.value, f"{kind.value} – {kind.label}") for kind in Kind],
        widget=forms.CheckboxSelectMultiple,
        help_text="Each message has several events: choose those that you use.",
    )
    sources = forms.MultipleChoiceField(
        label="Messages of",
        choices=Source.choices,
        widget=forms.CheckboxSelectMultiple,
        required=False,
        help_text="What a message was sent for. None chosen: all of them. What people write comes in any case.",
    )
    batched = forms.BooleanField(
        label="Send many events in one request",
        required=False,
        help_text="Up to 100, every five seconds. The receiver gets a list of events instead of a single one.",
        widget=UnfoldBooleanSwitchWidget,
    )
    active = forms.BooleanField(
        label="Listening", required=False, initial=True, widget=UnfoldBooleanSwitchWidget,
        help_text="Turned off, it hears nothing; what happens meanwhile isn't sent later.",
    )  # fmt: skip

    class Meta:
        model = Endpoint
        fields = ("url", "description", "kinds", "sources", "batched", "active")
        help_texts = {
            "url": "Where the events go, such as https://example.com/hooks/kaanha.",
            "description": "What this address is, for your own people.",
        }

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
    empty = Lesson(
        "No webhooks yet",
        "A webhook tells a server of yours what happens here: messages delivered, contacts opted out, "
        "answers. Enter its address, and choose the events.",
        adds="Add a webhook",
    )
    one = "webhook"
    audited = "webhook.changed"
    form = EndpointForm
    list_display = ("name", "listens_to", "state", "created")
    search_fields = ("url", "description")
    fields = ("url", "description", "state", "created", "kinds", "sources", "batched", "active")
    readonly_fields = ("state", "created")
    actions_detail = ("test_button", "enable_button", "log_button", "replay_button", "rotate_button", "delete_button")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(deleted_at=None)

    def own_pages(self) -> dict[str, tuple[str, Callable[..., HttpResponse]]]:
        return {
            "test": ("<path:object_id>/test/", self.test_view),
            "replay": ("<path:object_id>/replay/", self.replay_view),
            "rotate": ("<path:object_id>/rotate-secret/", self.rotate_view),
            "enable": ("<path:object_id>/turn-on/", self.enable_view),
            "remove": ("<path:object_id>/remove/", self.remove_view),
        }

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        current, elsewhere = self.require(request), self.choose_first(request)
        if elsewhere or current.organization is None:
            return elsewhere or redirect(self.url("changelist"))
        form: Any = self.get_form(request)(request.POST or None)
        del form.fields["active"]  # a new endpoint listens
        if request.method == "POST" and form.is_valid():
            try:
                endpoint = endpoints.add(current.organization, form.cleaned_data)
            except Refusal as refusal:
                messages.error(request, str(refusal))
                return redirect(self.url("changelist"))
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
            endpoint = endpoints.rotate(endpoint)
            self.log_change(request, endpoint, "The secret was replaced.")
            return self._shown(request, endpoint, title="The new secret")
        sentences = ["The old secret is gone at once: deliveries from now on are signed with the new one."]
        asked: dict[str, Any] = {"sentences": sentences, "button": "Replace it", "danger": True}
        return self.confirmed(request, endpoint, str, title="Replace the secret", **asked)

    def enable_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self.require(request)
        endpoint = self.found(request, object_id)

        def enable() -> str:
            endpoints.enable(endpoint)
            return "It listens again. What it has missed can be replayed."

        sentences = ["It gets what happens from now on."]
        asked: dict[str, Any] = {"sentences": sentences, "button": "Turn it on"}
        return self.confirmed(request, endpoint, enable, title="Turn the endpoint on", **asked)

    def replay_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self.require(request)
        endpoint = self.found(request, object_id)

        def replay(since: datetime, until: datetime, which: str) -> str:
            statuses = (Status.FAILED,) if which == "failed" else (Status.FAILED, Status.DELIVERED)
            return _replayed(endpoints.between(endpoint, since, until, statuses), endpoint)

        sentences = ["They arrive with the event ids that they had: a receiver that knows an id may pass it over."]
        asked: dict[str, Any] = {"sentences": sentences, "button": "Replay", "form": ReplayForm(request.POST or None)}
        return self.confirmed(request, endpoint, replay, title="Replay deliveries", **asked)

    def remove_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self.require(request)
        endpoint = self.found(request, object_id)

        def remove() -> str:
            endpoints.delete(endpoint, versions=None, now=timezone.now())
            return f"{endpoint} is deleted."

        sentences = ["It hears nothing more, and what is pending to it fails. Its secret is gone; its log stays."]
        asked: dict[str, Any] = {"sentences": sentences, "button": "Delete it", "danger": True}
        if request.method == "POST":
            self.attempt(request, remove, row=endpoint)
            return redirect(self.url("changelist"))
        return self.confirmed(request, endpoint, remove, title="Delete the endpoint", **asked)

    @action(description="Test", url_path="test-button", permissions=["act"])
    def test_button(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(self.url("test", object_id))

    @action(description="Replay …", url_path="replay-button", permissions=["act"])
    def replay_button(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(self.url("replay", object_id))

    @action(description="New secret …", url_path="rotate-button", permissions=["act"])
    def rotate_button(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(self.url("rotate", object_id))

    @action(description="Log", url_path="log-button", permissions=["act"])
    def log_button(self, request: HttpRequest, object_id: str) -> HttpResponse:
        endpoint = self.found(request, object_id)
        return redirect(f"{reverse('admin:webhooks_delivery_changelist')}?endpoint={endpoint.pk}")

    @action(description="Delete …", url_path="delete-button", permissions=["act"])
    def delete_button(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(self.url("remove", object_id))

    @action(description="Turn on …", url_path="enable-button", permissions=["turn_on"])
    def enable_button(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(self.url("enable", object_id))

    def has_turn_on_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Where there is something to turn on; what isn't found is said by the page behind the button."""
        if object_id is None or not self.has_act_permission(request):
            return self.has_act_permission(request)
        endpoint = self.get_object(request, str(object_id))
        return endpoint is None or not endpoint.listening

    @display(description="Endpoint", ordering="description")
    def name(self, endpoint: Endpoint) -> SafeString:
        called = endpoint.description or urlsplit(endpoint.url).hostname or ""
        return format_html(
            '<b>{}</b><br><span class="k-help k-cut k-wide" title="{}">{}</span>', called, endpoint.url, endpoint.url
        )

    @display(description="Events")
    def listens_to(self, endpoint: Endpoint) -> str:
        few = len(endpoint.kinds) <= FEW
        said = ", ".join(endpoint.kinds) if few else f"{len(endpoint.kinds)} of {len(Kind)}"
        return f"{said}, in batches" if endpoint.batched else said

    @display(description="State")
    def state(self, endpoint: Endpoint) -> SafeString:
        if endpoint.disabled_at:
            return format_html("<span>{}<br>{}</span>", chip("disabled", "danger"), endpoint.disabled_reason)
        if not endpoint.active:
            return chip("off")
        if endpoint.failing_since:
            return format_html(
                "<span>{}<br>since {}</span>", chip("failing", "warning"), moment(endpoint.failing_since)
            )
        return chip("listening", "success")

    @display(description="Created", ordering="created_at")
    def created(self, endpoint: Endpoint) -> str:
        return moment(endpoint.created_at)

    def _test(self, request: HttpRequest, endpoint: Endpoint) -> None:
        """Send a test event and say what came of it."""
        attempt = delivering.test(endpoint, now=timezone.now())
        took = f"in {attempt.milliseconds:,} ms"
        if attempt.ok:
            messages.success(request, f"The test event was delivered {took} (answer {attempt.response_code}).")
        else:
            why = attempt.error or f"The answer was {attempt.response_code}, {took}."
            messages.warning(request, f"The test event was not delivered. {why}")

    def _shown(self, request: HttpRequest, endpoint: Endpoint, *, title: str) -> HttpResponse:
        shown = {
            "label": f"The secret that signs what {endpoint} gets",
            "secret": endpoint.secret,
            "back": self.url("changelist"),
        }
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
        key = key_of(self.value() or "")
        return rows if key is None else rows.filter(endpoint=key)


class StatusFilter(ChoicesDropdownFilter):
    """Said so that the index of those that aren't delivered is used."""

    def queryset(self, request: HttpRequest, rows: QuerySet[Delivery]) -> QuerySet[Delivery]:
        return rows.standing(self.value()) if self.value() else rows  # type: ignore[attr-defined]


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    """The log of deliveries, the latest first."""

    area = Area.SETTINGS
    empty = Lesson(
        "No deliveries yet",
        "Each event that a webhook listens to is delivered to its address, again and again until the address "
        "answers. All that is listed here.",
        leads=("Webhooks", "admin:webhooks_endpoint_changelist"),
    )
    list_display = ("when", "kind", "status_chip", "answer", "duration", "tried_times", "endpoint_name")
    list_select_related = ("event", "endpoint")
    sortable_by: Any = ("when",)  # nobody sorts a million rows
    list_filter: Any = (("status", StatusFilter), EndpointFilter)
    ordering = ("-id",)
    fields = (
        "when", "kind", "event_id_shown", "endpoint", "status_chip", "reason", "next_attempt", "attempts_shown",
        "body_shown",
    )  # fmt: skip
    actions = ("replay_selected",)
    actions_detail = ("replay_button",)
    actions_row = ("replay_row_button",)

    def own_pages(self) -> dict[str, tuple[str, Callable[..., HttpResponse]]]:
        return {"replay": ("<path:object_id>/replay/", self.replay_view)}

    def replay_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self.require(request)
        delivery = self.found(request, object_id)
        try:
            delivery.require_replayable()
        except Refusal as refusal:
            messages.warning(request, str(refusal))
            return redirect(self.url("change", delivery.pk))

        def replay() -> str:
            endpoints.replay_one(delivery, now=timezone.now())
            return "It is sent again."

        return self.confirmed(
            request,
            delivery,
            replay,
            title="Replay the delivery",
            sentences=["It is sent again, with the event id that it had."],
            button="Replay",
        )

    @action(description="Replay", url_path="replay-button", permissions=["replay"])
    def replay_button(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(self.url("replay", object_id))

    # In a list what a row may is not asked of each: the page behind it says why not.
    @action(description="Replay", url_path="replay-row-button", permissions=["act"])
    def replay_row_button(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(self.url("replay", object_id))

    def has_replay_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """For what can be replayed; what isn't found is said by the page behind the button."""
        if object_id is None or not self.has_act_permission(request):
            return self.has_act_permission(request)
        delivery = self.get_object(request, str(object_id))
        try:
            if delivery is not None:
                delivery.require_replayable()
        except Refusal:
            return False
        return True

    @admin.action(description="Replay", permissions=["act"])
    def replay_selected(self, request: HttpRequest, deliveries: DeliveryQuerySet) -> None:
        first = deliveries.select_related("endpoint").first()
        if first is not None:
            self.attempt(request, lambda: _replayed(deliveries, first.endpoint))

    @display(description="When", ordering="id")
    def when(self, delivery: Delivery) -> str:
        return moment(delivery.event.occurred_at)

    @display(description="Event")
    def kind(self, delivery: Delivery) -> str:
        return delivery.event.kind

    @display(description="Event id")
    def event_id_shown(self, delivery: Delivery) -> str:
        return delivery.event.public_id

    @display(description="Status")
    def status_chip(self, delivery: Delivery) -> SafeString:
        return chip(delivery.get_status_display(), COLORS[Status(delivery.status)])

    @display(description="Answer")
    def answer(self, delivery: Delivery) -> str:
        if delivery.response_code is None:
            return delivery.reason or "–"
        return str(delivery.response_code)

    @display(description="Tried", ordering="attempts")
    def tried_times(self, delivery: Delivery) -> str:
        return {0: "not yet", 1: "once", 2: "twice"}.get(delivery.attempts, f"{delivery.attempts:,} times")

    @display(description="Endpoint")
    def endpoint_name(self, delivery: Delivery) -> SafeString:
        return format_html('<span class="k-cut" title="{}">{}</span>', delivery.endpoint.url, delivery.endpoint)

    @display(description="Took")
    def duration(self, delivery: Delivery) -> str:
        return "–" if delivery.milliseconds is None else f"{delivery.milliseconds:,} ms"

    @display(description="Next attempt")
    def next_attempt(self, delivery: Delivery) -> str:
        return moment(delivery.next_attempt_at)

    @display(description="Attempts")
    def attempts_shown(self, delivery: Delivery) -> SafeString:
        rows = [
            [
                str(one.number),
                moment(one.at),
                chip(str(one.response_code or "no answer"), "success" if one.ok else "danger"),
                f"{one.milliseconds:,} ms",
                f"with {one.events - 1} others" if one.events > 1 else "alone",
                format_html('{}<span class="k-help">{}</span>', f"{one.error} " if one.error else "", one.excerpt),
            ]
            for one in delivery.tried.order_by("number")
        ]
        headings = ["", "When", "Answer", "Took", "Sent", "What it said"]
        return render_to_string("kaanha/delivery_attempts.html", {"headings": headings, "rows": rows})

    @display(description="Body")
    def body_shown(self, delivery: Delivery) -> SafeString:
        return format_html('<pre class="k-json">{}</pre>', _pretty(json.loads(delivery.event.body())))


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    """What happened, the latest first."""

    area = Area.SETTINGS
    empty = Lesson(
        "No events yet",
        "Events are what webhooks are told: they are kept here from the first one on.",
        leads=("Webhooks", "admin:webhooks_endpoint_changelist"),
    )
    list_display = ("kind", "occurred")
    ordering = ("-occurred_at",)
    fields = ("kind", "occurred", "data_shown")

    @display(description="When", ordering="occurred_at")
    def occurred(self, event: Event) -> str:
        return moment(event.occurred_at)

    @display(description="Data")
    def data_shown(self, event: Event) -> SafeString:
        return format_html('<pre class="k-json">{}</pre>', _pretty(event.data))


def _replayed(chosen: DeliveryQuerySet, row: Model) -> str:
    """Deliver these once more, the oldest first and at most so many at a time, and say how many."""
    count, more = endpoints.replay(chosen, row, now=timezone.now())
    rest = " There are more: replay again." if more else ""
    return f"Replayed: {count:,}. What is pending, a test, or goes to an endpoint that is off isn't replayed.{rest}"


def _pretty(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False)
