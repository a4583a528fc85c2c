"""Broadcasts in the admin: a draft is written, previewed, confirmed and sent here, and then watched."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from broadcasts import audience, duration, launch, preflight, report
from broadcasts.filling import filled
from broadcasts.forms import AT_ONCE, BroadcastForm, ResumeForm
from broadcasts.models import Broadcast, PauseReason, Status
from broadcasts.side_pages import SidePages
from broadcasts.trial_page import TrialPage
from kaanha.lib.errors import Refusal
from kaanha.messaging import counting
from kaanha.messaging.counting import Funnel
from kaanha.messaging.models import SkipReason
from kaanha.organizations.access import Area
from kaanha.organizations.owned_admin import Lesson, OwnedAdmin, chip, moment, two_lines
from kaanha.whatsapp.cloud_api import errors

STATUS_COLORS = {
    Status.DRAFT: "",
    Status.SCHEDULED: "info",
    Status.QUEUED: "info",
    Status.SENDING: "primary",
    Status.PAUSED: "warning",
    Status.COMPLETED: "success",
    Status.CANCELED: "danger",
    Status.FAILED: "danger",
}
RUNNING = frozenset({Status.QUEUED, Status.SENDING})
ENDED = frozenset({Status.COMPLETED, Status.CANCELED, Status.FAILED})
# A broadcast as one bar, from left to right, and what is said below it: there, what was read was also sent.
BAR = ("read", "delivered", "sent", "failed", "skipped", "unconfirmed", "waiting")
ALWAYS = ("sent", "delivered", "read")
TOLD = (*ALWAYS, "failed", "skipped", "unconfirmed", "waiting")
# How often a page asks for new numbers, in seconds. They keep moving for a while after the end.
EVERY = {Status.QUEUED: 2, Status.SENDING: 2, Status.SCHEDULED: 5, Status.PAUSED: 5}
EVERY_ENDED, STILL_MOVING = 5, timedelta(minutes=30)


@admin.register(Broadcast)
class BroadcastAdmin(SidePages, TrialPage, OwnedAdmin):
    area = Area.CAMPAIGNS
    empty = Lesson(
        "No broadcasts yet",
        "A broadcast sends one template to many contacts at once. Choose its message and its people; before "
        "anything is sent you see who gets it.",
    )
    form = BroadcastForm
    list_display = ("name_and_template", "status_chip", "when", "recipients", "funnel_bar")
    list_filter: Any = (("status", ChoicesDropdownFilter),)
    list_select_related = ("template",)
    search_fields = ("name",)
    ordering = ("-created_at", "-id")
    add_form_template = "kaanha/broadcast_form.html"
    change_form_template = "kaanha/broadcast_form.html"
    fieldsets = (
        (None, {"fields": ("name", "template")}),
        ("Who receives it", {"fields": ("tags", "excluded_tags")}),
        ("When, and from which number", {"fields": ("scheduled_at", "phone_number")}),
    )

    def own_pages(self) -> dict[str, tuple[str, Callable[..., HttpResponse]]]:
        pages: dict[str, tuple[str, Callable[..., HttpResponse]]] = {
            **super().own_pages(),
            "message": ("message/", self.message_view),
            "message_of": ("<path:object_id>/message/", self.message_view),
            "audience": ("audience/", self.audience_view),
            "audience_of": ("<path:object_id>/audience/", self.audience_view),
        }
        for name in ("review", "confirm", "funnel", "reasons", "pause", "resume", "cancel", "unschedule"):
            pages[name] = (f"<path:object_id>/{name}/", getattr(self, f"{name}_view"))
        return pages

    # --- list ----------------------------------------------------------------------------------------------------

    def complete(self, request: HttpRequest, rows: list[Any]) -> None:
        funnels = counting.funnels(row.dispatch_id for row in rows)
        for row in rows:
            row.funnel = funnels.get(row.dispatch_id, Funnel())

    @display(description="Name", ordering="name")
    def name_and_template(self, broadcast: Broadcast) -> SafeString:
        return two_lines(broadcast.name, str(broadcast.template))

    @display(description="Status", ordering="status")
    def status_chip(self, broadcast: Broadcast) -> SafeString:
        return chip(broadcast.get_status_display(), STATUS_COLORS[Status(broadcast.status)])

    @display(description="When", ordering="created_at")
    def when(self, broadcast: Broadcast) -> str:
        return when(broadcast)

    @display(description="Recipients")
    def recipients(self, broadcast: Any) -> str:
        return f"{broadcast.funnel.total:,}" if broadcast.dispatch_id else "–"

    @display(description="What became of them")
    def funnel_bar(self, broadcast: Any) -> str | SafeString:
        return mini_funnel(broadcast.funnel) if broadcast.dispatch_id else "–"

    # --- draft ---------------------------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """A draft can be edited; everything else can be watched."""
        self.require(request, change=False)
        broadcast = self.found(request, object_id)
        if broadcast.status == Status.DRAFT and self.has_change_permission(request):
            response: HttpResponse = super().change_view(request, object_id, form_url, extra_context)
            return response
        return self.live(request, broadcast)

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except Refusal as refusal:
            messages.error(request, str(refusal))
            return redirect(request.path)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        """Save a draft. Refusal when it was sent in the meantime, in another window."""
        if change:
            held = Broadcast.objects.select_for_update().filter(pk=obj.pk, status=Status.DRAFT)
            if not held.exists():
                raise Refusal(f"Broadcast {obj.name!r} isn't a draft any more: it can't be edited.")
            columns = ("name", "template", "phone_number", "scheduled_at", "variables", "updated_at")
            obj.save(update_fields=columns)
            return
        obj.created_by = request.user
        super().save_model(request, obj, form, change)

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        return self._saved(request, obj)

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        return self._saved(request, obj)

    def _saved(self, request: HttpRequest, broadcast: Broadcast) -> HttpResponse:
        for page in ("review", "test"):
            if f"_{page}" in request.POST:
                return redirect(self.url(page, broadcast.pk))
        messages.success(request, f"Draft {broadcast.name!r} is saved. Nothing has been sent.")
        return redirect(self.url("change", broadcast.pk))

    def message_view(self, request: HttpRequest, object_id: str = "") -> HttpResponse:
        """The rows for variables and the preview, for what the form holds at the moment."""
        form = self._typed(request, object_id)
        return render(request, "kaanha/message_rows.html", {**form.message(), "message_url": request.path})

    def audience_view(self, request: HttpRequest, object_id: str = "") -> HttpResponse:
        """How many people the form's tags reach at the moment. One count."""
        count = self._typed(request, object_id).audience().count()
        told = {"count": count, "chosen_tags": request.POST.getlist("tags"), "audience_url": request.path}
        return render(request, "kaanha/broadcast_audience.html", told)

    def _typed(self, request: HttpRequest, object_id: str) -> Any:
        """The form as it is filled at the moment, not checked."""
        self.require(request)
        broadcast = self.found(request, object_id) if object_id else None
        form_class: Any = self.get_form(request, broadcast, change=broadcast is not None)
        return form_class(request.POST, instance=broadcast)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        form = context["adminform"].form
        broadcast = kwargs.get("obj")
        context.update(form.message())
        for name in ("message", "audience"):
            context[f"{name}_url"] = self.url(f"{name}_of", broadcast.pk) if broadcast else self.url(name)
        context["nothing_to_send"] = (
            not form.fields["template"].queryset.exists() if "template" in form.fields else True
        )
        return super().render_change_form(request, context, *args, **kwargs)

    # --- preview and confirmation --------------------------------------------------------------------------------

    def review_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Who would get it now, who stays out and why, and what keeps it from being sent.

        Of a large audience the first are shown at once, and the page asks for the counts.
        """
        self.require(request)
        broadcast = self._draft(request, object_id)
        if isinstance(broadcast, HttpResponse):
            return broadcast
        seen = _seen(request, broadcast)
        context = {
            **_counted(broadcast, seen),
            "bubble": filled(broadcast, seen.first[0] if seen.first else None),
        }
        return self.page(
            request, "kaanha/broadcast_review.html", title="Preview recipients", original=broadcast, **context
        )

    def confirm_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """How many people, which template, when: then send or schedule."""
        self.require(request)
        broadcast = self._draft(request, object_id)
        if isinstance(broadcast, HttpResponse):
            return broadcast
        if request.method == "POST":
            self.attempt(request, lambda: _launch(broadcast, later="_schedule" in request.POST), row=broadcast)
            return redirect(self.url("change", broadcast.pk))
        context = {
            **_counted(broadcast, _seen(request, broadcast)),
            "at": moment(broadcast.scheduled_at) if broadcast.scheduled_at else "",
            "zone": broadcast.organization.timezone,
            "ahead": Broadcast.objects.of(broadcast.organization_id).filter(status__in=RUNNING).first(),
        }
        return self.page(request, "kaanha/broadcast_confirm.html", title="Confirm", original=broadcast, **context)

    def _draft(self, request: HttpRequest, object_id: str) -> Any:
        """The draft, or the answer for a broadcast that is none any more."""
        broadcast = self.found(request, object_id)
        if broadcast.status == Status.DRAFT:
            return broadcast
        messages.info(request, f"Broadcast {broadcast.name!r} is {broadcast.get_status_display().lower()} already.")
        return redirect(self.url("change", broadcast.pk))

    # --- watching ------------------------------------------------------------------------------------------------

    def live(self, request: HttpRequest, broadcast: Broadcast) -> HttpResponse:
        context = {**self._state(request, broadcast), **self._reasons(broadcast)}
        context["bubble"] = filled(broadcast, None)
        context["tags"] = list(broadcast.tags.order_by("name"))
        context["excluded_tags"] = list(broadcast.excluded_tags.order_by("name"))
        return self.page(request, "kaanha/broadcast_live.html", title=broadcast.name, **context)

    def funnel_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The part of the page that changes every two seconds: cheap, whatever the size of the broadcast."""
        self.require(request, change=False)
        return render(request, "kaanha/broadcast_funnel.html", self._state(request, self.found(request, object_id)))

    def reasons_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Skipped by reason and failed by code: counted from the messages, so asked for less often."""
        self.require(request, change=False)
        broadcast = self.found(request, object_id)
        return render(request, "kaanha/broadcast_reasons.html", {**self._reasons(broadcast), "original": broadcast})

    def _state(self, request: HttpRequest, broadcast: Broadcast) -> dict[str, Any]:
        funnel = counting.funnel(broadcast.dispatch_id)
        settled = funnel.total - funnel.waiting
        pace = duration.pace(request.GET.get("marks", ""), settled=settled, at=timezone.now().timestamp())
        return {
            "original": broadcast,
            "pace": pace,
            "ahead": remaining(broadcast, funnel, pace),
            "funnel": funnel,
            "stages": stages(funnel),
            "done": _share(settled, funnel.total),
            "color": STATUS_COLORS.get(Status(broadcast.status), ""),
            "sentence": situation(broadcast, funnel),
            "when": when(broadcast),
            "every": _every(broadcast),
            "acts": _acts(broadcast) if self.has_change_permission(request) else [],
        }

    def _reasons(self, broadcast: Broadcast) -> dict[str, Any]:
        reasons = report.by_reason(broadcast)
        codes = report.by_code(broadcast)
        return {
            "reasons": [
                (key, SkipReason(key).label if key in SkipReason.values else key, n) for key, n in reasons.items()
            ],
            "codes": [(key, _meaning(key), n) for key, n in codes.items()],
            "every_reasons": 10 if _every(broadcast) else 0,
        }

    # --- acts ----------------------------------------------------------------------------------------------------

    def pause_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        broadcast, waiting = self._to_act_on(request, object_id)

        def pause() -> str:
            launch.pause(broadcast, now=timezone.now())
            return f"{broadcast.name} is paused."

        sentence = (
            f"{waiting:,} people who wait for their message go on waiting until you resume it. "
            if broadcast.dispatch_id
            else "It doesn't start until you resume it. "
        )
        sentences = [sentence + "Messages already handed to Meta still arrive."]
        return self.confirmed(request, broadcast, pause, title="Pause", sentences=sentences, button="Pause")

    def resume_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        broadcast, waiting = self._to_act_on(request, object_id)

        ahead = broadcast.time_ahead(timezone.now())

        def resume(start: str) -> str:
            launch.resume(broadcast, now=timezone.now(), at_once=start == AT_ONCE)
            if broadcast.status == Status.SCHEDULED:
                return f"{broadcast.name} goes out on {moment(broadcast.scheduled_at)}."
            return f"{broadcast.name} goes on as soon as the organization's turn is free."

        sentences = [] if ahead or broadcast.dispatch_id else ["It starts at once."]
        sentences.append(
            f"The remaining {waiting:,} people get their message; who opted out in the meantime doesn't."
            if broadcast.dispatch_id
            else "It goes to everybody who holds its tags when it starts."
        )
        form = ResumeForm(request.POST if request.method == "POST" else None, at=moment(ahead) if ahead else "")
        return self.confirmed(
            request, broadcast, resume, title="Resume", sentences=sentences, button="Resume", form=form
        )

    def cancel_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        broadcast, waiting = self._to_act_on(request, object_id)

        def cancel() -> str:
            launch.cancel(broadcast, now=timezone.now())
            return f"{broadcast.name} is canceled."

        sentence = (
            f"{waiting:,} people who wait for their message won't get it. Messages already handed to Meta still arrive."
            if broadcast.dispatch_id
            else "Nothing has been sent, and nothing will be."
        )
        sentences = [sentence, "A canceled broadcast can't be taken up again."]
        return self.confirmed(
            request, broadcast, cancel, title="Cancel", sentences=sentences, button="Cancel the broadcast", danger=True
        )

    def unschedule_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        broadcast, _ = self._to_act_on(request, object_id)

        def unschedule() -> str:
            launch.unschedule(broadcast)
            return f"{broadcast.name} is a draft again."

        sentences = ["It becomes a draft again, which you can edit, send or schedule anew."]
        return self.confirmed(
            request, broadcast, unschedule, title="Back to draft", sentences=sentences, button="Make it a draft"
        )

    def _to_act_on(self, request: HttpRequest, object_id: str) -> tuple[Broadcast, int]:
        """The broadcast, and how many of its recipients wait."""
        self.require(request)
        broadcast = self.found(request, object_id)
        return broadcast, counting.funnel(broadcast.dispatch_id).waiting

    def get_queryset(self, request: HttpRequest) -> QuerySet[Broadcast]:
        return (
            super().get_queryset(request).select_related("organization", "template", "phone_number__account__portfolio")
        )


def _launch(broadcast: Broadcast, *, later: bool) -> str:
    """Send or schedule a confirmed draft; what happens now, in a sentence."""
    with transaction.atomic():
        if not later:
            launch.send(broadcast, now=timezone.now())
            return f"{broadcast.name} is on its way."
        if broadcast.scheduled_at is None:
            raise Refusal("It has no time yet: give the draft a date and a time first.", code="no_time")
        launch.schedule(broadcast, at=broadcast.scheduled_at, now=timezone.now())
    return f"{broadcast.name} goes out on {moment(broadcast.scheduled_at)}."


def _seen(request: HttpRequest, broadcast: Broadcast) -> audience.Glance:
    """The preview; for a large audience only once the page asks for it, which shows the first ones until then."""
    now = timezone.now()
    if "counted" not in request.GET and audience.is_large(broadcast):
        return audience.glance(broadcast, now=now)
    return audience.preview(broadcast, now=now)


def _counted(broadcast: Broadcast, seen: audience.Glance) -> dict[str, Any]:
    """What the pages of a draft say about its audience."""
    counted = isinstance(seen, audience.Preview)
    return {
        "preview": seen,
        "counted": counted,
        "duration": duration.sentence(seen.total, broadcast.phone_number) if isinstance(seen, audience.Preview) else "",
        "judged": judged(broadcast, seen),
        "problems": preflight.problems(broadcast),
    }


def judged(broadcast: Broadcast, seen: audience.Glance) -> str:
    """For when the preview is judged, in words."""
    return f"goes out on {moment(seen.at)}" if seen.at == broadcast.scheduled_at else "went out now"


def when(broadcast: Broadcast) -> str:
    """The time that matters most in its present state, in words."""
    told = {
        Status.DRAFT: ("planned for", broadcast.scheduled_at),
        Status.SCHEDULED: ("goes out on", broadcast.scheduled_at),
        Status.QUEUED: ("queued since", broadcast.queued_at),
        Status.SENDING: ("started", broadcast.started_at),
        Status.PAUSED: ("paused", broadcast.paused_at),
        Status.COMPLETED: ("completed", broadcast.completed_at),
        Status.CANCELED: ("canceled", broadcast.completed_at),
        Status.FAILED: ("failed", broadcast.completed_at),
    }
    words, at = told[Status(broadcast.status)]
    return f"{words} {moment(at)}" if at else "not sent yet"


def situation(broadcast: Broadcast, funnel: Funnel) -> str:
    """What it is doing, waiting for or stopped by, in a sentence."""
    if broadcast.status == Status.QUEUED:
        ahead = launch.waits_for(broadcast)
        return f"It waits until “{ahead.name}” is done, and starts by itself." if ahead else "It starts in a moment."
    if broadcast.status == Status.PAUSED:
        reason = PauseReason(broadcast.pause_reason).label if broadcast.pause_reason else "Paused"
        resumes = f" It goes on by itself on {moment(broadcast.resume_at)}." if broadcast.resume_at else ""
        return f"{reason}. {broadcast.status_detail}{resumes}"
    if broadcast.status == Status.SCHEDULED:
        return f"It goes out on {moment(broadcast.scheduled_at)} ({broadcast.organization.timezone})."
    if broadcast.status == Status.CANCELED and funnel.waiting:
        return f"{funnel.waiting:,} people still count as waiting: they turn into skipped in a moment."
    return broadcast.status_detail


def remaining(broadcast: Broadcast, funnel: Funnel, pace: duration.Pace) -> str:
    """How fast it goes and how long it takes yet, while it is sending; at the number's limit before a pace is known."""
    if broadcast.status != Status.SENDING or not funnel.waiting:
        return ""
    if pace.rate is None:
        return f"{duration.words(duration.expected(funnel.waiting, broadcast.phone_number))} at best".capitalize()
    if not pace.rate:
        return "Nothing went in the last seconds."
    left = duration.words(timedelta(seconds=funnel.waiting / pace.rate))
    return f"{pace.rate:,.0f} messages a second, {left} to go" if pace.rate >= 1 else f"{left} to go".capitalize()


