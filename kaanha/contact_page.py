"""The page of a contact, with what was sent to it, what it wrote, and its sequences; and enrolling from the list."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from rest_framework.serializers import ValidationError
from unfold.widgets import UnfoldAdminSelect2Widget

from broadcasts.models import Broadcast
from contacts import bulk
from contacts.admin import SHOWN, ContactAdmin, Section
from contacts.models import Contact
from kaanha import timeline_words
from kaanha.lib import pagination
from kaanha.lib.errors import Refusal
from kaanha.messaging.models import Message
from kaanha.organizations import access
from kaanha.organizations.access import Area
from kaanha.organizations.owned_admin import chip, moment
from sequences import enrolling, standing
from sequences import models as sequences
from sequences.enrolling import SENTENCES
from sequences.enrollment_admin import fate_chip, fate_reason, link_to, status_chip
from sequences.models import Code, Enrollment, EnrollmentRefusal, Source, Step, StepRun
from sequences.standing import Standing


class SequenceChoice(forms.Form):
    sequence = forms.ModelChoiceField(queryset=sequences.Sequence.objects.none(), widget=UnfoldAdminSelect2Widget())

    def __init__(self, *args: Any, among: QuerySet[sequences.Sequence], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices: Any = self.fields["sequence"]
        choices.queryset = among.order_by("name", "pk")


@admin.register(Contact)
class ContactPage(ContactAdmin):
    actions = (*ContactAdmin.actions, "enroll_selected")
    change_form_outer_after_template = "kaanha/contact_page.html"

    def own_pages(self) -> dict[str, tuple[str, Callable[..., HttpResponse]]]:
        return {
            **super().own_pages(),
            "enroll": ("<path:object_id>/enroll/", self.enroll_view),
            "timeline": ("<path:object_id>/timeline/", self.timeline_view),
        }

    def has_enroll_permission(self, request: HttpRequest) -> bool:
        """Enrolling sends messages: it takes more than the right to edit contacts."""
        return access.of(request).may_change(Area.CAMPAIGNS)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        context = {**(extra_context or {}), "may_enroll": self.has_enroll_permission(request)}
        return super().change_view(request, object_id, form_url, context)

    def happened(self, request: HttpRequest, contact: Contact) -> dict[str, Any]:
        return {**super().happened(request, contact), **_timeline(request, contact)}

    def history(self, request: HttpRequest, contact: Contact) -> list[Section]:
        return [_sequences(request, contact), *_broadcasts(request, contact), *super().history(request, contact)]

    def timeline_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The entries after `?cursor=`, for the list on the contact's page."""
        self.require(request, change=False)
        contact = self.found(request, object_id)
        context = {**_timeline(request, contact), "original": contact}
        return render(request, "kaanha/contact_timeline.html", context)

    # --- enrolling -----------------------------------------------------------------------------------------------

    def enroll_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Choose the sequence for one contact; what refuses it is said in words."""
        if not self.has_enroll_permission(request):
            raise PermissionDenied
        contact = self.found(request, object_id)
        among = _active(request).filter(organization=contact.organization_id)
        among = among.exclude(pk__in=Enrollment.objects.filter(contact=contact).values("sequence"))
        if why := _why_not(contact, among):
            messages.warning(request, why)
            return redirect(self.url("change", contact.pk))
        form = SequenceChoice(request.POST or None, among=among)

        def enroll(sequence: sequences.Sequence) -> str:
            return _enroll_one(contact, sequence, now=timezone.now())

        sentence = f"{contact} begins with its first step at once. Only active sequences that it isn't in are offered."
        asked: dict[str, Any] = {"title": "Enroll in a sequence", "sentences": [sentence], "button": "Enroll"}
        return self.confirmed(request, contact, enroll, form=form, **asked)

    @admin.action(description="Enroll in a sequence …", permissions=["enroll"])
    def enroll_selected(self, request: HttpRequest, contacts: QuerySet[Contact]) -> HttpResponse | None:
        if not _active(request).exists():
            messages.warning(request, "There is no active sequence. Activate one, then enroll people in it.")
            return None
        form = SequenceChoice(request.POST if "apply" in request.POST else None, among=_active(request))
        if form.is_valid():
            sequence = form.cleaned_data["sequence"]
            self.attempt(request, lambda: _enroll_all(contacts, sequence, now=timezone.now()))
            return None
        return self.asked(
            request,
            contacts,
            "enroll_selected",
            title="Enroll in a sequence",
            button="Enroll them",
            form=form,
            sentences=["Each begins with the first step at once. Who may not be enrolled is left out, and counted."],
        )


def _active(request: HttpRequest) -> QuerySet[sequences.Sequence]:
    """The active sequences of the organization that the request works in."""
    rows = sequences.Sequence.objects.filter(status=sequences.Status.ACTIVE)
    current = access.of(request)
    return rows if current.superuser and not current.organization else rows.filter(organization=current.organization)


def _why_not(contact: Contact, among: QuerySet[sequences.Sequence]) -> str:
    """What keeps a contact from being enrolled anywhere."""
    if contact.deleted_at is not None:
        return SENTENCES[Code.CONTACT_DELETED]
    if not contact.opted_in:
        return SENTENCES[Code.NOT_OPTED_IN]
    return "" if among.exists() else f"There is no active sequence that {contact} hasn't been in already."


def _enroll_one(contact: Contact, sequence: sequences.Sequence, *, now: datetime) -> str:
    (outcome,) = enrolling.enroll(sequence, [contact.pk], source=Source.OPERATOR, now=now)
    if outcome.code:
        raise Refusal(SENTENCES[outcome.code], code=outcome.code)
    return f"{contact} is enrolled in {sequence}: the first step is on its way."


def _enroll_all(contacts: QuerySet[Contact], sequence: sequences.Sequence, *, now: datetime) -> str:
    """Enroll them; the outcome in a sentence. Of many it is only begun here, and done in the background."""
    few = list(contacts.order_by("pk").values_list("pk", flat=True)[: bulk.AT_ONCE + 1])
    if len(few) > bulk.AT_ONCE:
        count = enrolling.ask_for(sequence, contacts, source=Source.OPERATOR, now=now)
        return f"{count:,} contacts are being enrolled in {sequence}: its page shows how far that is, and who can't be."
    outcomes = enrolling.enroll(sequence, few, source=Source.OPERATOR, now=now)
    return _outcome(Counter(outcome.code for outcome in outcomes), sequence)


def _outcome(codes: Counter[str], sequence: sequences.Sequence) -> str:
    """Such as: 812 enrolled in Welcome; not: 40 not opted in, 3 enrolled before."""
    refused = [(Code(code).label, count) for code, count in codes.most_common() if code]
    words = ", ".join(f"{count:,} {label[0].lower()}{label[1:]}" for label, count in refused)
    return f"{codes['']:,} enrolled in {sequence}{f'; not: {words}' if words else ''}."


def _timeline(request: HttpRequest, contact: Contact) -> dict[str, Any]:
    """What the page shows of the contact's timeline; from its beginning where the cursor is none of its own."""
    try:
        after = pagination.opened(request.GET["cursor"]) if "cursor" in request.GET else None
        lines, beyond = timeline_words.page(contact, after=after)
    except (ValueError, ValidationError):
        lines, beyond = timeline_words.page(contact)
    link = f"{reverse('admin:messaging_message_changelist')}?contact={contact.pk}"
    linked = access.of(request).may_view(Area.CAMPAIGNS)
    return {"timeline_lines": lines, "next_cursor": beyond, "messages_link": link if linked else ""}


