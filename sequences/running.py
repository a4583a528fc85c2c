"""The acts of a sequence's life after publishing: pause, resume, archive, cancel everybody; and holding what is broken.

Each act is a compare-and-set of the status, together with what it means for the dispatches, in one transaction.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from kaanha.lib.errors import Refusal
from kaanha.messaging import holding
from kaanha.messaging.models import Dispatch
from kaanha.organizations import audit, closing
from kaanha.organizations.models import Organization
from kaanha.whatsapp.cloud_api.errors import ErrorClass
from sequences import enrolling, exiting, locks
from sequences.models import Enrollment, ExitReason, Sequence, Status
from sequences.publishing import PAUSED, PAUSED_DETAIL, dispatches
from templates_app.models import MessageTemplate

CANCELING = "canceling"  # why dispatches are held while everybody is being canceled
OWN_HOLDS = frozenset({PAUSED, CANCELING})  # all others are trouble
EVERYBODY = 2**63 - 1
AT_ONCE = 5_000  # people whom an act concerns within a request; the sweep sees to the others
# Meta may refuse a template that we believe to be approved: then it is tried again this often.
TRY_AGAIN = timedelta(minutes=15)


def pause(sequence: Sequence, *, now: datetime) -> None:
    """Hold everybody where they are; a message on its way still goes."""
    with transaction.atomic():
        locks.have_alone(sequence.pk)
        sequence.move(Status.PAUSED, paused_at=now, spread_asked_at=None)
        for dispatch in dispatches(sequence):
            holding.hold(dispatch.pk, reason=PAUSED, detail=PAUSED_DETAIL, now=now)
        audit.record("sequence.paused", sequence)


def pause_all(organization: Organization, *, now: datetime) -> int:
    """Pause every active sequence, in the transaction that closes the organization; how many."""
    active = list(Sequence.objects.of(organization).filter(status=Status.ACTIVE).order_by("pk"))
    for sequence in active:
        pause(sequence, now=now)
    return len(active)


def resume(sequence: Sequence, *, now: datetime) -> None:
    """Let everybody go on; who fell due meanwhile is spread out, at its rate. Refusal unless it is paused.

    While everybody inside is still being canceled, their messages stay held until that is done.
    """
    if sequence.status != Status.PAUSED:
        status = sequence.get_status_display().lower()
        raise Refusal(f"Sequence {sequence.name!r} is {status}: only a paused one can be resumed.", code="wrong_status")
    with transaction.atomic():
        closing.require_open(sequence.organization_id)
        locks.have_alone(sequence.pk)
        sequence.move(Status.ACTIVE, paused_at=None, spread_asked_at=now, spread_turn=0)
        if sequence.exit_up_to is None:
            _release(sequence, now=now)
        audit.record("sequence.resumed", sequence)


def archive(sequence: Sequence, *, now: datetime, most: int | None = None) -> int:
    """End it for good, for everybody inside, too; how many those were. With `most` the sweep sees to the others."""
    with transaction.atomic():
        locks.have_alone(sequence.pk)
        sequence.move(Status.ARCHIVED, archived_at=now, paused_at=None, spread_asked_at=None, exit_up_to=EVERYBODY)
        for dispatch in dispatches(sequence):
            holding.cancel(dispatch.pk, now=now)
        enrolling.drop_requests(sequence, now=now)
        audit.record("sequence.archived", sequence)
    return _finish_exit(sequence.pk, now=now, most=most)


def cancel_everybody(sequence: Sequence, *, now: datetime, most: int | None = None) -> int:
    """Cancel whoever is inside now, and requests to enroll holders; how many were ended. New people may come.

    With `most` the sweep sees to the others.
    """
    with transaction.atomic():
        locks.have_alone(sequence.pk)
        held = Sequence.objects.get(pk=sequence.pk)
        enrolling.drop_requests(held, now=now)
        newest = Enrollment.objects.filter(sequence=held).order_by("-pk").values_list("pk", flat=True).first()
        if newest is None:
            return 0
        Sequence.objects.filter(pk=held.pk).update(exit_up_to=max(newest, held.exit_up_to or 0))
        for dispatch in dispatches(held):
            holding.hold(dispatch.pk, reason=CANCELING, detail="Everybody inside is being canceled.", now=now)
        audit.record("sequence.everybody_canceled", held)
    return _finish_exit(sequence.pk, now=now, most=most)


def finish_exits(*, now: datetime) -> int:
    """Carry on what a crash has left of archiving and canceling; how many people were ended."""
    return sum(
        _finish_exit(key, now=now)
        for key in Sequence.objects.filter(exit_up_to__isnull=False).values_list("pk", flat=True)
    )


def release_repaired(*, now: datetime) -> int:
    """Release steps whose template can be sent again; how many.

    Held for a template that we never saw broken, a step is tried again every quarter of an hour.
    """
    held = Dispatch.objects.filter(
        kind=Dispatch.Kind.STEP,
        held_at__isnull=False,
        canceled_at=None,
        hold_reason=str(ErrorClass.TEMPLATE),
        steps__revision__sequence__status=Status.ACTIVE,
        steps__template__status__in=MessageTemplate.SENDABLE,
    )
    released = 0
    for dispatch, held_at, synced_at in held.values_list("pk", "held_at", "steps__template__synced_at").distinct():
        if held_at is not None and (now - held_at >= TRY_AGAIN or (synced_at is not None and synced_at > held_at)):
            released += _release_one(dispatch, now=now)
    return released


def try_again(sequence: Sequence, *, now: datetime) -> int:
    """Release every step that is held for trouble, on an operator's word; how many. Refusal unless it is active."""
    if sequence.status != Status.ACTIVE:
        raise Refusal(f"Sequence {sequence.name!r} is not active: resume it instead.", code="wrong_status")
    trouble = Dispatch.objects.filter(steps__revision__sequence=sequence, held_at__isnull=False, canceled_at=None)
    keys = trouble.exclude(hold_reason__in=OWN_HOLDS).distinct().values_list("pk", flat=True)
    return sum(_release_one(key, now=now) for key in list(keys))


