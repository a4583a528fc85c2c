"""The admin's home: the last 30 days, what runs and what comes, what needs a person, and the first steps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db.models import Exists, F, OuterRef, Sum
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from broadcasts.admin import STATUS_COLORS, situation, when
from broadcasts.models import Broadcast, Status
from contacts.models import Contact
from kaanha.messaging import counting
from kaanha.messaging.counting import Funnel
from kaanha.messaging.models import Dispatch, DispatchCount
from kaanha.organizations import access
from kaanha.organizations.access import Access, Area
from kaanha.organizations.models import Organization, OwnedQuerySet
from kaanha.whatsapp.models import BusinessAccount, PhoneNumber
from sequences import counting as enrolled
from sequences import live_page, seeing
from sequences.models import Sequence
from sequences.models import Status as SequenceStatus
from sequences.steps_admin import STATUS_COLORS as SEQUENCE_COLORS
from templates_app.models import MessageTemplate

PERIOD = timedelta(days=30)
SHOWN = 8
META = "graph.facebook.com"
UNSENT = (Status.DRAFT, Status.SCHEDULED, Status.QUEUED)
TEMPLATE_TROUBLE = (MessageTemplate.Status.PAUSED, MessageTemplate.Status.DISABLED, MessageTemplate.Status.REJECTED)


def organization_name(request: HttpRequest) -> str:
    """Under the product's name in the sidebar."""
    if not request.user.is_authenticated:
        return ""
    current = access.of(request)
    if current.organization is not None:
        return current.organization.name
    return "All organizations" if current.superuser else "No organization"


def environment(request: HttpRequest) -> list[str] | None:
    """A badge while the messages go to a rehearsal and not to people."""
    simulated = urlsplit(settings.WHATSAPP_API_URL).hostname != META
    return ["Simulated WhatsApp", "warning"] if simulated else None


def sees_contacts(request: HttpRequest) -> bool:
    return access.of(request).may_view(Area.CONTACTS)


def sees_campaigns(request: HttpRequest) -> bool:
    return access.of(request).may_view(Area.CAMPAIGNS)


def sees_settings(request: HttpRequest) -> bool:
    return access.of(request).may_view(Area.SETTINGS)


def is_superuser(request: HttpRequest) -> bool:
    return bool(request.user.is_superuser)


def has_several_organizations(request: HttpRequest) -> bool:
    return is_superuser(request) or len(access.of(request).memberships) > 1


def is_on_organization(request: HttpRequest) -> bool:
    """Whether the sidebar's Organization is where one is; its address begins that of the switch, too."""
    name = request.resolver_match.view_name if request.resolver_match else ""
    return name.startswith("admin:organizations_organization_") and not name.endswith("_choose")