# --- sections ----------------------------------------------------------------------------------------------------


def _sequences(request: HttpRequest, contact: Contact) -> Section:
    """Its enrollments, those inside first, and what it was refused: what was sent, what wasn't and why, what comes."""
    rows = Enrollment.objects.filter(contact=contact.pk).select_related("contact", *standing.RELATED)
    latest = sorted(rows.order_by("-enrolled_at", "-pk")[:SHOWN], key=lambda row: row.ended_at is not None)
    refusals = EnrollmentRefusal.objects.filter(contact=contact.pk).select_related("sequence").order_by("-at", "-pk")
    here, sent = standing.standings(latest, contact.organization), _sent(latest)
    linked = access.of(request).may_view(Area.CAMPAIGNS)
    lines: list[Sequence[object]] = [
        (
            _named(row.sequence, row.enrolled_at, link_to(row) if linked else ""),
            status_chip(row),
            format_html_join("", "<div>{} {}{}</div>", sent[row.pk]) or "–",
            _next(here.get(row.pk)),
        )
        for row in latest
    ]
    lines += [
        (_named(row.sequence, row.at), chip("Not enrolled", "warning"), row.get_code_display(), "–")
        for row in refusals[:SHOWN]
    ]
    headers = ("Sequence", "Status", "What was sent, and why not", "What comes next")
    link = f"{reverse('admin:sequences_enrollment_changelist')}?contact={contact.pk}"
    return Section(
        "Sequences",
        headers,
        lines,
        "This contact has been in no sequence.",
        link=link if latest and linked else "",
        link_text="All sequences",
    )


def _broadcasts(request: HttpRequest, contact: Contact) -> list[Section]:
    """The scheduled broadcasts whose tags reach the contact as it is now; no section where there are none."""
    held = list(contact.tags.values_list("pk", flat=True))
    if not contact.opted_in or not contact.phone or contact.deleted_at is not None:
        return []
    planned = Broadcast.objects.of(contact.organization_id).filter(status="scheduled", tags__in=held)
    planned = planned.exclude(excluded_tags__in=held).select_related("template").distinct().order_by("scheduled_at")
    rows: list[Sequence[object]] = [(moment(one.scheduled_at), str(one), str(one.template)) for one in planned[:SHOWN]]
    if not rows:
        return []
    return [Section("Planned broadcasts", ("When", "Broadcast", "Template"), rows, "")]


def _named(sequence: sequences.Sequence, at: datetime, link: str = "") -> SafeString:
    name = format_html('<a href="{}">{}</a>', link, sequence) if link else sequence
    return format_html('{}<div class="k-help">{}</div>', name, moment(at))


def _sent(enrollments: Iterable[Enrollment]) -> dict[int, list[tuple[SafeString, str, str]]]:
    """The message steps that each has taken: what became of it, the template, and why it wasn't sent. Two queries."""
    keys = [row.pk for row in enrollments]
    runs = StepRun.objects.filter(enrollment__in=keys, step__kind=Step.Kind.MESSAGE).select_related("step__template")
    taken = list(runs.order_by("at", "pk"))
    found = Message.objects.in_bulk([run.message for run in taken if run.message is not None])
    sent = defaultdict(list)
    for run in taken:
        message = found.get(run.message or 0)
        why = fate_reason(run.reason, message)
        name = run.step.template.name if run.step.template else f"step {run.step.place}"
        sent[run.enrollment_id].append((fate_chip(run.outcome, message), name, f": {why}" if why else ""))
    return sent


def _next(here: Standing | None) -> SafeString | str:
    """The step that comes, with its time, or what keeps it waiting."""
    if here is None:
        return "–"
    step = f"{here.words}, then: {here.then}" if here.then else here.words
    if here.waits_for or here.at is None:
        return format_html("{}<div>{}</div>", step, here.waits_for)
    return format_html("{}<div>{}</div>", step, moment(here.at) if here.at > timezone.now() else "Due now")
