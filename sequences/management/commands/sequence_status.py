"""Where a sequence stands, or one contact in it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.core.management.base import CommandParser

from kaanha.lib.commands import KaanhaCommand
from kaanha.lib.errors import Refusal
from kaanha.messaging.models import Status
from sequences import enrolling, finding, seeing, standing
from sequences.finding import Named
from sequences.models import Enrollment, Sequence

ROWS = ("steps", "path")
ALWAYS = ("waiting", "passed", "yes", "no")
WHERE_ANY = ("skipped", "failed", "unconfirmed", "left")
FUNNEL = ("dispatched", "delivered", "read")


class Command(KaanhaCommand):
    help = "Where a sequence stands: its people, and every step with its numbers; with --phone, one contact's way."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("sequence", help="the sequence's id (seq_…)")
        parser.add_argument("--phone", help="the contact whose way to show")

    def perform(self, *, sequence: str, phone: str | None, **_: Any) -> dict[str, Any]:
        chosen = finding.sequence(sequence)
        told = seeing.summary(chosen) if phone is None else _way(chosen, phone)
        return told | {"timezone": chosen.organization.timezone}

    def tell(self, result: Any) -> None:
        zone = result.pop("timezone")
        rows = [row for name in ROWS for row in result.pop(name, [])]
        for name, value in result.items():
            if value is not None:
                self.stdout.write(f"{name}: {_shown(value, zone)}")
        for row in rows:
            self.stdout.write(f"  {_taken_line(row, zone) if 'at' in row else _step_line(row)}")


def _way(sequence: Sequence, phone: str) -> dict[str, Any]:
    enrollment = _enrollment(sequence, phone)
    here = standing.standings([enrollment], sequence.organization).get(enrollment.pk)
    return {
        "id": enrollment.public_id,
        "status": enrollment.status,
        "exitReason": enrollment.exit_reason or None,
        "source": enrollment.source,
        "revision": enrollment.revision.number,
        "enrolledAt": enrollment.enrolled_at,
        "next": here.words if here else None,
        "nextAt": here.at if here else None,
        "waitsFor": (here.waits_for or None) if here else None,
        "path": [_taken(view) for view in seeing.path(enrollment)],
    }


def _enrollment(sequence: Sequence, phone: str) -> Enrollment:
    """The contact's; Refusal where there is none, with why it was refused."""
    [found] = finding.contacts(sequence.organization, [Named(phone, phone=phone)])
    if found.key is None:
        raise Refusal(found.message, code=found.code)
    rows = Enrollment.objects.of(sequence.organization_id).filter(sequence=sequence, contact=found.key)
    enrollment: Enrollment | None = rows.select_related("revision", *standing.RELATED).first()
    if enrollment is not None:
        return enrollment
    refusal = sequence.refusals.filter(contact=found.key).order_by("-at").first()
    why = enrolling.SENTENCES[refusal.code] if refusal else "Nobody has asked to enroll the contact."
    raise Refusal(f"{phone} isn't in the sequence. {why}", code=refusal.code if refusal else "not_enrolled")


def _taken(view: seeing.RunView) -> dict[str, Any]:
    run, message = view.run, view.message
    return {
        "at": run.at,
        "place": view.place,
        "words": view.words,
        "outcome": run.outcome or "waiting",
        "reason": run.reason or None,
        "message": message.public_id if message else None,
        "messageStatus": Status(message.status).value if message else None,
    }


def _shown(value: Any, zone: str) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S} {zone}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {count:,}" for name, count in value.items()) or "nobody"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _taken_line(row: Mapping[str, Any], zone: str) -> str:
    status = row["messageStatus"]
    now = f", now {status}" if status and status != row["outcome"] else ""
    why = f" ({row['reason']})" if row["reason"] else ""
    return f"{_shown(row['at'], zone)}  {row['place']}. {row['words']} → {row['outcome']}{now}{why}"


def _step_line(row: Mapping[str, Any]) -> str:
    names = [*(name for name in ALWAYS if name in row), *(name for name in WHERE_ANY if row.get(name))]
    counts = ", ".join(f"{name} {row[name]:,}" for name in names)
    funnel = row.get("funnel")
    reached = f"; {', '.join(f'{stage} {funnel[stage]:,}' for stage in FUNNEL)}" if funnel else ""
    held = f" — held: {row['held']}" if row.get("held") else ""
    return f"{row['place']}. {row['words']}: {counts}{reached}{held}"
