"""The acts of a broadcast's life: send, schedule, pause, resume, cancel, and what the sweep does by itself.

Each act is a compare-and-set of the status, together with what it means for the dispatch, in one transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.db import IntegrityError, InterfaceError, OperationalError, connection, transaction
from django.db.models import Q

from broadcasts import audience, lock, preflight, report
from broadcasts.models import Broadcast, PauseReason, Status
from kaanha.lib.errors import Refusal
from kaanha.messaging import counting, holding, policy
from kaanha.messaging.models import Dispatch
from kaanha.organizations import audit, closing
from kaanha.webhooks.models import Event
from templates_app.models import MessageTemplate

# With nothing to claim for so long a broadcast frees the organization's slot.
IDLE_LIMIT = timedelta(minutes=5)
# What nothing can repair: see `_hopeless`.
HOPELESS = Q(template__status=MessageTemplate.Status.DELETED) | Q(phone_number__disconnected_at__isnull=False)
# The safety stop: so many settled messages make a look worth while, and this share of failures stops it.
WATCHED, ABNORMAL = 100, 0.5
NOT_PAUSED = {"pause_reason": "", "status_detail": "", "paused_at": None, "resume_at": None}

logger = logging.getLogger(__name__)


def send(broadcast: Broadcast, *, now: datetime) -> None:
    """Queue a draft to be sent as soon as the organization's turn is free. Refusal when it can't work."""
    with _draft_to_be(broadcast, "sent"):
        broadcast.move(Status.QUEUED, source=Status.DRAFT, queued_at=now, scheduled_at=None)
        audit.record("broadcast.sent", broadcast)


def schedule(broadcast: Broadcast, *, at: datetime, now: datetime) -> None:
    """Let a draft go at `at`. Refusal for a time that has passed, and when it can't work."""
    if at <= now:
        _require_draft(broadcast, "scheduled")
        local = at.astimezone(broadcast.organization.zone)
        raise Refusal(f"{local:%Y-%m-%d %H:%M %Z} has passed already: choose a time in the future.", code="past_time")
    with _draft_to_be(broadcast, "scheduled"):
        broadcast.move(Status.SCHEDULED, source=Status.DRAFT, scheduled_at=at)
        audit.record("broadcast.scheduled", broadcast, at=at)


def unschedule(broadcast: Broadcast) -> None:
    """Make a scheduled broadcast a draft again."""
    with transaction.atomic():
        broadcast.move(Status.DRAFT, scheduled_at=None)
        audit.record("broadcast.unscheduled", broadcast)


def pause(
    broadcast: Broadcast,
    *,
    now: datetime,
    reason: str = PauseReason.OPERATOR,
    detail: str = "",
    resume_at: datetime | None = None,
) -> None:
    """Let nothing more be claimed, until it is resumed; what is on its way settles."""
    with transaction.atomic():
        broadcast.move(Status.PAUSED, pause_reason=reason, status_detail=detail, paused_at=now, resume_at=resume_at)
        if broadcast.dispatch_id:
            holding.hold(broadcast.dispatch_id, reason=reason, detail=detail, now=now)
        audit.record("broadcast.paused", broadcast, reason=reason)
    lock.free(broadcast)


def resume(broadcast: Broadcast, *, now: datetime, at_once: bool = False) -> None:
    """Let a paused broadcast go on. Refusal for any other.

    It is queued for the rest of its recipients. One that was paused before its time keeps that time; `at_once` queues
    it all the same, and it has no time any more.
    """
    with transaction.atomic():
        closing.require_open(broadcast.organization_id)
        # Decided from the row as it is now: its time may have been dropped, and itself paused again, in another window.
        broadcast.refresh_from_db(from_queryset=Broadcast.objects.select_for_update(of=("self",)))
        _require_paused(broadcast)
        ahead = broadcast.time_ahead(now)
        if ahead and not at_once:
            broadcast.move(Status.SCHEDULED, source=Status.PAUSED, **NOT_PAUSED)
        else:
            dropped = {"scheduled_at": None} if ahead else {}
            broadcast.move(Status.QUEUED, source=Status.PAUSED, queued_at=now, **NOT_PAUSED, **dropped)
        audit.record("broadcast.resumed", broadcast)


