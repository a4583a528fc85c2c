"""The admin's home: the last days in numbers, what runs and what comes, what needs a person, and the first steps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db.models import Case, When
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from broadcasts.admin import STATUS_COLORS, situation, when
from broadcasts.models import Broadcast, Status
from contacts.models import Contact
from kaanha import home_numbers
from kaanha.messaging import counting
from kaanha.messaging.counting import Funnel
from kaanha.needs import needs, of
from kaanha.organizations import access
from kaanha.organizations.access import Access, Area
from kaanha.organizations.models import Organization, OwnedQuerySet
from kaanha.whatsapp.admin import QUALITY_COLORS
from kaanha.whatsapp.models import BusinessAccount, PhoneNumber
from sequences import counting as enrolled
from sequences.models import Sequence
from sequences.models import Status as SequenceStatus
from sequences.steps_admin import STATUS_COLORS as SEQUENCE_COLORS
from templates_app.models import MessageTemplate

SHOWN = 8
META = "graph.facebook.com"
OPEN = (Status.SENDING, Status.QUEUED, Status.PAUSED, Status.SCHEDULED)  # the closest to sending first


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
            context.update(_campaigns(request, current, now=timezone.now()))
    if current.may_change(Area.SETTINGS) and current.organization is not None:
        context["steps"] = first_steps(current.organization)
    return context


def _campaigns(request: HttpRequest, current: Access, *, now: datetime) -> dict[str, Any]:
    days = home_numbers.chosen_days(request.GET)
    return {
        **home_numbers.numbers(current.organization, days=days, zone=current.zone, now=now),
        "zone": current.zone,
        "open_broadcasts": _open(of(current, Broadcast.objects.all())),
        "open_sequences": _open_sequences(current),
        "numbers": _numbers(current),
        "needs": needs(current, now=now),
        "may_write": current.may_change(Area.CAMPAIGNS),
    }


def _open(broadcasts: OwnedQuerySet) -> list[dict[str, Any]]:
    """Broadcasts that run or will, those that are closest to sending first. Two queries."""
    ranks = [When(status=status, then=rank) for rank, status in enumerate(OPEN)]
    ordered = broadcasts.filter(status__in=OPEN).alias(rank=Case(*ranks)).select_related("organization")
    rows = list(ordered.order_by("rank", "queued_at", "scheduled_at", "pk")[:SHOWN])
    funnels = counting.funnels(row.dispatch_id for row in rows)
    return [_line(row, funnels.get(row.dispatch_id, Funnel()), _ahead(row, rows)) for row in rows]


def _ahead(broadcast: Broadcast, rows: list[Broadcast]) -> Broadcast | None:
    """What a queued one waits for, among rows in the order in which they send."""
    before = rows[: rows.index(broadcast)]
    own = [row for row in before if row.organization_id == broadcast.organization_id]
    sending = [row for row in own if row.status == Status.SENDING]
    return next(iter(sending or own[-1:]), None)


def _line(broadcast: Broadcast, funnel: Funnel, ahead: Broadcast | None) -> dict[str, Any]:
    settled = funnel.total - funnel.waiting
    sentence = situation(broadcast, funnel) if broadcast.status == Status.PAUSED else ""
    if broadcast.status == Status.QUEUED:
        sentence = f"It waits until “{ahead.name}” is done." if ahead else "It starts in a moment."
    return {
        "broadcast": broadcast,
        "color": STATUS_COLORS[Status(broadcast.status)],
        "when": when(broadcast),
        "funnel": funnel,
        "done": round(100 * settled / funnel.total) if funnel.total else 0,
        "sentence": sentence,
    }


def _open_sequences(current: Access) -> list[dict[str, Any]]:
    """Sequences that people are in, or may come into, those with most people inside first. Two queries."""
    rows = of(current, Sequence.objects.all()).filter(status__in=[SequenceStatus.ACTIVE, SequenceStatus.PAUSED])
    found = list(rows.order_by("-first_activated_at")[:100])
    people = enrolled.people(row.pk for row in found)
    found.sort(key=lambda row: -people[row.pk].inside)
    return [
        {"sequence": row, "people": people[row.pk], "color": SEQUENCE_COLORS[SequenceStatus(row.status)]}
        for row in found[:SHOWN]
    ]


def _numbers(current: Access) -> list[dict[str, Any]]:
    """The numbers that send, with Meta's opinion of them and how many people their portfolio may write to."""
    rows = of(current, PhoneNumber.objects.usable()).select_related("account__portfolio").order_by("pk")[:SHOWN]
    return [
        {
            "number": number,
            "color": QUALITY_COLORS.get(number.quality, ""),
            "limit": number.account.portfolio.messaging_limit,
        }
        for number in rows
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