def home(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the home page shows, for the organization that the request works in."""
    current = access.of(request)
    context.update(title="Home", access=current, homeless=current.organization is None and not current.superuser)
    if current.may_view(Area.CAMPAIGNS):
        with timezone.override(current.zone):
            context.update(_campaigns(current, now=timezone.now()))
    if current.may_change(Area.SETTINGS) and current.organization is not None:
        context["steps"] = first_steps(current.organization)
    return context


def _campaigns(current: Access, *, now: datetime) -> dict[str, Any]:
    funnel = last_days(current.organization, since=now - PERIOD)
    return {
        "funnel": funnel,
        "tiles": _tiles(funnel),
        "open_broadcasts": _open(_of(current, Broadcast.objects.all())),
        "open_sequences": _open_sequences(current),
        "needs": _needs(current),
        "period_days": PERIOD.days,
        "may_write": current.may_change(Area.CAMPAIGNS),
    }


def last_days(organization: Organization | None, *, since: datetime) -> Funnel:
    """The sum of everything that was dispatched since then but tests, from the counters. One query."""
    rows = DispatchCount.objects.filter(dispatch__created_at__gte=since).exclude(dispatch__kind=Dispatch.Kind.TEST)
    if organization is not None:
        rows = rows.filter(dispatch__organization=organization)
    sums = rows.aggregate(**{column: Sum(F(column), default=0) for column in counting.COLUMNS})
    return Funnel(**{column: int(value) for column, value in sums.items()})


def _tiles(funnel: Funnel) -> list[tuple[str, int, str]]:
    """The numbers at the top: label, count, and the rate below it."""
    return [
        ("Total Sent", funnel.dispatched, ""),
        ("Delivered", funnel.delivered, f"{funnel.delivery_rate:.0%} of those sent" if funnel.dispatched else ""),
        ("Read", funnel.read, f"{funnel.read_rate:.0%} of those delivered" if funnel.delivered else ""),
        ("Failed", funnel.failed, ""),
        ("Skipped", funnel.skipped, ""),
    ]


def _open(broadcasts: OwnedQuerySet) -> list[dict[str, Any]]:
    """Broadcasts that run or will, those that are closest to sending first. Two queries, and one for each queued."""
    order = {Status.SENDING: 0, Status.QUEUED: 1, Status.PAUSED: 2, Status.SCHEDULED: 3}
    rows = list(
        broadcasts.filter(status__in=list(order)).select_related("organization").order_by("scheduled_at", "pk")[:100]
    )
    rows.sort(key=lambda row: order[Status(row.status)])
    funnels = counting.funnels(row.dispatch_id for row in rows)
    return [_line(row, funnels.get(row.dispatch_id, Funnel())) for row in rows[:SHOWN]]


def _line(broadcast: Broadcast, funnel: Funnel) -> dict[str, Any]:
    settled = funnel.total - funnel.waiting
    return {
        "broadcast": broadcast,
        "color": STATUS_COLORS[Status(broadcast.status)],
        "when": when(broadcast),
        "funnel": funnel,
        "done": round(100 * settled / funnel.total) if funnel.total else 0,
        "sentence": situation(broadcast, funnel) if broadcast.status in {Status.QUEUED, Status.PAUSED} else "",
    }


def _open_sequences(current: Access) -> list[dict[str, Any]]:
    """Sequences that people are in, or may come into, those with most people inside first. Two queries."""
    rows = _of(current, Sequence.objects.all()).filter(status__in=[SequenceStatus.ACTIVE, SequenceStatus.PAUSED])
    found = list(rows.order_by("-first_activated_at")[:100])
    people = enrolled.people(row.pk for row in found)
    found.sort(key=lambda row: -people[row.pk].inside)
    return [
        {"sequence": row, "people": people[row.pk], "color": SEQUENCE_COLORS[SequenceStatus(row.status)]}
        for row in found[:SHOWN]
    ]


def _needs(current: Access) -> list[dict[str, str]]:
    """What doesn't go on by itself: each with a sentence and where to go."""
    return [*_stopped(current), *_held(current), *_template_trouble(current), *_number_trouble(current)]


def _stopped(current: Access) -> list[dict[str, str]]:
    paused = _of(current, Broadcast.objects.all()).filter(status=Status.PAUSED, resume_at=None).order_by("-paused_at")
    return [
        {
            "title": broadcast.name,
            "sentence": situation(broadcast, Funnel()),
            "link": reverse("admin:broadcasts_broadcast_change", args=[broadcast.pk]),
        }
        for broadcast in paused[:SHOWN]
    ]


def _held(current: Access) -> list[dict[str, str]]:
    """Steps of sequences at which people wait because something is broken."""
    steps = seeing.held_steps(_of(current, Sequence.objects.all()))
    return [
        {
            "title": step.revision.sequence.name,
            "sentence": live_page.held_words(step),
            "link": reverse("admin:sequences_sequence_change", args=[step.revision.sequence_id]),
        }
        for step in steps[:SHOWN]
    ]


def _template_trouble(current: Access) -> list[dict[str, str]]:
    """Templates that can't be sent and that a broadcast is waiting for; others trouble nobody."""
    waiting = Broadcast.objects.filter(template=OuterRef("pk"), status__in=UNSENT)
    templates = _of(current, MessageTemplate.objects.all()).filter(Exists(waiting), status__in=TEMPLATE_TROUBLE)
    return [
        {
            "title": str(template),
            "sentence": f"{template.get_status_display()}. {template.rejected_reason}".strip(),
            "link": reverse("admin:templates_app_messagetemplate_change", args=[template.pk]),
        }
        for template in templates[:SHOWN]
    ]


def _number_trouble(current: Access) -> list[dict[str, str]]:
    numbers = _of(current, PhoneNumber.objects.all()).filter(disconnected_at__isnull=False)
    return [
        {
            "title": str(number),
            "sentence": "The number is disconnected: nothing can be sent from it.",
            "link": reverse("admin:whatsapp_phonenumber_changelist"),
        }
        for number in numbers[:SHOWN]
    ]


def first_steps(organization: Organization) -> list[dict[str, Any]]:
    """The way to the first broadcast, with what is done already; empty once one has been sent."""
    asked: list[tuple[str, str, str, Callable[[], bool]]] = [
        (
            "Connect WhatsApp",
            "The account at Meta, its token and its numbers.",
            "whatsapp_businessaccount_add",
            BusinessAccount.objects.of(organization).exists,
        ),
        (
            "Sync templates",
            "Meta approves templates; Kaanha sends those.",
            "templates_app_messagetemplate_sync_confirm",
            MessageTemplate.objects.of(organization).approved().exists,
        ),
        (
            "Import contacts",
            "A CSV file with phone, name, tags and consent.",
            "contacts_import_add",
            Contact.objects.of(organization).reachable().exists,
        ),
        (
            "Send a broadcast",
            "A template for everybody who holds a tag.",
            "broadcasts_broadcast_add",
            Broadcast.objects.of(organization).filter(dispatch__isnull=False).exists,
        ),
    ]
    steps = [
        {"title": title, "words": words, "link": reverse(f"admin:{page}"), "done": done()}
        for title, words, page, done in asked
    ]
    return [] if steps[-1]["done"] else steps


def _of(current: Access, rows: Any) -> Any:
    return rows if current.organization is None else rows.of(current.organization)
