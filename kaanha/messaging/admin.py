"""Messages in the admin: the recipients of one broadcast, or everything that was sent to one contact."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from contacts.models import Contact
from kaanha.messaging.models import Dispatch, Message, Status
from kaanha.organizations.access import Area
from kaanha.organizations.owned_admin import GivenFilter, Lesson, SubjectAdmin, chip, key_of, moment
from templates_app.admin import bubble

KINDS: dict[str, str] = {
    Dispatch.Kind.BROADCAST: "this broadcast",
    Dispatch.Kind.STEP: "this step",
    Dispatch.Kind.API: "this request",
    Dispatch.Kind.TEST: "this test",
}
DIGITS = 10  # a code of Meta's fits an integer column
DISPATCHES = 250  # that a list shows together: they stand in its address, and proxies take about 8,000 letters of one

STATUS_COLORS = {
    Status.QUEUED: "info",
    Status.SENDING: "info",
    Status.SENT: "primary",
    Status.DELIVERED: "success",
    Status.READ: "success",
    Status.FAILED: "danger",
    Status.SKIPPED: "warning",
    Status.UNCONFIRMED: "warning",
}


def failure_code(rows: Any, code: str) -> Any:
    """The failures of one of Meta's codes; of none for anything that is no code, such as "none"."""
    known = int(code) if code.isdecimal() and len(code) < DIGITS else None
    return rows.failed().filter(error_code=known)


def address_of(dispatches: Iterable[int]) -> str:
    """The list of what these dispatches sent, the first DISPATCHES of them; it says so where there are more."""
    named = ",".join(map(str, islice(dispatches, DISPATCHES + 1)))
    return f"{reverse('admin:messaging_message_changelist')}?dispatch={named}"


def _named(dispatches: str) -> list[str]:
    return dispatches.split(",")[:DISPATCHES]


def _all_of(organization: int, keys: list[str]) -> bool:
    """Whether each of these is a dispatch of the organization."""
    wanted = {key_of(key) or 0 for key in keys}  # 0, which no row has, for what is no key
    return Dispatch.objects.filter(organization=organization, pk__in=wanted).count() == len(wanted)


class DispatchFilter(GivenFilter):
    title = "what sent it"
    parameter_name = "dispatch"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        dispatch = model_admin.given(request).get("dispatch")
        return [(request.GET["dispatch"], KINDS[dispatch.kind])] if dispatch else []

    def queryset(self, request: HttpRequest, rows: QuerySet[Message]) -> QuerySet[Message]:
        return rows.filter(dispatch__in=[int(key) for key in _named(self.value())]) if self.value() else rows


class ContactFilter(GivenFilter):
    title = "contact"
    parameter_name = "contact"
    words = "this contact"


class FailureFilter(GivenFilter):
    """Reached from the numbers of a broadcast: the failures of one of Meta's codes, or of none."""

    title = "Meta's code"
    parameter_name = "code"
    words = "{}"
    all_option = ("", "All")

    def queryset(self, request: HttpRequest, rows: QuerySet[Message]) -> QuerySet[Message]:
        code = self.value()
        return failure_code(rows, code) if code else rows


class StatusFilter(ChoicesDropdownFilter):
    """Said so that the index which knows the status is used, however few they are."""

    def queryset(self, request: HttpRequest, rows: QuerySet[Message]) -> QuerySet[Message]:
        return rows.standing(self.value()) if self.value() else rows  # type: ignore[attr-defined]


class ReasonFilter(ChoicesDropdownFilter):
    """Only the skipped have a reason."""

    def queryset(self, request: HttpRequest, rows: QuerySet[Message]) -> QuerySet[Message]:
        reason = self.value()
        return rows.skipped().filter(skip_reason=reason) if reason else rows  # type: ignore[attr-defined]


