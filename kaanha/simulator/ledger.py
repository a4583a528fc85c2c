"""What was accepted, from whom, to whom, how often; kept in memory and, if wanted, in a file that survives a kill.

The file has one JSON object a line, written before the message is answered; further lines say which statuses were taken
by the callback URL, and which URL that is. A last line cut off by a kill is dropped.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

# What a line of the file holds beside the payload.
_KEPT = ("wamid", "to", "wa_id", "phone_number_id", "template", "language", "category", "opaque", "accepted_at", "card",
         "by_user_id")  # fmt: skip


@dataclass(slots=True)
class Message:
    """One accepted message. `raw` is the request's body as it came; `statuses` grows as they are told."""

    number: int
    wamid: str
    to: str
    wa_id: str
    phone_number_id: str
    template: str | None
    language: str | None
    category: str
    opaque: str | None
    raw: bytes
    accepted_at: float
    card: str | None = None
    by_user_id: bool = False
    statuses: list[tuple[str, int, int | None]] = field(default_factory=list)  # status, timestamp, error code

    @property
    def payload(self) -> dict[str, Any]:
        """The request as it was sent."""
        payload: dict[str, Any] = json.loads(self.raw)
        return payload

    def as_json(self) -> dict[str, Any]:
        """The message as /simulator/messages shows it."""
        return {
            "number": self.number,
            "wamid": self.wamid,
            "to": self.to,
            "waId": self.wa_id,
            "phoneNumberId": self.phone_number_id,
            "template": {"name": self.template, "language": self.language} if self.template else None,
            "category": self.category,
            "payload": self.payload,
            "opaque": self.opaque,
            "acceptedAt": self.accepted_at,
            "card": self.card,
            "statuses": [
                {"status": status, "timestamp": timestamp} | ({"code": code} if code is not None else {})
                for status, timestamp, code in self.statuses
            ],
        }


@dataclass(slots=True)
class Person:
    """Somebody with WhatsApp: what they got and what they have decided."""

    wa_id: str
    name: str | None = None
    preference: str | None = None  # stop, resume: WhatsApp's own switch for marketing
    window_until: float = 0.0  # the customer service window, in seconds of the epoch
    messages: list[Message] = field(default_factory=list)
    written: int = 0

    def as_json(self) -> dict[str, Any]:
        """Counts of this person for /simulator/recipients."""
        statuses = Counter(status for message in self.messages for status, *_ in message.statuses)
        templates = Counter(message.template or "" for message in self.messages)
        last = self.messages[-1] if self.messages else None
        return {
            "waId": self.wa_id,
            "name": self.name,
            "accepted": len(self.messages),
            "templates": templates,
            "statuses": statuses,
            "wrote": self.written,
            "preference": self.preference,
            "card": last.card if last else None,
            "lastAt": last.accepted_at if last else None,
        }


@dataclass(slots=True)
class Tally:
    """Counts of one template, all its languages together."""

    accepted: int = 0
    recipients: set[str] = field(default_factory=set)
    twice: set[str] = field(default_factory=set)

    def as_json(self) -> dict[str, int]:
        return {"accepted": self.accepted, "recipients": len(self.recipients), "twice": len(self.twice)}


