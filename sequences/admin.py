"""Sequences in the admin: set up, edited, activated, watched, and stopped here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from kaanha.lib.errors import Refusal
from kaanha.messaging.counting import Funnel
from kaanha.organizations.access import Area
from kaanha.organizations.owned_admin import Lesson, OwnedAdmin, chip, two_lines
from sequences import (
    counting,
    enrollment_admin,  # noqa: F401 - registers the pages of enrollments: Django looks for `admin` alone
    live_page,
    moving,
    pictures,
    publishing,
    running,
    seeing,
)
from sequences.forms import ActivationForm, PublishForm, SequenceForm
from sequences.live_page import people
from sequences.models import Revision, Sequence, Status, Trigger
from sequences.steps_admin import STATUS_COLORS, StepsPages
from sequences.steps_shown import started_by

ACTS = ("pause", "resume", "archive", "cancel_all", "move", "try_again")


@admin.register(Sequence)
class SequenceAdmin(StepsPages):
    area = Area.CAMPAIGNS
    empty = Lesson(
        "No sequences yet",
        "A sequence sends each contact in it one message after another: a welcome, a reminder, a question. "
        "Say what brings contacts in, then draw its steps.",
    )
    form = SequenceForm
    list_display = ("name_and_trigger", "status_chips", "inside", "completed", "funnel_numbers")
    list_filter: Any = (("status", ChoicesDropdownFilter), ("trigger", ChoicesDropdownFilter))
    search_fields = ("name",)
    ordering = ("-created_at", "-id")
    add_form_template = "kaanha/sequence_form.html"
    change_form_template = "kaanha/sequence_form.html"
    radio_fields = {"trigger": admin.VERTICAL, "when_late": admin.VERTICAL}
    fieldsets = (
        (None, {"fields": ("name",)}),
        ("What starts it", {"fields": ("trigger", "trigger_tag", "phone_number")}),
        ("What ends it early", {"fields": ("exit_tag", "exit_on_reply")}),
        ("When steps are late", {"fields": ("late_limit", "when_late", "spread_per_minute")}),
    )

    def own_pages(self) -> dict[str, tuple[str, Callable[..., HttpResponse]]]:
        names = ("settings", "activate", "publish", *ACTS)
        pages = {name: (f"<path:object_id>/{name.replace('_', '-')}/", getattr(self, f"{name}_view")) for name in names}
        return {**super().own_pages(), **pages}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Sequence]:
        related = ("organization", "phone_number", "trigger_tag", "exit_tag", "created_by")
        return super().get_queryset(request).select_related(*related)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nothing about an archived sequence changes any more."""
        archived = obj is not None and obj.status == Status.ARCHIVED
        return not archived and super().has_change_permission(request, obj)

    # --- list ----------------------------------------------------------------------------------------------------

    def complete(self, request: HttpRequest, rows: list[Any]) -> None:
        keys = [row.pk for row in rows]
        counts, funnels = counting.people(keys), seeing.funnels(rows)
        revisions = Revision.objects.filter(sequence__in=keys, superseded_at=None).select_related("trigger_tag")
        newest = {one.sequence_id: one for one in revisions}
        held = {step.revision.sequence_id for step in seeing.held_steps(keys)}
        for row in rows:
            row.people, row.funnel = counts[row.pk], funnels[row.pk]
            row.in_force = newest.get(row.pk, row)
            row.unpublished = row.pk in newest and publishing.unpublished(row, newest[row.pk])
            row.held = row.pk in held

    @display(description="Name", ordering="name")
    def name_and_trigger(self, sequence: Any) -> SafeString:
        return two_lines(sequence.name, started_by(sequence.in_force))

    @display(description="Status", ordering="status")
    def status_chips(self, sequence: Any) -> SafeString:
        also = chip("step held", "danger") if sequence.held else ""
        if sequence.unpublished and sequence.status != Status.ARCHIVED:
            also = format_html("{} {}", also, chip("unpublished changes", "warning"))
        return format_html('<span class="k-chips">{} {}</span>', status_chip(sequence), also)

    @display(description="Inside")
    def inside(self, sequence: Any) -> str:
        return f"{sequence.people.inside:,}" if sequence.people.enrolled else "–"

    @display(description="Completed")
    def completed(self, sequence: Any) -> str:
        return f"{sequence.people.completed:,}" if sequence.people.enrolled else "–"

    @display(description="Sent · delivered · read · failed")
    def funnel_numbers(self, sequence: Any) -> str | SafeString:
        one: Funnel = sequence.funnel
        if not one.total:
            return "–"
        return format_html(
            '<span class="k-mini"><b>{}</b> · <b>{}</b> · <b>{}</b> · <b{}>{}</b></span>',
            f"{one.dispatched:,}",
            f"{one.delivered:,}",
            f"{one.read:,}",
            format_html(' class="k-bad"') if one.failed else "",
            f"{one.failed:,}",
        )

    # --- settings ------------------------------------------------------------------------------------------------

    def settings_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Everything but the steps."""
        self.require(request, change=False)
        self.found(request, object_id)
        return self._with_refusals(request, partial(OwnedAdmin.change_view, self, request, object_id))

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        return self._with_refusals(request, partial(super().add_view, request, form_url, extra_context))

    def _with_refusals(self, request: HttpRequest, view: Callable[[], HttpResponse]) -> HttpResponse:
        try:
            return view()
        except Refusal as refusal:
            messages.error(request, str(refusal))
            return redirect(request.path)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        """Save what was typed. Refusal when it was archived in the meantime, in another window."""
        if not change:
            obj.created_by = request.user
            super().save_model(request, obj, form, change)
            return
        held = Sequence.objects.select_for_update(no_key=True).filter(pk=obj.pk).exclude(status=Status.ARCHIVED)
        if not held.exists():
            raise Refusal(f"Sequence {obj.name!r} is archived: its settings stay as they are.", code="wrong_status")
        # A tag that isn't needed any more is dropped without having been typed.
        columns = {*form.changed_data, "trigger_tag", "updated_at"}
        obj.save(update_fields=sorted(columns))

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        messages.success(
            request, f"{obj.name} is created. Now add its steps; nobody is enrolled before you activate it."
        )
        return redirect(self.url("change", obj.pk))

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        messages.success(request, f"The settings of {obj.name} are saved.")
        return redirect(self.url("change", obj.pk))

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        sequence = kwargs.get("obj")
        context["published"] = sequence is not None and sequence.status not in (Status.DRAFT, Status.ARCHIVED)
        context["back"] = self.url("change", sequence.pk) if sequence else self.url("changelist")
        context["title"] = "Settings" if sequence else "New sequence"
        return super().render_change_form(request, context, *args, **kwargs)

    # --- publishing ----------------------------------------------------------------------------------------------

    def activate_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """What keeps the draft from starting, or everything that starts."""
        self.require(request)
        sequence = self.found(request, object_id)
        if sequence.status != Status.DRAFT:
            return self._not_now(request, sequence)
        form = ActivationForm(request.POST or None, sequence=sequence)

        def activate() -> str:
            existing = bool(form.cleaned_data.get("enroll_existing"))
            by: Any = request.user
            told: dict[str, Any] = {"by": by, "versions": [form.cleaned_data["seen"]]}
            publishing.activate(sequence, now=timezone.now(), enroll_existing=existing, **told)
            return f"{sequence.name} is active." + (" Who holds its tag is being enrolled." if existing else "")

        return self._publishing(request, sequence, form, activate, title="Activate")

    def publish_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """What the next revision changes, and what keeps it from being published."""
        self.require(request)
        sequence = self.found(request, object_id)
        if sequence.status not in (Status.ACTIVE, Status.PAUSED):
            return self._not_now(request, sequence)

        def publish() -> str:
            by: Any = request.user
            seen = [form.cleaned_data["seen"]]
            revision = publishing.publish(sequence, now=timezone.now(), by=by, versions=seen)
            return f"{revision} of {sequence.name} is published: new people take it."

        form = PublishForm(request.POST or None, sequence=sequence)
        return self._publishing(request, sequence, form, publish, title="Publish the changes")

    def _not_now(self, request: HttpRequest, sequence: Sequence) -> HttpResponse:
        words = "a draft" if sequence.status == Status.DRAFT else sequence.get_status_display().lower()
        messages.info(request, f"{sequence.name} is {words}.")
        return redirect(self.url("change", sequence.pk))

    def _publishing(
        self, request: HttpRequest, sequence: Sequence, form: PublishForm, act: Callable[[], str], *, title: str
    ) -> HttpResponse:
        if request.method == "POST" and form.is_valid():
            done = self.attempt(request, act, row=sequence)
            return redirect(self.url("change", sequence.pk) if done else request.path)
        return self.page(request, "kaanha/sequence_publish.html", title=title, **_before_publishing(sequence, form))

    # --- acts ----------------------------------------------------------------------------------------------------

    def pause_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        sequence, inside = self._to_act_on(request, object_id)

        def pause() -> str:
            running.pause(sequence, now=timezone.now())
            return f"{sequence.name} is paused."

        sentences = [
            f"{people(inside)} inside: nobody moves, and no message of theirs is sent until you resume it. "
            "A message that is on its way still goes.",
            "Nobody can be enrolled by hand meanwhile."
            if sequence.trigger == Trigger.MANUAL
            else "Its trigger goes on enrolling people, who wait at the first step. By hand nobody can be enrolled.",
        ]
        return self.confirmed(request, sequence, pause, title="Pause", sentences=sentences, button="Pause it")

    def resume_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        sequence, _ = self._to_act_on(request, object_id)

        def resume() -> str:
            running.resume(sequence, now=timezone.now())
            return f"{sequence.name} goes on."

        sentences = live_page.overdue(sequence, now=timezone.now())
        if waiting := seeing.funnels([sequence])[sequence.pk].waiting:
            rate = f"{sequence.spread_per_minute:,} a minute"
            sentences.append(f"{waiting:,} messages that wait to be sent go out one after the other, {rate}.")
        return self.confirmed(request, sequence, resume, title="Resume", sentences=sentences, button="Resume it")

    def archive_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        sequence, inside = self._to_act_on(request, object_id)

        def archive() -> str:
            ended = running.archive(sequence, now=timezone.now(), most=running.AT_ONCE)
            return f"{sequence.name} is archived. {people(ended)} left it.{_others(inside - ended)}"

        sentences = [
            f"{people(inside)} inside leave it now. {_WITHDRAWN}" if inside else "Nobody is inside.",
            "It takes nobody in any more, and can't be taken up again. Its numbers stay.",
        ]
        return self.confirmed(
            request, sequence, archive, title="Archive", sentences=sentences, button="Archive it", danger=True
        )

    def cancel_all_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        sequence, inside = self._to_act_on(request, object_id)

        def cancel_everybody() -> str:
            ended = running.cancel_everybody(sequence, now=timezone.now(), most=running.AT_ONCE)
            return f"{people(ended)} left {sequence.name}.{_others(inside - ended)}"

        sentences = [
            f"{people(inside)} inside leave it now, for good: nobody takes a sequence twice. {_WITHDRAWN}"
            if inside
            else "Nobody is inside.",
            f"The sequence itself stays {sequence.get_status_display().lower()}: new people can be enrolled.",
        ]
        return self.confirmed(
            request,
            sequence,
            cancel_everybody,
            title="Cancel everybody",
            sentences=sentences,
            button=f"Cancel {people(inside)}",
            danger=True,
        )

    def move_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        sequence, _ = self._to_act_on(request, object_id)
        newest = sequence.revision
        if newest is None:
            return self._not_now(request, sequence)

        def move() -> str:
            done = moving.move(sequence, now=timezone.now(), most=running.AT_ONCE)
            stayed = f" Not moved: {done.stayed:,}." if done.stayed else ""
            return f"{people(done.moved)} moved to {_named(newest)}.{stayed}{_others(done.moving)}"

        sentences = _moving(newest)
        button = f"Move them to {_named(newest)}"
        return self.confirmed(
            request, sequence, move, title="Move people to the newest revision", sentences=sentences, button=button
        )

    def try_again_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        sequence, _ = self._to_act_on(request, object_id)

        def try_again() -> str:
            released = running.try_again(sequence, now=timezone.now())
            return f"{released} step{'s try' if released != 1 else ' tries'} again."

        held = [live_page.held_words(step) for step in seeing.held_steps([sequence.pk])]
        sentences = [
            *held,
            "The messages that wait there are tried now, spread out. What is still broken is held again.",
        ]
        return self.confirmed(
            request,
            sequence,
            try_again,
            title="Try again",
            sentences=sentences if held else ["No step is held."],
            button="Try again",
        )

    def _to_act_on(self, request: HttpRequest, object_id: str) -> tuple[Sequence, int]:
        """The sequence, and how many people are inside."""
        self.require(request)
        sequence = self.found(request, object_id)
        return sequence, seeing.people(sequence).inside


_WITHDRAWN = "A message of theirs that is queued is withdrawn; one handed to Meta still arrives."


def status_chip(sequence: Sequence) -> SafeString:
    return chip(sequence.get_status_display(), STATUS_COLORS[Status(sequence.status)])


def _named(revision: Revision) -> str:
    return f"revision {revision.number}"


def _before_publishing(sequence: Sequence, form: PublishForm) -> dict[str, Any]:
    """What starts, or what becomes different, and everything that keeps it from that."""
    newest = sequence.revision
    inside = seeing.people(sequence).inside
    return {
        "original": sequence,
        "form": form,
        "problems": publishing.problems(sequence),
        "changed": publishing.unpublished(sequence, newest),
        "changes": live_page.changes(newest, sequence) if newest else [],
        **({} if newest else pictures.to_start(sequence)),
        "newest": newest,
        "people_inside": people(inside) if inside else "",
        "one": inside == 1,
        "started_by": started_by(sequence),
        "late": live_page.late_words(sequence),
    }


def _moving(newest: Revision) -> list[str]:
    """Who goes, who stays, and what it means for them."""
    by_step = moving.standing(newest)
    ways = moving.ways(newest, by_step)
    going = {same: sum(by_step[way.old.pk] for way in ways if way.same == same) for same in (True, False)}
    staying = by_step.total() - sum(going.values())
    told = [
        (going[True], "at a step that the newest revision has: moved, to that same step as it is there."),
        (
            going[False],
            "at a step that is gone: moved to the first one after it that is left, "
            "but for those whose message is on its way.",
        ),
        (staying, "at a step that is gone, with nothing left after it: not moved, to finish on the old revision."),
    ]
    found = [f"{people(count)} {words}" for count, words in told if count]
    if not found:
        return [f"Everybody inside is on {_named(newest)} already."]
    return [*found, "Nobody gets a message twice by being moved."]


def _others(count: int) -> str:
    """What is said of those with whom the sweep goes on."""
    return f" The other {count:,} follow in the background: the sequence's page shows how far that is." if count else ""
