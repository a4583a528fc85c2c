"""Where a sequence stands, or one contact in it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.management.base import CommandParser

from kaanha.lib.commands import KaanhaCommand
from kaanha.lib.errors import Refusal
from kaanha.messaging.models import Status
from sequences import enrolling, finding, seeing
from sequences.finding import Named
from sequences.models import Code, Enrollment, Sequence


class Command(KaanhaCommand):
    help = "Where a sequence stands: its people, and every step with its numbers; with --phone, one contact's way."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("sequence", help="the sequence's id (seq_…)")
        parser.add_argument("--phone", help="the contact whose way to show")

    def perform(self, *, sequence: str, phone: str | None, **_: Any) -> dict[str, Any]:
        chosen = finding.sequence(sequence)
        return seeing.summary(chosen) if phone is None else _way(chosen, phone)

    def tell(self, result: Any) -> None:
        rows = result.pop("steps", None) or result.pop("path", [])
        super().tell({name: value for name, value in result.items() if value is not None})
        for row in rows:
            self.stdout.write(_line(row))


def _way(sequence: Sequence, phone: str) -> dict[str, Any]:
    [found] = finding.contacts(sequence.organization, [Named(phone, phone=phone)])
    if found.key is None:
        raise Refusal(found.message, code=found.code)
    rows = Enrollment.objects.of(sequence.organization_id).filter(sequence=sequence, contact=found.key)
    enrollment: Enrollment | None = rows.select_related("sequence__organization", "step__dispatch", "revision").first()
    if enrollment is None:
        refusal = sequence.refusals.filter(contact=found.key).order_by("-at").first()
        why = enrolling.SENTENCES[refusal.code] if refusal else "Nobody has asked to enroll the contact."
        code = refusal.code if refusal else Code.CONTACT_NOT_FOUND.value
        raise Refusal(f"{phone} isn't in the sequence. {why}", code=code)
    story, zone = seeing.story(enrollment), sequence.organization.zone
    return {
        "id": enrollment.public_id,
        "status": enrollment.status,
        "exitReason": enrollment.exit_reason or None,
        "source": enrollment.source,
        "revision": enrollment.revision.number,
        "enrolledAt": enrollment.enrolled_at.astimezone(zone),
        "next": story.next or None,
        "nextAt": story.at and story.at.astimezone(zone),
        "waitsFor": story.waits_for or None,
        "path": [_taken(view, zone) for view in story.runs],
    }


def _taken(view: seeing.RunView, zone: Any) -> dict[str, Any]:
    run, message = view.run, view.message
    return {
        "at": run.at.astimezone(zone),
        "place": view.place,
        "words": view.words,
        "outcome": run.outcome or "waiting",
        "reason": run.reason or None,
        "message": message.public_id if message else None,
        "messageStatus": Status(message.status).value if message else None,
    }


def _line(row: dict[str, Any]) -> str:
    if "at" in row:
        now = f", now {row['messageStatus']}" if row["messageStatus"] else ""
        why = f" ({row['reason']})" if row["reason"] else ""
        at: datetime = row["at"]
        return f"  {at:%Y-%m-%d %H:%M:%S %Z}  {row['place']}. {row['words']} → {row['outcome']}{now}{why}"
    counts = [
        f"{name} {row[name]:,}" for name in ("waiting", "passed", "yes", "no", "skipped", "failed") if name in row
    ]
    held = f" — held: {row['held']}" if row.get("held") else ""
    return f"  {row['place']}. {row['words']}: {', '.join(counts)}{held}"
