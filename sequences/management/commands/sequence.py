"""Everything about sequences from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.db import transaction
from django.utils import timezone

from contacts import tagging
from kaanha.lib.commands import KaanhaCommand, text_of
from kaanha.lib.errors import Refusal
from kaanha.organizations.models import Organization
from kaanha.whatsapp.models import PhoneNumber
from sequences import counting, editing, finding, moving, publishing, running, trees
from sequences.counting import People
from sequences.models import SPREAD_MOST, Revision, Sequence, Status, Trigger, WhenLate

LARGEST = 1_000_000  # bytes of a file of steps, as in the API
LATEST = 525_600  # minutes: a year
LISTS = ("problems", "changes")


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
            lists = {name: member.pop(name) for name in LISTS if name in member}
            super().tell(member)
            for name, sentences in lists.items():
                self.stdout.write("\n  ".join([f"{name}:", *sentences]) if sentences else f"{name}: none")
            self.stdout.write("")


def create(
    *,
    organization: str,
    name: str,
    steps: Path,
    trigger: str,
    tag: str | None,
    new_tag: list[str],
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
    name = editing.name_of(name)
    if (trigger == Trigger.TAG_ADDED) != (tag is not None):
        raise Refusal("--tag goes with --trigger tag_added, and only with it.", code="usage")
    if not 1 <= spread_per_minute <= SPREAD_MOST:
        raise Refusal(f"--spread-per-minute is between 1 and {SPREAD_MOST:,}.", code="usage")
    if late_limit is not None and not 1 <= late_limit <= LATEST:
        raise Refusal(f"--late-limit is between 1 minute and {LATEST:,} (a year).", code="usage")
    tree = _read(steps)
    with transaction.atomic():
        tagging.named(owner, new_tag)
        sequence: Sequence = Sequence.objects.create(
            organization=owner,
            name=name,
            draft=trees.read(tree, owner),
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
    draft = trees.read(_read(file), sequence.organization)
    kept = Sequence.objects.filter(pk=sequence.pk).exclude(status=Status.ARCHIVED)
    if not kept.update(draft=draft, updated_at=timezone.now()):
        raise Refusal(f"Sequence {sequence.name!r} is archived: its steps stay as they are.", code="wrong_status")
    sequence.refresh_from_db()
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
    told = moving.move(sequence, now=timezone.now())
    return {"moved": told.moved, "stayed": told.stayed} | _standing(sequence)


def _listed(organization: Organization) -> list[dict[str, Any]]:
    """The newest fifty. Three queries."""
    newest = list(Sequence.objects.of(organization).order_by("-created_at", "-pk")[:50])
    people = counting.people([sequence.pk for sequence in newest])
    revisions = Revision.objects.filter(sequence__in=newest, superseded_at=None)
    current = {revision.sequence_id: revision for revision in revisions}
    return [_line(one, current.get(one.pk), people[one.pk]) for one in newest]


def _standing(sequence: Sequence) -> dict[str, Any]:
    return _line(sequence, sequence.revision, counting.people([sequence.pk])[sequence.pk])


def _line(sequence: Sequence, revision: Revision | None, people: People) -> dict[str, Any]:
    return {
        "id": sequence.public_id,
        "name": sequence.name,
        "status": sequence.status,
        "trigger": sequence.trigger,
        "revision": revision.number if revision else 0,
        "inside": people.inside,
    }


def _read(file: Path) -> Any:
    try:
        return json.loads(text_of(file, limit=LARGEST))
    except (ValueError, RecursionError) as error:
        raise Refusal(f"{file} isn't JSON: {error}. Write a list of steps.", code="file_unreadable") from error


def _add_create(parser: CommandParser) -> None:
    parser.add_argument("organization", help="the organization's name in commands (its slug)")
    parser.add_argument("--name", required=True)
    parser.add_argument("--steps", required=True, type=Path, help="a file with the steps, as JSON; - reads them here")
    parser.add_argument("--trigger", choices=Trigger.values, default=Trigger.MANUAL.value)
    parser.add_argument("--tag", help="the tag that starts it")
    parser.add_argument("--new-tag", action="append", default=[], help="create this tag if it is missing; repeatable")
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