def _require_paused(broadcast: Broadcast) -> None:
    if broadcast.status != Status.PAUSED:
        status = broadcast.get_status_display().lower()
        raise Refusal(
            f"Broadcast {broadcast.name!r} is {status}: only a paused one can be resumed.", code="wrong_status"
        )
    if not broadcast.template.sendable:
        raise Refusal(f"{broadcast.template.standing}: it can't be resumed yet.", code="not_ready")


def cancel(broadcast: Broadcast, *, now: datetime) -> None:
    """End it. Messages already handed to Meta still arrive; a sweep skips the rest as canceled."""
    with transaction.atomic():
        broadcast.move(Status.CANCELED, completed_at=now)
        if broadcast.dispatch_id:
            holding.cancel(broadcast.dispatch_id, now=now)
        audit.record("broadcast.canceled", broadcast)
    lock.free(broadcast)


def sweep(*, now: datetime) -> None:
    """Everything that is due: the one place that moves broadcasts by itself. Safe to run twice at once."""
    queue_due(now=now)
    with_all = Broadcast.objects.select_related("dispatch", "organization", "template", "phone_number")
    _each(with_all.filter(status=Status.SENDING), _look_after, now=now)
    _each(with_all.filter(Q(status=Status.PAUSED), HOPELESS), _end_if_hopeless, now=now)
    resuming = Broadcast.objects.filter(status=Status.PAUSED, resume_at__lte=now)
    resuming.move(Status.QUEUED, queued_at=now, **NOT_PAUSED)
    start_queued(now=now)


def _each(broadcasts: Iterable[Broadcast], act: Callable[..., object], *, now: datetime) -> None:
    """Do `act` to each of them: trouble with one is told in the log and keeps nobody else waiting."""
    for broadcast in broadcasts:
        try:
            act(broadcast, now=now)
        except Refusal as refusal:
            logger.info("Broadcast %s was moved by somebody else meanwhile: %s", broadcast.pk, refusal)
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            logger.exception("Broadcast %s can't be looked after", broadcast.pk)


def queue_due(*, now: datetime) -> int:
    """Queue scheduled broadcasts whose time has come; pause those that come too late. How many were queued."""
    queued = 0
    for broadcast in Broadcast.objects.due(now).filter(organization__closed_at=None).select_related("organization"):
        scheduled = Broadcast.objects.due(now).filter(pk=broadcast.pk)
        if now - broadcast.scheduled_at < broadcast.organization.late_limit:
            queued += scheduled.move(Status.QUEUED, queued_at=now)
        else:
            local = broadcast.scheduled_at.astimezone(broadcast.organization.zone)
            detail = f"It was due on {local:%Y-%m-%d at %H:%M %Z}, while the system was down. Resume it to send it now."
            scheduled.move(Status.PAUSED, pause_reason=PauseReason.LATE, status_detail=detail, paused_at=now)
    return queued


def start_queued(*, now: datetime) -> list[int]:
    """Start the first queued broadcast of each organization that has none sending; keys of those that started."""
    first: dict[int, Broadcast] = {}
    busy = set(Broadcast.objects.filter(status=Status.SENDING).values_list("organization_id", flat=True))
    waiting = (
        Broadcast.objects.filter(organization__closed_at=None)
        .queued_in_order()
        .select_related("organization", "template", "phone_number")
    )
    for broadcast in waiting:
        if broadcast.organization_id not in busy:
            first.setdefault(broadcast.organization_id, broadcast)
    started: list[int] = []

    def start(broadcast: Broadcast, *, now: datetime) -> None:
        if _start(broadcast, now=now):
            started.append(broadcast.pk)

    _each(first.values(), start, now=now)
    return started


