"""Everything about sequences from the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from kaanha.lib.commands import KaanhaCommand
from kaanha.lib.errors import Refusal
from kaanha.organizations.models import Organization
from kaanha.whatsapp.models import PhoneNumber
from sequences import counting, finding, moving, publishing, running, trees
from sequences.models import SPREAD_MOST, Sequence, Trigger, WhenLate

NAME = 200  # characters of a sequence's name


class Command(KaanhaCommand):
    help = "Create, check, activate, edit, pause, resume and archive sequences, and move the people in them."

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True, metavar="ACT")
        _add_create(acts.add_parser("create", help="make a draft from a file with its steps"))
        acts.add_parser("list", help="the sequences of an organization").add_argument("organization")
        for act, words in _ON_ONE.items():
            one = acts.add_parser(act, help=words)
            one.add_argument("id", help="the sequence's id, as printed by create (seq_…)")
            if act == "steps":
                one.add_argument("--file", type=Path, help="the new steps, as JSON; left out, the draft is printed")
            if act == "activate":
                one.add_argument("--enroll-existing", action="store_true", help="also whoever holds the tag already")

    def perform(self, *, act: str, **options: Any) -> dict[str, Any] | list[Any]:
        if act == "create":
            return create(**options)
        if act == "list":
            return _listed(Organization.named(options["organization"]))
        return _ACTS[act](finding.sequence(options.pop("id")), **options)

    def tell(self, result: Any) -> None:
        if "steps" in result:
            self.stdout.write(json.dumps(result["steps"], indent=2, ensure_ascii=False))
            return
        for member in result if isinstance(result, list) else [result]:
            super().tell(member)


def create(
    *,
    organization: str,
    name: str,
    steps: Path,
    trigger: str,
    tag: str | None,
    exit_tag: str | None,
    exit_on_reply: bool,
    late_limit: float | None,
    when_late: str,
    spread_per_minute: int,
    phone_number_id: str | None,
    **_: Any,
) -> dict[str, Any]:
    """A draft. Refusal for steps that can't be read, and for tags or numbers that the organization doesn't have."""
    owner = Organization.named(organization)
    name = name.strip()
    if not 0 < len(name) <= NAME or not name.isprintable():
        raise Refusal(f"The name of a sequence has 1 to {NAME} characters, all on one line.", code="name_invalid")
    if (trigger == Trigger.TAG_ADDED) != (tag is not None):
        raise Refusal("--tag goes with --trigger tag_added, and only with it.", code="usage")
    if not 1 <= spread_per_minute <= SPREAD_MOST:
        raise Refusal(f"--spread-per-minute is between 1 and {SPREAD_MOST:,}.", code="usage")
    if late_limit is not None and not 1 <= late_limit <= 525_600:
        raise Refusal("--late-limit is between 1 minute and 525,600 (a year).", code="usage")
    sequence: Sequence = Sequence.objects.create(
        organization=owner,
        name=name,
        draft=trees.read(_read(steps), owner),
        trigger=trigger,
        trigger_tag=None if tag is None else finding.tag(owner, tag),
        phone_number=PhoneNumber.sending_for(owner, phone_number_id),
        exit_tag=None if exit_tag is None else finding.tag(owner, exit_tag),
        exit_on_reply=exit_on_reply,
        late_limit=None if late_limit is None else timedelta(minutes=late_limit),
        when_late=when_late,
        spread_per_minute=spread_per_minute,
    )
    return _check(sequence)


def _check(sequence: Sequence, **_: Any) -> dict[str, Any]:
    found = publishing.problems(sequence)
    return _standing(sequence) | {"problems": [f"{one.place}: {one.sentence}".removeprefix(": ") for one in found]}


def _steps(sequence: Sequence, *, file: Path | None, **_: Any) -> dict[str, Any]:
    """Print the draft's steps, or take new ones."""
    if file is None:
        return {"id": sequence.public_id, "steps": sequence.draft}
    sequence.draft = trees.read(_read(file), sequence.organization)
    sequence.save(update_fields=["draft", "updated_at"])
    return _check(sequence)


def _diff(sequence: Sequence, **_: Any) -> dict[str, Any]:
    return _standing(sequence) | {"changes": [f"{one.place}: {one.sentence}" for one in publishing.changes(sequence)]}


