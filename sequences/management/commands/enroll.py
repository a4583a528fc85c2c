"""Enroll contacts in a sequence from the command line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from kaanha.lib.commands import KaanhaCommand, text_of
from kaanha.lib.errors import Refusal
from sequences import enrolling, finding
from sequences.finding import Named
from sequences.models import Sequence, Source

SHOWN = 20  # rejected contacts that are printed
LARGEST = 50_000_000  # bytes of a file: some three million numbers


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
        named = [Named(text, id=text) for text in contact] + [Named(text, phone=text) for text in phone]
        if tag is not None:
            if named or file:
                raise Refusal("Choose either --tag, or contacts by --phone, --contact and --file.", code="usage")
            return _holders(chosen, tag)
        if file is not None:
            return _these(chosen, [*named, *_listed(file)])
        if not named:
            raise Refusal("Whom to enroll? Say --phone, --contact, --file or --tag.", code="usage")
        return _only(chosen, named[0]) if len(named) == 1 else _these(chosen, named)

    def tell(self, result: Any) -> None:
        rejected, reasons = result.pop("rejected", []), result.pop("rejectedByReason", {})
        super().tell(result)
        if rejected:
            told = ", ".join(f"{reason} {count:,}" for reason, count in reasons.items())
            self.stdout.write(f"rejected: {len(rejected):,} ({told})")
        for one in rejected[:SHOWN]:
            given = one["contact"] if one["contact"].isprintable() else repr(one["contact"])
            self.stdout.write(f"  {given}: {one['message']}")
        if len(rejected) > SHOWN:
            self.stdout.write(f"  … and {len(rejected) - SHOWN:,} more; --json lists them all")


def _only(sequence: Sequence, named: Named) -> dict[str, Any]:
    """One contact: enrolled, or a Refusal that says why not."""
    for one in _rejected(sequence, [named]):
        raise Refusal(f"{one['contact']}: {one['message']}", code=one["code"])
    return {"sequence": sequence.public_id, "enrolled": 1, "rejectedByReason": {}, "rejected": []}


def _these(sequence: Sequence, named: list[Named]) -> dict[str, Any]:
    """Many contacts, in batches, each a transaction: stopped in between, it can be run again."""
    parts = [named[start : start + enrolling.BATCH] for start in range(0, len(named), enrolling.BATCH)]
    rejected = [one for part in parts for one in _rejected(sequence, part)]
    return {
        "sequence": sequence.public_id,
        "enrolled": len(named) - len(rejected),
        "rejectedByReason": dict(Counter(one["code"] for one in rejected).most_common()),
        "rejected": rejected,
    }


def _rejected(sequence: Sequence, named: list[Named]) -> list[dict[str, str]]:
    """Enroll these contacts; who was not, in the order given, and why."""
    found = finding.contacts(sequence.organization, named)
    keys = [who.key for who in found if who.key is not None]
    outcomes = iter(enrolling.enroll(sequence, keys, source=Source.COMMAND, now=timezone.now()))
    codes = [who.code if who.key is None else next(outcomes).code for who in found]
    return [
        {"contact": one.given, "code": code, "message": who.message or enrolling.SENTENCES[code]}
        for one, who, code in zip(named, found, codes, strict=True)
        if code
    ]


def _holders(sequence: Sequence, name: str) -> dict[str, Any]:
    tag = finding.tag(sequence.organization, name)
    intake = enrolling.ask_for_holders(sequence, tag, source=Source.COMMAND, now=timezone.now())
    return {"sequence": sequence.public_id, "intake": intake.public_id, "tag": tag.name, "status": "started"}


def _listed(file: Path) -> list[Named]:
    lines = [line.strip() for line in text_of(file, limit=LARGEST).splitlines()]
    if not any(lines):
        raise Refusal(f"{file} holds no phone number: write one in each line.", code="file_empty")
    return [Named(line, phone=line) for line in lines if line]