def waits_for(broadcast: Broadcast) -> Broadcast | None:
    """The broadcast that a queued one waits for: the sending one, else the one before it in the queue."""
    if broadcast.status != Status.QUEUED:
        return None
    others = Broadcast.objects.of(broadcast.organization_id).exclude(pk=broadcast.pk)
    ahead: Broadcast | None = others.filter(status=Status.SENDING).first()
    return ahead or others.queued_in_order().filter(queued_at__lt=broadcast.queued_at).last()


def _start(broadcast: Broadcast, *, now: datetime) -> bool:
    if _end_if_hopeless(broadcast, now=now):
        return False
    if not broadcast.template.sendable:
        pause(broadcast, now=now, reason=PauseReason.TEMPLATE, detail=f"{broadcast.template.standing}.")
        return False
    if not lock.take(broadcast):
        return False
    try:
        return _begin(broadcast, now=now)
    except IntegrityError:
        # Another broadcast of the organization began first: the unique index has the last word.
        logger.info("Broadcast %s waits: another one of its organization is sending", broadcast.pk)
        return False


def _begin(broadcast: Broadcast, *, now: datetime) -> bool:
    """Freeze the audience on the first start, release the hold on a later one."""
    with transaction.atomic():
        # Skipped when locked: another sweep is starting it, and an audience of a million takes a while to freeze.
        queued = Broadcast.objects.select_for_update(skip_locked=True).filter(pk=broadcast.pk, status=Status.QUEUED)
        held = queued.first()
        if held is None:
            return False
        if held.dispatch_id:
            holding.release(held.dispatch_id, now=now)
            held.move(Status.SENDING)
            return True
        held.dispatch = _dispatch(held)
        held.move(Status.SENDING, dispatch=held.dispatch, started_at=now)
        audience.freeze(held, held.dispatch, now=now)
    return True


def _dispatch(broadcast: Broadcast) -> Dispatch:
    return Dispatch.objects.create(
        organization_id=broadcast.organization_id,
        kind=Dispatch.Kind.BROADCAST,
        phone_number_id=broadcast.phone_number_id,
        lane=policy.lane(broadcast.template.category),
        variables=broadcast.variables,
    )


def _look_after(broadcast: Broadcast, *, now: datetime) -> None:
    """What a sending broadcast needs: its lock renewed, trouble followed, its end seen."""
    if _end_if_hopeless(broadcast, now=now):
        return
    dispatch = broadcast.dispatch
    if dispatch is not None and dispatch.held_at is not None:
        _follow_hold(broadcast, dispatch, now=now)
        return
    if alarm := _alarm(broadcast):
        pause(broadcast, now=now, reason=PauseReason.SAFETY, detail=alarm)
        return
    next_due, in_flight = _open_messages(broadcast)
    if next_due is None and not in_flight:
        _complete(broadcast, now=now)
    elif next_due is not None and next_due - now > IDLE_LIMIT and not in_flight:
        detail = _why_nothing_is_due(broadcast)
        pause(broadcast, now=now, reason=PauseReason.NOTHING_TO_DO, detail=detail, resume_at=next_due)
    else:
        lock.take(broadcast)


def _why_nothing_is_due(broadcast: Broadcast) -> str:
    limit = broadcast.phone_number.account.portfolio.messaging_limit
    if limit is None:
        return "Its remaining messages wait for a later try. It goes on by itself."
    return (
        f"Its remaining messages wait for a later try, or for room under Meta's messaging limit of {limit:,} people "
        "in 24 hours. It goes on by itself."
    )


def _open_messages(broadcast: Broadcast) -> tuple[datetime | None, bool]:
    """When the next message is due, and whether any is on its way.

    One statement: between two of them a refused message could go from the one state to the other unseen.
    """
    with connection.cursor() as cursor:
        cursor.execute(_OPEN, {"dispatch": broadcast.dispatch_id})
        next_due, in_flight = cursor.fetchone()
    return next_due, in_flight