def _activate(sequence: Sequence, *, enroll_existing: bool, **_: Any) -> dict[str, Any]:
    publishing.activate(sequence, now=timezone.now(), enroll_existing=enroll_existing)
    return _standing(sequence)


def _publish(sequence: Sequence, **_: Any) -> dict[str, Any]:
    publishing.publish(sequence, now=timezone.now())
    return _standing(sequence)


def _pause(sequence: Sequence, **_: Any) -> dict[str, Any]:
    running.pause(sequence, now=timezone.now())
    return _standing(sequence)


def _resume(sequence: Sequence, **_: Any) -> dict[str, Any]:
    running.resume(sequence, now=timezone.now())
    return _standing(sequence)


def _archive(sequence: Sequence, **_: Any) -> dict[str, Any]:
    return {"ended": running.archive(sequence, now=timezone.now())} | _standing(sequence)


def _cancel(sequence: Sequence, **_: Any) -> dict[str, Any]:
    return {"canceled": running.cancel_everybody(sequence, now=timezone.now())} | _standing(sequence)


def _retry(sequence: Sequence, **_: Any) -> dict[str, Any]:
    return {"released": running.try_again(sequence, now=timezone.now())} | _standing(sequence)


def _move(sequence: Sequence, **_: Any) -> dict[str, Any]:
    return asdict(moving.move(sequence, now=timezone.now())) | _standing(sequence)


def _listed(organization: Organization) -> list[dict[str, Any]]:
    newest = Sequence.objects.of(organization).select_related("organization").order_by("-created_at", "-pk")[:50]
    return [_standing(sequence) for sequence in newest]


def _standing(sequence: Sequence) -> dict[str, Any]:
    revision = sequence.revision
    return {
        "id": sequence.public_id,
        "name": sequence.name,
        "status": sequence.status,
        "trigger": sequence.trigger,
        "revision": revision.number if revision else 0,
        "inside": counting.people([sequence.pk])[sequence.pk].inside,
    }


def _read(file: Path) -> Any:
    try:
        return json.loads(sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"{file} can't be read as text: {error}", code="file_unreadable") from error
    except (ValueError, RecursionError) as error:
        raise Refusal(f"{file} isn't JSON: {error}. Write a list of steps.", code="file_unreadable") from error


def _add_create(parser: CommandParser) -> None:
    parser.add_argument("organization", help="the organization's name in commands (its slug)")
    parser.add_argument("--name", required=True)
    parser.add_argument("--steps", required=True, type=Path, help="a file with the steps, as JSON; - reads them here")
    parser.add_argument("--trigger", choices=Trigger.values, default=Trigger.MANUAL.value)
    parser.add_argument("--tag", help="the tag that starts it")
    parser.add_argument("--exit-tag", help="the tag that ends it for a contact")
    parser.add_argument("--exit-on-reply", action="store_true", help="end it for whoever answers")
    parser.add_argument("--late-limit", type=float, metavar="MINUTES", help="how overdue a step may be; never too much")
    parser.add_argument("--when-late", choices=WhenLate.values, default=WhenLate.SEND.value)
    parser.add_argument("--spread-per-minute", type=int, default=600, help="overdue people who go on in a minute")
    parser.add_argument("--phone-number-id", help="Meta's id of the sending number; left out, the first one")


_ON_ONE = {
    "check": "what keeps the draft from being published",
    "steps": "print the draft's steps, or take new ones from a file",
    "diff": "what publishing would change",
    "activate": "publish the first revision and let people in",
    "publish": "make the draft the next revision; people inside stay on theirs",
    "move": "move the people inside to the newest revision",
    "pause": "hold everybody where they are",
    "resume": "let everybody go on, the overdue spread out",
    "cancel": "cancel everybody inside; new people may come",
    "archive": "end it for good",
    "retry": "release steps that are held for trouble",
}
_ACTS: dict[str, Callable[..., dict[str, Any]]] = {
    "check": _check,
    "steps": _steps,
    "diff": _diff,
    "activate": _activate,
    "publish": _publish,
    "move": _move,
    "pause": _pause,
    "resume": _resume,
    "cancel": _cancel,
    "archive": _archive,
    "retry": _retry,
}
