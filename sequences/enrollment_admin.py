"""Enrollments in the admin: the people of a sequence or the sequences of a contact, and one person's way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from django.contrib import admin
from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import display
from unfold.views import ChangeList

from contacts.models import Contact
from kaanha.messaging.admin import STATUS_COLORS as MESSAGE_COLORS
from kaanha.messaging.models import Message
from kaanha.messaging.models import Status as MessageStatus
from kaanha.organizations.access import Area
from kaanha.organizations.models import Organization
from kaanha.organizations.owned_admin import CappedPaginator, GivenFilter, Lesson, SubjectAdmin, chip, moment, two_lines
from sequences import enrollments, seeing, standing
from sequences.enrolling import SENTENCES
from sequences.models import (
    INSIDE,
    Code,
    Enrollment,
    EnrollmentRefusal,
    EnrollmentStatus,
    ExitReason,
    Outcome,
    Sequence,
    Status,
    Step,
)
from sequences.seeing import RunView
from sequences.standing import Ahead, Standing

STATUS_COLORS = {
    EnrollmentStatus.ACTIVE: "primary",
    EnrollmentStatus.PAUSED: "warning",
    EnrollmentStatus.COMPLETED: "success",
    EnrollmentStatus.EXITED: "",
}
OUTCOME_COLORS: dict[str, str] = {
    Outcome.SENT: "primary",
    Outcome.FAILED: "danger",
    Outcome.SKIPPED: "warning",
    Outcome.UNCONFIRMED: "warning",
    Outcome.YES: "success",
}
ICONS: dict[str, str] = {Step.Kind.MESSAGE: "chat", Step.Kind.DELAY: "schedule", Step.Kind.CONDITION: "call_split"}
REFUSALS = 50  # on a page


class KeyedPaginator(CappedPaginator):
    """Reads the keys of all that is found, up to the cap, and then a page's rows by theirs.

    So what a filter finds seldom is looked for once, and not for the count and the page.
    """

    @cached_property
    def keys(self) -> list[int]:
        rows: Any = self.object_list
        return list(rows.values_list("pk", flat=True)[: self.horizon])

    @cached_property
    def count(self) -> int:
        return len(self.keys)

    def page(self, number: int | str) -> Page[Any]:
        number = self.validate_number(number)
        found: Any = self.object_list
        rows = found.model._default_manager.filter(pk__in=self.keys[(number - 1) * self.per_page :][: self.per_page])
        rows.query.select_related, rows.query.order_by = found.query.select_related, found.query.order_by
        return Page(rows, number, self)


class KeyedChangeList(ChangeList):
    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        # Django asks its paginator only where there is more than one page.
        if not (self.multi_page or self.show_all):
            self.result_list = self.paginator.page(1).object_list


class SequenceFilter(GivenFilter):
    title = "sequence"
    parameter_name = "sequence"
    words = "this sequence"


class ContactFilter(GivenFilter):
    title = "contact"
    parameter_name = "contact"
    words = "this contact"


class InsideFilter(DropdownFilter):
    title = "way"
    parameter_name = "inside"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("1", "Still inside"), ("0", "Ended")]

    def queryset(self, request: HttpRequest, rows: QuerySet[Enrollment]) -> QuerySet[Enrollment]:
        return rows.filter(ended_at__isnull=self.value() == "1") if self.value() in {"1", "0"} else rows


class ExitFilter(ChoicesDropdownFilter):
    """Only the exited have a reason: said to the database, for the sake of its index."""

    def queryset(self, request: HttpRequest, rows: QuerySet[Enrollment]) -> QuerySet[Enrollment]:
        found: QuerySet[Enrollment] = super().queryset(request, rows)
        return found.filter(status=EnrollmentStatus.EXITED) if self.value() else found


class StepFilter(DropdownFilter):
    """Who stands at a step: by its key, which it has in all revisions."""

    title = "step"
    parameter_name = "step"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        sequence = model_admin.given(request).get("sequence")
        if sequence is None:
            return []
        rows = Step.objects.filter(revision__sequence=sequence)
        latest = list(rows.order_by("key", "-revision__number").distinct("key"))
        words = standing.in_words(latest, sequence.organization)
        latest.sort(key=lambda step: (-step.revision_id, step.position))
        return [(step.key, f"{step.place}: {words[step.pk]}") for step in latest]

    def queryset(self, request: HttpRequest, rows: QuerySet[Enrollment]) -> QuerySet[Enrollment]:
        if not self.value():
            return rows
        key = request.GET.get("sequence") or "0"
        steps = Step.objects.filter(revision__sequence=int(key), key=self.value())
        return rows.filter(step__in=list(steps.values_list("pk", flat=True)), ended_at=None)


@dataclass(frozen=True)
class Past:
    """A step that was taken, as the page shows it."""

    place: str
    kind: str
    icon: str
    words: str
    when: str
    chip: SafeString | str
    facts: str
    why: str
    link: str


@dataclass(frozen=True)
class Coming:
    """A step that lies ahead, as the page shows it."""

    place: str
    kind: str
    icon: str
    words: str
    when: str
    paths: list[tuple[str, list[Coming]]]


@admin.register(Enrollment)
class EnrollmentAdmin(SubjectAdmin):
    """The people of one sequence, or the sequences of one contact."""

    area = Area.CAMPAIGNS
    empty = Lesson(
        "Nobody has been enrolled yet",
        "Contacts enter an active sequence by its trigger, by the API, or by hand: select them in their list "
        "and enroll them.",
        leads=("Contacts", "admin:contacts_contact_changelist"),
    )
    subjects: ClassVar = {"sequence": Sequence, "contact": Contact}
    choose_one = "Choose a sequence to see the people in it."
    elsewhere = "admin:sequences_sequence_changelist"
    paginator = KeyedPaginator
    list_display = ("contact_shown", "status_chip", "step_shown", "goes_on", "enrolled")
    list_filter: Any = (
        SequenceFilter,
        ContactFilter,
        InsideFilter,
        ("status", ChoicesDropdownFilter),
        ("exit_reason", ExitFilter),
        StepFilter,
    )
    list_select_related = ("contact", *standing.RELATED)
    search_fields = ("contact__name", "contact__phone")
    search_help_text = "Search by name, or by the first digits of a number"
    sortable_by: Any = ()
    list_before_template = "kaanha/enrollment_list_head.html"

    def own_pages(self) -> dict[str, tuple[str, Callable[..., HttpResponse]]]:
        return {
            name: (f"<path:object_id>/{name}/", getattr(self, f"{name}_view")) for name in ("pause", "resume", "cancel")
        }

    # --- list ----------------------------------------------------------------------------------------------------

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return KeyedChangeList

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        given, *rest = self.list_display
        return (given, *rest) if "sequence" in request.GET else ("sequence_shown", *rest)

    def get_ordering(self, request: HttpRequest) -> list[str]:
        """By what the index has beside the subject: (sequence, contact); a contact has few."""
        return ["contact_id"] if "sequence" in request.GET else ["-enrolled_at", "-id"]

    def list_of(self, request: HttpRequest, given: dict[str, Any], context: dict[str, Any]) -> HttpResponse:
        if sequence := given.get("sequence"):
            if "refused" in request.GET:
                return self.refusals(request, sequence)
            held = f"{sequence.name} is {sequence.get_status_display().lower()}: nobody in it moves."
            context |= {"title": f"People in {sequence.name}", "note": held if sequence.status == Status.PAUSED else ""}
        else:
            context |= {"title": f"Sequences of {given['contact']}"}
        return super().list_of(request, given, context)

    def get_search_results(
        self, request: HttpRequest, rows: QuerySet[Enrollment], search_term: str
    ) -> tuple[QuerySet[Enrollment], bool]:
        """Over the organization's contacts first: there the beginning of a number has its index."""
        term = search_term.strip()
        if not term:
            return rows, False
        people = Contact.objects.filter(organization=_owner(self.given(request)))
        return rows.filter(contact__in=people.matching(term, common=people.is_common(term)).values("pk")), False

    def complete(self, request: HttpRequest, rows: list[Any]) -> None:
        found = standing.standings(rows, _owner(self.given(request)))
        for row in rows:
            row.standing = found.get(row.pk)

    @display(description="Contact")
    def contact_shown(self, enrollment: Enrollment) -> SafeString:
        contact = enrollment.contact
        return two_lines(str(contact), (contact.phone or "") if contact.name else "")

    @display(description="Sequence")
    def sequence_shown(self, enrollment: Enrollment) -> str:
        return str(enrollment.sequence)

    @display(description="Status")
    def status_chip(self, enrollment: Enrollment) -> SafeString:
        return status_chip(enrollment)

    @display(description="Step")
    def step_shown(self, enrollment: Any) -> SafeString:
        one: Standing | None = enrollment.standing
        return two_lines(one.words, f"Step {one.place}") if one else two_lines("–", "")

    @display(description="Goes on")
    def goes_on(self, enrollment: Any) -> str:
        one: Standing | None = enrollment.standing
        if one is None:
            return f"Ended {moment(enrollment.ended_at)}"
        return _shortly(enrollment, one)

    @display(description="Enrolled")
    def enrolled(self, enrollment: Enrollment) -> SafeString:
        return two_lines(moment(enrollment.enrolled_at), str(enrollment.get_source_display()))

    def refusals(self, request: HttpRequest, sequence: Sequence) -> HttpResponse:
        """Who wasn't enrolled, and why, the latest first."""
        code = request.GET.get("code", "")
        rows = EnrollmentRefusal.objects.filter(sequence=sequence).select_related("contact").order_by("-at", "-pk")
        pages: Paginator[Any] = KeyedPaginator.of(request, rows.filter(code=code) if code else rows, REFUSALS)
        page = pages.get_page(request.GET.get("p", 1))
        return self.page(
            request,
            "kaanha/sequence_refusals.html",
            title=f"Not enrolled in {sequence.name}",
            sequence=sequence,
            rows=[(row, moment(row.at)) for row in page],
            page=page,
            code=code,
            sentence=SENTENCES.get(code, ""),
            counts=[(one, Code(one).label, count) for one, count in seeing.refusals(sequence).items()],
        )

    # --- one -----------------------------------------------------------------------------------------------------

    def found(self, request: HttpRequest, object_id: str) -> Enrollment:
        """The enrollment with what its page asks for."""
        key = super().found(request, object_id).pk
        related = ("contact", "revision", "sequence__organization", *standing.RELATED)
        found: Enrollment = Enrollment.objects.select_related(*related).get(pk=key)
        return found

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The way of one person: what was taken, where it stands, what lies ahead."""
        self.require(request, change=False)
        enrollment = self.found(request, object_id)
        path = seeing.path(enrollment)
        here = standing.standings([enrollment], enrollment.sequence.organization).get(enrollment.pk)
        taken = {view.run.key for view in path}
        return self.page(
            request,
            "kaanha/enrollment.html",
            title=str(enrollment),
            original=enrollment,
            status=status_chip(enrollment),
            past=[_past(view) for view in path if view.run.ended_at],
            here=here,
            here_icon=ICONS[enrollment.step.kind] if here and enrollment.step else "",
            here_kind=enrollment.step.kind if here and enrollment.step else "",
            goes_on=_goes_on(enrollment, here) if here else "",
            waiting=_waiting(path),
            ahead=_coming(standing.ahead(enrollment, here, taken=taken)) if here else [],
            end=_end(enrollment),
            enrolled=moment(enrollment.enrolled_at),
            facts=_facts(enrollment),
            acts=self._acts(request, enrollment),
        )

    def _acts(self, request: HttpRequest, enrollment: Enrollment) -> list[tuple[str, str]]:
        if not self.has_act_permission(request) or enrollment.status not in INSIDE:
            return []
        paused = enrollment.status == EnrollmentStatus.PAUSED
        return [("resume", "Resume …") if paused else ("pause", "Pause …"), ("cancel", "Cancel …")]

    def pause_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        sentences = [
            "Nothing is sent to this contact by this sequence until it is resumed.",
            "A message that Meta has already still arrives.",
        ]
        return self._act(request, object_id, enrollments.pause, "Pause", "paused", sentences)

    def resume_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        sentences = ["The contact goes on where it stands; what fell due meanwhile is done at once."]
        return self._act(request, object_id, enrollments.resume, "Resume", "resumed", sentences)

    def cancel_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        sentences = [
            "The sequence ends for this contact, for good: nobody is enrolled in a sequence twice.",
            "A queued message is withdrawn; one that Meta has already still arrives.",
        ]
        return self._act(request, object_id, enrollments.cancel, "Cancel", "canceled", sentences)

    def _act(
        self,
        request: HttpRequest,
        object_id: str,
        act: Callable[..., None],
        verb: str,
        done: str,
        sentences: list[str],
    ) -> HttpResponse:
        self.require(request)
        enrollment = self.found(request, object_id)
        who = str(enrollment)

        def acted() -> str:
            act(enrollment, now=timezone.now())
            return f"{who}: {done}."

        asked: dict[str, Any] = {"title": f"{verb} {who}", "danger": verb == "Cancel"}
        button = "Cancel the enrollment" if verb == "Cancel" else verb
        return self.confirmed(request, enrollment, acted, sentences=sentences, button=button, **asked)


def status_chip(enrollment: Enrollment) -> SafeString:
    """The status with the reason of an exit."""
    if enrollment.status == EnrollmentStatus.EXITED:
        words = ExitReason(enrollment.exit_reason).label
        return chip(f"Left: {words[0].lower()}{words[1:]}")
    return chip(enrollment.get_status_display(), STATUS_COLORS[EnrollmentStatus(enrollment.status)])


def link_to(enrollment: Enrollment) -> str:
    return reverse("admin:sequences_enrollment_change", args=[enrollment.pk])


def _owner(given: Mapping[str, Any]) -> Organization:
    owner: Organization = next(iter(given.values())).organization
    return owner


def _shortly(enrollment: Enrollment, here: Standing) -> str:
    """When it goes on, in few words: the page of the enrollment has the sentence."""
    if enrollment.status == EnrollmentStatus.PAUSED:
        return "When it is resumed"
    if enrollment.sequence.status == Status.PAUSED:
        return "When the sequence is resumed"
    if enrollment.step and enrollment.step.dispatch and enrollment.step.dispatch.held_at:
        return "When the step is no longer held"
    if here.waits_for or here.at is None:
        return "After its message"
    return _by(enrollment, here.at)


def _by(enrollment: Enrollment, at: datetime) -> str:
    if at <= timezone.now():
        return "Now"
    condition = enrollment.step is not None and enrollment.step.kind == Step.Kind.CONDITION
    return f"At the latest {moment(at)}" if condition else moment(at)


def _goes_on(enrollment: Enrollment, here: Standing) -> str:
    if here.waits_for or here.at is None:
        return here.waits_for or "It goes on when its message has been sent, has failed or was skipped."
    when = _by(enrollment, here.at)
    if when == "Now":
        return "It is due now and goes on within seconds."
    return f"It goes on {when[0].lower()}{when[1:]}{f', with: {here.then}' if here.then else ''}."


def _waiting(path: list[RunView]) -> Past | None:
    """The step in which it waits, where it has begun."""
    return next((_past(view) for view in path if view.run.ended_at is None), None)


def _end(enrollment: Enrollment) -> str:
    if enrollment.status == EnrollmentStatus.COMPLETED:
        return f"Completed {moment(enrollment.ended_at)}"
    if enrollment.status == EnrollmentStatus.EXITED:
        return f"{ExitReason(enrollment.exit_reason).label}, {moment(enrollment.ended_at)}: the sequence ended here"
    return ""


def _facts(enrollment: Enrollment) -> list[tuple[str, str]]:
    return [
        ("Enrolled by", str(enrollment.get_source_display())),
        ("Revision", str(enrollment.revision.number)),
        *([("Ended", moment(enrollment.ended_at))] if enrollment.ended_at else []),
        ("Id", enrollment.public_id),
    ]


def _past(view: RunView) -> Past:
    run, message = view.run, view.message
    return Past(
        place=view.place,
        kind=run.step.kind,
        icon=ICONS[run.step.kind],
        words=view.words,
        when=moment(run.at),
        chip=fate_chip(run.outcome, message) if run.outcome or message else "",
        facts=_facts_of(message) if message else _waited(view),
        why=fate_reason(run.reason, message),
        link=reverse("admin:messaging_message_change", args=[message.pk]) if message else "",
    )


def _coming(lines: list[Ahead]) -> list[Coming]:
    return [
        Coming(
            line.place,
            line.kind,
            ICONS[line.kind],
            line.words,
            _expected(line),
            [(label, _coming(inner)) for label, inner in line.paths],
        )
        for line in lines
    ]


def _expected(line: Ahead) -> str:
    if line.at is None:
        return ""
    return f"{'until' if line.kind == Step.Kind.DELAY else 'expected'} {moment(line.at)}"


def _waited(view: RunView) -> str:
    return f"until {moment(view.run.until)}" if view.run.until and view.run.outcome == Outcome.WAITED else ""


def fate_chip(outcome: str, message: Message | None) -> SafeString:
    """What became of a step. A message's story goes on after its step: what counts is where it is now."""
    if message is not None:
        return chip(str(message.get_status_display()), MESSAGE_COLORS[MessageStatus(message.status)])
    return chip(Outcome(outcome).label, OUTCOME_COLORS.get(outcome, ""))


def fate_reason(reason: str, message: Message | None) -> str:
    """Why it wasn't sent, or why a condition went its way."""
    if message is None:
        return reason
    if message.status == MessageStatus.SKIPPED:
        return str(message.get_skip_reason_display())
    return f"{message.error_code}: {message.error_text}" if message.error_code else message.error_text


def _facts_of(message: Message) -> str:
    """The stages that a message has come through, with their times."""
    stages = [
        ("accepted by Meta", message.accepted_at),
        ("delivered", message.delivered_at),
        ("read", message.read_at),
        ("answered", message.replied_at),
    ]
    return " · ".join(f"{name} {moment(at)}" for name, at in stages if at)
