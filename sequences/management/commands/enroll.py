"""Enroll contacts in a sequence from the command line."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from kaanha.lib.commands import KaanhaCommand
from kaanha.lib.errors import Refusal
from sequences import enrolling, finding
from sequences.finding import Named
from sequences.models import Sequence, Source

SHOWN = 20  # rejected contacts that are printed


class Command(KaanhaCommand):
    help = "Enroll contacts in an active sequence: by phone number, by id, from a file, or all holders of a tag."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("sequence", help="the sequence's id (seq_…)")
        parser.add_argument("--phone", action="append", default=[], help="a contact's phone number; repeat for more")
        parser.add_argument("--contact", action="append", default=[], help="a contact's id (ct_…); repeat for more")
        parser.add_argument("--file", type=Path, help="a file with a phone number in each line; - reads standard input")
        parser.add_argument("--tag", help="everybody who holds this tag; the sweep enrolls them in the background")

    def perform(
        self, *, sequence: str, phone: list[str], contact: list[str], file: Path | None, tag: str | None, **_: Any
    ) -> dict[str, Any]:
        chosen = finding.sequence(sequence)
        phones = [*phone, *(_lines(file) if file else [])]
        if tag is not None:
            if phones or contact:
                raise Refusal("Choose either --tag, or contacts by --phone, --contact and --file.", code="usage")
            return _holders(chosen, tag)
        if not (phones or contact):
            raise Refusal("Whom to enroll? Say --phone, --contact, --file or --tag.", code="usage")
        return _these(chosen, contact, phones)

    def tell(self, result: Any) -> None:
        rejected = result.pop("rejected", [])
        super().tell(result)
        for one in rejected[:SHOWN]:
            self.stdout.write(f"  {one['contact']}: {one['message']}")
        if len(rejected) > SHOWN:
            self.stdout.write(f"  … and {len(rejected) - SHOWN:,} more; --json lists them all")


def _these(sequence: Sequence, ids: list[str], phones: list[str]) -> dict[str, Any]:
    named = [Named(text, id=text) for text in ids] + [Named(text, phone=text) for text in phones]
    found = finding.contacts(sequence.organization, named)
    keys = [one.key for one in found if one.key is not None]
    outcomes = iter(enrolling.enroll(sequence, keys, source=Source.COMMAND, now=timezone.now()))
    codes = [one.code if one.key is None else next(outcomes).code for one in found]
    rejected = [
        {"contact": one.given, "code": code, "message": who.message or enrolling.SENTENCES[code]}
        for one, who, code in zip(named, found, codes, strict=True)
        if code
    ]
    return {
        "sequence": sequence.public_id,
        "enrolled": len(found) - len(rejected),
        "rejected_by_reason": dict(Counter(one["code"] for one in rejected).most_common()),
        "rejected": rejected,
    }


def _holders(sequence: Sequence, name: str) -> dict[str, Any]:
    tag = finding.tag(sequence.organization, name)
    intake = enrolling.ask_for_holders(sequence, tag, source=Source.COMMAND, now=timezone.now())
    return {"sequence": sequence.public_id, "intake": intake.public_id, "tag": tag.name, "status": "started"}


def _lines(file: Path) -> list[str]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"{file} can't be read as text: {error}", code="file_unreadable") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