def _release(sequence: Sequence, *, now: datetime) -> None:
    """Release what the sequence itself has held; trouble stays."""
    held = [dispatch.pk for dispatch in dispatches(sequence) if dispatch.hold_reason in OWN_HOLDS]
    holding.release_all(held, now=now, per_minute=sequence.spread_per_minute)


def _release_one(dispatch: int, *, now: datetime) -> bool:
    """Release a step, unless its sequence was paused meanwhile or is being emptied: that left the hold as it was."""
    with transaction.atomic():
        key = _owner(dispatch)
        locks.share([key])
        sequence = Sequence.objects.filter(pk=key, status=Status.ACTIVE, exit_up_to=None).first()
        return sequence is not None and holding.release(dispatch, now=now, per_minute=sequence.spread_per_minute)


def _owner(dispatch: int) -> int:
    """The sequence whose step it is."""
    return Sequence.objects.filter(revisions__steps__dispatch=dispatch).values_list("pk", flat=True)[0]


def _finish_exit(key: int, *, now: datetime, most: int | None = None) -> int:
    sequence = Sequence.objects.get(pk=key)
    if sequence.exit_up_to is None:
        return 0
    archived = sequence.status == Status.ARCHIVED
    reason = ExitReason.ARCHIVED if archived else ExitReason.CANCELED
    ended = 0
    while part := exiting.everybody(key, sequence.exit_up_to, reason, now=now):
        ended += part
        if most is not None and ended >= most:
            return ended
    with transaction.atomic():
        locks.have_alone(key)
        done = Sequence.objects.filter(pk=key, exit_up_to=sequence.exit_up_to).update(exit_up_to=None)
        if done and Sequence.objects.filter(pk=key, status=Status.ACTIVE).exists():
            _release(sequence, now=now)
    return ended