def _follow_hold(broadcast: Broadcast, dispatch: Dispatch, *, now: datetime) -> None:
    """The sending loop held the dispatch for trouble with the template or the account: say so, keep the recipients."""
    with transaction.atomic():
        # Looked at again under the broadcast's lock: it may have been resumed since.
        sending = Broadcast.objects.select_for_update().filter(pk=broadcast.pk, status=Status.SENDING)
        if not sending or not Dispatch.objects.filter(pk=dispatch.pk, held_at__isnull=False).exists():
            return
        known = dispatch.hold_reason in PauseReason.values
        sending.move(
            Status.PAUSED,
            pause_reason=dispatch.hold_reason if known else PauseReason.ACCOUNT,
            status_detail=dispatch.hold_detail,
            paused_at=now,
        )
    lock.free(broadcast)


def _alarm(broadcast: Broadcast) -> str:
    """Why the broadcast has to stop for safety: most of what was settled since the last look failed. Else empty."""
    funnel = counting.funnel(broadcast.dispatch_id)
    seen = {"watched_settled": funnel.sent + funnel.failed, "watched_failed": funnel.failed}
    settled = seen["watched_settled"] - broadcast.watched_settled
    failed = seen["watched_failed"] - broadcast.watched_failed
    if settled < WATCHED:
        return ""
    Broadcast.objects.filter(pk=broadcast.pk).update(**seen)
    if failed < ABNORMAL * settled:
        return ""
    codes = ", ".join(f"{code} ({count:,})" for code, count in list(report.by_code(broadcast).items())[:3])
    return (
        f"{failed:,} of the last {settled:,} messages failed. Meta's codes: {codes}. "
        "Look at the failures, repair what they have in common, and resume it."
    )


def _complete(broadcast: Broadcast, *, now: datetime) -> None:
    with transaction.atomic():
        if not Broadcast.objects.filter(pk=broadcast.pk).move(Status.COMPLETED, completed_at=now, **NOT_PAUSED):
            return
        broadcast.refresh_from_db()
        Event.record(broadcast.organization_id, "broadcast.completed", report.summary(broadcast), at=now)
    lock.free(broadcast)


def _end_if_hopeless(broadcast: Broadcast, *, now: datetime) -> bool:
    """End a broadcast that nothing can repair; whether it is one. Who still waits is skipped as canceled."""
    why = _hopeless(broadcast)
    if not why:
        return False
    with transaction.atomic():
        failed = Broadcast.objects.filter(pk=broadcast.pk).move(Status.FAILED, status_detail=why, completed_at=now)
        if failed and broadcast.dispatch_id:
            holding.cancel(broadcast.dispatch_id, now=now)
    lock.free(broadcast)
    return True


def _hopeless(broadcast: Broadcast) -> str:
    if broadcast.template.status == MessageTemplate.Status.DELETED:
        return f"Template {broadcast.template} was deleted at Meta."
    if broadcast.phone_number.disconnected_at is not None:
        return f"The number {broadcast.phone_number} is disconnected."
    return ""


@contextmanager
def _draft_to_be(broadcast: Broadcast, verb: str) -> Iterator[None]:
    """The draft as it is written now, found fit to go, and locked: whoever edits it meanwhile comes too late."""
    with transaction.atomic():
        closing.require_open(broadcast.organization_id)
        held = Broadcast.objects.select_for_update().filter(pk=broadcast.pk).first()
        if held is None:
            raise Refusal("This broadcast was deleted meanwhile.", code="broadcast_not_found")
        if (held.status, held.version) != (broadcast.status, broadcast.version):
            broadcast.refresh_from_db()
        _require_draft(broadcast, verb)
        preflight.check(broadcast)
        yield


def _require_draft(broadcast: Broadcast, verb: str) -> None:
    if broadcast.status != Status.DRAFT:
        status = broadcast.get_status_display().lower()
        raise Refusal(f"Broadcast {broadcast.name!r} is {status}: only a draft can be {verb}.", code="wrong_status")


_OPEN = """
SELECT (SELECT min(due_at) FROM messaging_message WHERE dispatch_id = %(dispatch)s AND due_at IS NOT NULL),
  EXISTS (SELECT FROM messaging_message WHERE dispatch_id = %(dispatch)s AND lease_until IS NOT NULL)
"""