@admin.register(Message)
class MessageAdmin(SubjectAdmin):
    """The ledger is never listed as a whole: `dispatch` or `contact` says whose messages are meant.

    Both orders follow an index: (dispatch, contact) for recipients, (contact, id) for one person's messages. A step
    that was changed has several dispatches: `dispatch` then names them by commas.
    """

    area = Area.CAMPAIGNS
    empty = Lesson(
        "No messages yet",
        "What broadcasts and sequences send stands here with its status, as soon as they have begun.",
        leads=("Broadcasts", "admin:broadcasts_broadcast_changelist"),
    )
    subjects: ClassVar = {"dispatch": Dispatch, "contact": Contact}
    list_before_template = "kaanha/message_list_head.html"
    choose_one = "Choose a broadcast to see its recipients, or a contact to see its messages."
    list_display = ("recipient", "phone", "sent_for", "status_chip", "why", "accepted", "delivered", "read")
    list_filter: Any = (
        DispatchFilter,
        ContactFilter,
        ("status", StatusFilter),
        ("skip_reason", ReasonFilter),
        FailureFilter,
    )
    list_select_related = ("contact", "dispatch")
    sortable_by: Any = ()
    fields = (
        "recipient", "phone", "template", "sent_for", "status_chip", "why", "attempts", "wamid",
        "queued", "accepted", "sent", "delivered", "read", "failed", "closed", "replied", "preview",
    )  # fmt: skip

    def get_ordering(self, request: HttpRequest) -> list[str]:
        if "dispatch" not in request.GET:
            return ["-id"]
        return ["dispatch_id", "contact_id"] if "," in request.GET["dispatch"] else ["contact_id"]

    def _subject(self, request: HttpRequest, name: str, key: str) -> Any:
        """The first one of those that the address names, all of which must be the organization's. Two queries."""
        if name != "dispatch":
            return super()._subject(request, name, key)
        first, *others = _named(key)
        row = super()._subject(request, name, first)
        if others and not _all_of(row.organization_id, others):
            raise Http404
        return row

    def list_of(self, request: HttpRequest, given: dict[str, Any], context: dict[str, Any]) -> HttpResponse:
        named = request.GET.get("dispatch", "").split(",")
        most = DISPATCHES if len(named) > DISPATCHES else None
        return super().list_of(request, given, {**context, "shown_revisions": most})

    @display(description="Recipient")
    def recipient(self, message: Message) -> str:
        return str(message.contact)

    @display(description="Phone")
    def phone(self, message: Message) -> str:
        return message.contact.phone or "–"

    @display(description="Sent for")
    def sent_for(self, message: Message) -> str:
        return str(message.dispatch.get_kind_display())

    @display(description="Status")
    def status_chip(self, message: Message) -> SafeString:
        held = message.held_by_meta and message.status == Status.SENT
        words = "Sent, held by Meta" if held else str(message.get_status_display())
        return chip(words, STATUS_COLORS[Status(message.status)])

    @display(description="Why")
    def why(self, message: Message) -> str:
        if message.status == Status.SKIPPED:
            return str(message.get_skip_reason_display())
        if message.error_code is None:
            return message.error_text or "–"
        return f"{message.error_code}: {message.error_text}"

    @display(description="Attempts")
    def attempts(self, message: Message) -> str:
        return str(message.attempt)

    @display(description="Queued")
    def queued(self, message: Message) -> str:
        return moment(message.created_at)

    @display(description="Accepted")
    def accepted(self, message: Message) -> str:
        return moment(message.accepted_at)

    @display(description="Sent")
    def sent(self, message: Message) -> str:
        return moment(message.sent_at)

    @display(description="Delivered")
    def delivered(self, message: Message) -> str:
        return moment(message.delivered_at)

    @display(description="Read")
    def read(self, message: Message) -> str:
        return moment(message.read_at)

    @display(description="Failed")
    def failed(self, message: Message) -> str:
        return moment(message.failed_at)

    @display(description="Closed")
    def closed(self, message: Message) -> str:
        return moment(message.closed_at)

    @display(description="Replied")
    def replied(self, message: Message) -> str:
        return moment(message.replied_at)

    @display(description="Template")
    def preview(self, message: Message) -> SafeString:
        return bubble(message.template)