class Ledger:
    """Every accepted message with the counts over them. `path`: the file to continue, if any."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.subscription: dict[str, Any] | None = None  # as last noted in the file
        self._file: BinaryIO | None = None
        self.clear()
        if path is not None:
            self._read_back(path)
            self._file = path.open("ab", buffering=0)

    def clear(self) -> None:
        """Forget everything, and note in the file that what stands above it no longer counts."""
        self.messages: list[Message] = []
        self.by_wamid: dict[str, Message] = {}
        self.people: dict[str, Person] = {}
        self.refused: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.unanswered = 0
        self._recipients = 0
        self._sent: Counter[tuple[str, str | None, str | None, str]] = Counter()
        self._tallies: dict[str, Tally] = {}
        self._twice: set[str] = set()
        if self._file:
            self._write({"reset": True})

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def person(self, wa_id: str) -> Person:
        """The person of this id, from now on known."""
        person = self.people.get(wa_id)
        if person is None:
            person = self.people[wa_id] = Person(wa_id)
        return person

    def add(self, message: Message) -> None:
        """Take in a message; on return it is in the file."""
        if self._file:
            self._write(_line(message))
        self._count(message)

    def _count(self, message: Message) -> None:
        self.messages.append(message)
        self.by_wamid[message.wamid] = message
        person = self.people.pop(message.wa_id, None) or Person(message.wa_id)
        self.people[message.wa_id] = person  # last in the order: listings show the most recent people first
        self._recipients += not person.messages
        person.messages.append(message)
        if message.template is None:
            return
        tally = self._tallies.get(message.template)
        if tally is None:
            tally = self._tallies[message.template] = Tally()
        tally.accepted += 1
        tally.recipients.add(message.wa_id)
        key = (message.phone_number_id, message.template, message.language, message.wa_id)
        self._sent[key] += 1
        if self._sent[key] == 2:
            tally.twice.add(message.wa_id)
            self._twice.add(message.wa_id)

    def note_subscription(self, subscription: dict[str, Any]) -> None:
        """Remember over a restart where callbacks go."""
        self._write({"subscription": subscription})

    def note_told(self, statuses: list[dict[str, Any]]) -> None:
        """Remember over a restart that the callback URL has taken these statuses."""
        if self._file and statuses:
            errors = [status.get("errors") or [{}] for status in statuses]
            self._write(
                {
                    "told": [
                        [status["id"], status["status"], int(status["timestamp"]), first.get("code")]
                        for status, (first, *_) in zip(statuses, errors, strict=True)
                    ]
                }
            )

    def summary(self) -> dict[str, Any]:
        """Counts for /simulator/summary. `twice`: people who got one template from one number more than once."""
        return {
            "accepted": len(self.messages),
            "recipients": self._recipients,
            "twice": len(self._twice),
            "refused": dict(self.refused),
            "unanswered": self.unanswered,
            "byTemplate": {name: tally.as_json() for name, tally in self._tallies.items()},
            "statuses": dict(self.statuses),
        }

    def found(self, *, wa_id: str | None, template: str | None, after: int) -> Iterator[Message]:
        """Messages in the order of acceptance, those numbered above `after`, perhaps only of a person or template."""
        source = self.messages[after:]  # numbers count from 1 without a gap
        if wa_id is not None:
            source = self.people[wa_id].messages if wa_id in self.people else []
        for message in source:
            if message.number > after and (template is None or message.template == template):
                yield message

    def _write(self, line: dict[str, Any]) -> None:
        if self._file:
            self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def _read_back(self, path: Path) -> None:
        if not path.exists():
            return
        whole = 0
        with path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                try:
                    self._recall(json.loads(line))
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise ValueError(f"{path} is not a log of the simulator: {line[:60]!r}") from error
        os.truncate(path, whole)

    def _recall(self, line: dict[str, Any]) -> None:
        if line.get("reset"):
            self.clear()
            return
        if "subscription" in line:
            self.subscription = line["subscription"]
            return
        if "told" in line:
            self._recall_told(line["told"])
            return
        payload = line.pop("payload")
        raw = json.dumps(payload, separators=(",", ":")).encode()
        self._count(Message(number=len(self.messages) + 1, raw=raw, **line))

    def _recall_told(self, told: list[tuple[str, str, int, int | None]]) -> None:
        for wamid, status, timestamp, code in told:
            message = self.by_wamid.get(wamid)
            if message and status not in [each for each, *_ in message.statuses]:
                message.statuses.append((status, timestamp, code))
                self.statuses[status] += 1


def _line(message: Message) -> dict[str, Any]:
    return {name: getattr(message, name) for name in _KEPT} | {"payload": message.payload}