def stages(funnel: Funnel) -> list[dict[str, Any]]:
    """The funnel as bars; each share is of what stands above it, as rates are told."""
    rows = [
        ("Recipients", funnel.total, funnel.total, ""),
        ("Total Sent", funnel.dispatched, funnel.total, "of the recipients"),
        ("Delivered", funnel.delivered, funnel.dispatched, "of those sent"),
        ("Read", funnel.read, funnel.delivered, "of those delivered"),
    ]
    return [
        {"label": label, "count": count, "width": _share(count, funnel.total), "rate": _rate(count, whole), "of": of}
        for label, count, whole, of in rows
    ]


def mini_funnel(funnel: Funnel) -> SafeString:
    """A whole broadcast as one bar, and the numbers that matter as words."""
    standing = funnel.by_standing
    bars = format_html_join(
        "",
        '<span class="k-part-{}" style="width: {}%"></span>',
        [(name, f"{100 * standing[name] / funnel.total:.2f}") for name in BAR if standing[name]],
    )
    # What went well always has a number, what went wrong only where there is something.
    counts = {**{name: getattr(funnel, name) for name in TOLD}, "sent": funnel.dispatched}
    told = [(name, counts[name]) for name in TOLD if name in ALWAYS or counts[name]]
    words = format_html_join(
        " · ", '<span class="k-part-{}"><b>{}</b> {}</span>', [(name, f"{count:,}", name) for name, count in told]
    )
    return format_html(
        '<div class="k-mini"><div class="k-bar" aria-hidden="true">{}</div><small>{}</small></div>', bars, words
    )


