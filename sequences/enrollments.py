"""The acts on one person's way: pause, resume, cancel. Each looks at the row again under its lock."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from kaanha.lib.errors import Refusal
from kaanha.messaging import queueing
from kaanha.organizations import audit
from sequences import exiting
from sequences.models import INSIDE, Enrollment, EnrollmentStatus, ExitReason


def pause(enrollment: Enrollment, *, now: datetime) -> None:
    """Hold this person where it stands; a message on its way still goes. Refusal unless it is on its way."""
    with transaction.atomic():
        held = _locked(enrollment, {EnrollmentStatus.ACTIVE}, "paused")
        Enrollment.objects.filter(pk=held.pk).update(status=EnrollmentStatus.PAUSED)
        audit.record("enrollment.paused", enrollment)
        queueing.put_off(_messages(held), until=None, now=now)
    enrollment.refresh_from_db()


def resume(enrollment: Enrollment, *, now: datetime) -> None:
    """Let this person go on; what fell due meanwhile is due now. Refusal unless it is paused."""
    with transaction.atomic():
        held = _locked(enrollment, {EnrollmentStatus.PAUSED}, "resumed")
        Enrollment.objects.filter(pk=held.pk).update(status=EnrollmentStatus.ACTIVE)
        audit.record("enrollment.resumed", enrollment)
        queueing.put_off(_messages(held), until=now, now=now)
    enrollment.refresh_from_db()


def cancel(enrollment: Enrollment, *, now: datetime) -> None:
    """End this person's way; a message of it that is still queued is withdrawn. Refusal when it has ended already."""
    with transaction.atomic():
        audit.record("enrollment.canceled", enrollment)
        # Last, for it ends with the counters; a refusal takes the line above back.
        if not exiting.end({enrollment.pk: ExitReason.CANCELED}, now=now):
            _refuse(enrollment, "canceled")
    enrollment.refresh_from_db()


def _locked(enrollment: Enrollment, statuses: set[EnrollmentStatus], verb: str) -> Enrollment:
    held: Enrollment = Enrollment.objects.select_for_update().get(pk=enrollment.pk)
    if held.status not in statuses:
        _refuse(held, verb)
    return held


def _refuse(enrollment: Enrollment, verb: str) -> None:
    enrollment.refresh_from_db()
    status = enrollment.get_status_display().lower()
    ended = "" if enrollment.status in INSIDE else " for good"
    raise Refusal(f"The enrollment is {status}{ended}: it can't be {verb}.", code="wrong_status")


def _messages(enrollment: Enrollment) -> list[int]:
    return [] if enrollment.message is None else [enrollment.message]
