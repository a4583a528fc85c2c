"""What doesn't go on by itself: the lines of Home that need a person, each with a sentence and where to go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Exists, OuterRef, Q
from django.urls import reverse

from broadcasts.admin import situation
from broadcasts.models import Broadcast, Status
from kaanha.messaging.counting import Funnel
from kaanha.operations.models import Heartbeat
from kaanha.organizations.access import Access, Area
from kaanha.webhooks.models import Endpoint
from kaanha.whatsapp.models import PhoneNumber
from sequences import live_page, seeing
from sequences.models import Sequence, Step
from sequences.models import Status as SequenceStatus
from templates_app.models import MessageTemplate

SHOWN = 8  # of each kind
NEWS = timedelta(days=14)  # how long Meta's no to a new template is news
UNSENT = (Status.DRAFT, Status.SCHEDULED, Status.QUEUED)
GONE = (MessageTemplate.Status.DISABLED, MessageTemplate.Status.REJECTED)
# What nobody does while a process is missing, by the lane; the order is that of the page.
LANES = {
    "send": "No message is sent",
    "callbacks": "Deliveries, reads and replies aren't taken up",
    "default": "Broadcasts and sequences don't move on",
}
ASK = "Whoever runs this installation sees more on the page System. Nothing is lost meanwhile."


@dataclass(frozen=True, slots=True)
class Need:
    """One line. `link` is empty for who may not go there, or where there is nowhere to go."""

    title: str
    sentence: str
    link: str = ""


def needs(current: Access, *, now: datetime) -> list[Need]:
    """Everything that waits for somebody, what stops most first. Six or seven queries, however many rows."""
    found = [
        *_silent(current, now),
        *_numbers(current),
        *_stopped(current),
        *_held(current),
        *_templates(current, now),
    ]
    return [*found, *_webhooks(current)] if current.may_view(Area.SETTINGS) else found


def of(current: Access, rows: Any) -> Any:
    return rows if current.organization is None else rows.of(current.organization)


def _silent(current: Access, now: datetime) -> Iterator[Need]:
    """Processes that don't run, in words for somebody who can't start them."""
    alive = list(Heartbeat.objects.alive(now))
    link = reverse("system") if current.superuser else ""
    if not any(process.kind == Heartbeat.Kind.BEAT for process in alive):
        words = "Scheduled broadcasts and the waits of sequences don't begin: the clock of Kaanha doesn't run."
        yield Need("Nothing starts by itself", f"{words} {ASK}", link)
    served = {lane for process in alive for lane in process.lanes}
    missing = [words for lane, words in LANES.items() if lane not in served]
    if missing:
        yield Need("Kaanha isn't working", f"{'. '.join(missing)}: no worker serves that. {ASK}", link)


def _numbers(current: Access) -> Iterator[Need]:
    troubled = Q(disconnected_at__isnull=False) | Q(quality=PhoneNumber.Quality.RED)
    link = reverse("admin:whatsapp_phonenumber_changelist") if current.may_view(Area.SETTINGS) else ""
    for number in of(current, PhoneNumber.objects.all()).filter(troubled).order_by("pk")[:SHOWN]:
        if number.disconnected_at:
            yield Need(str(number), "The number is disconnected: nothing can be sent from it.", link)
        else:
            yield Need(
                str(number),
                "Meta rates the number's quality as low: people block or report it. Send less, and to those who asked "
                "for it, before Meta limits the number.",
                link,
            )


def _stopped(current: Access) -> Iterator[Need]:
    paused = of(current, Broadcast.objects.all()).filter(status=Status.PAUSED, resume_at=None)
    for broadcast in paused.order_by("-paused_at")[:SHOWN]:
        link = reverse("admin:broadcasts_broadcast_change", args=[broadcast.pk])
        yield Need(broadcast.name, situation(broadcast, Funnel()), link)


def _held(current: Access) -> Iterator[Need]:
    """Steps of sequences at which people wait because something is broken."""
    for step in seeing.held_steps(of(current, Sequence.objects.all()))[:SHOWN]:
        link = reverse("admin:sequences_sequence_change", args=[step.revision.sequence_id])
        yield Need(step.revision.sequence.name, live_page.held_words(step), link)


def _templates(current: Access, now: datetime) -> Iterator[Need]:
    """Templates that can't be sent and that something waits for, that Meta has paused, or has just refused."""
    broadcasts = Broadcast.objects.filter(template=OuterRef("pk"), status__in=UNSENT)
    steps = Step.objects.filter(
        template=OuterRef("pk"), revision__superseded_at=None, revision__sequence__status=SequenceStatus.ACTIVE
    )
    waited_for = Exists(broadcasts) | Exists(steps) | Q(created_at__gt=now - NEWS)
    troubled = Q(status=MessageTemplate.Status.PAUSED) | Q(Q(status__in=GONE) & waited_for)
    for template in of(current, MessageTemplate.objects.all()).filter(troubled).order_by("name", "pk")[:SHOWN]:
        sentence = f"{template.get_status_display()}. {template.rejected_reason}".strip()
        yield Need(str(template), sentence, reverse("admin:templates_app_messagetemplate_change", args=[template.pk]))


def _webhooks(current: Access) -> Iterator[Need]:
    disabled = of(current, Endpoint.objects.all()).filter(disabled_at__isnull=False, deleted_at=None)
    for endpoint in disabled.order_by("-disabled_at")[:SHOWN]:
        sentence = f"The webhook is disabled, other systems hear nothing. {endpoint.disabled_reason}".strip()
        yield Need(endpoint.url, sentence, reverse("admin:webhooks_endpoint_change", args=[endpoint.pk]))