def _share(part: int, whole: int) -> int:
    return round(100 * part / whole) if whole else 0


def _rate(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


def _every(broadcast: Broadcast) -> int:
    """Seconds until the page asks again; 0 for never."""
    if broadcast.status in ENDED:
        recent = broadcast.completed_at and timezone.now() - broadcast.completed_at < STILL_MOVING
        return EVERY_ENDED if recent and broadcast.dispatch_id else 0
    return EVERY.get(Status(broadcast.status), 0)


def _acts(broadcast: Broadcast) -> list[tuple[str, str, str]]:
    """What can be done to it now: the page's name, the button's text and its color."""
    status, found = broadcast.status, []
    if status == Status.SCHEDULED:
        found.append(("unschedule", "Back to draft …", "default"))
    if status in {Status.SCHEDULED, Status.QUEUED, Status.SENDING}:
        found.append(("pause", "Pause …", "default"))
    if status == Status.PAUSED:
        found.append(("resume", "Resume …", "primary"))
    if status not in ENDED:
        found.append(("cancel", "Cancel …", "default"))
    found.append(("duplicate", "Duplicate …", "default"))
    return found


def _meaning(code: str) -> str:
    """What one of Meta's error codes means, in words, where the table knows it."""
    meaning = errors.MEANINGS.get(int(code)) if code.lstrip("-").isdigit() else None
    return meaning.words if meaning else ""
