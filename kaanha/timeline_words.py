"""A contact's timeline for people: each entry as an icon, a sentence, what became of it, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.safestring import SafeString

from contacts.models import ConsentSource, Contact, ContactEvent
from kaanha import timeline
from kaanha.lib.pagination import Key
from kaanha.messaging.admin import STATUS_COLORS
from kaanha.messaging.models import Dispatch, SkipReason, Status
from kaanha.organizations.owned_admin import chip, moment
from sequences.models import Code, EnrollmentStatus, ExitReason, Outcome, Source, Step

AT_ONCE = 30
SENT_FOR: dict[str, str] = {
    Dispatch.Kind.BROADCAST: "a broadcast",
    Dispatch.Kind.STEP: "a sequence",
    Dispatch.Kind.API: "the API",
    Dispatch.Kind.TEST: "a test",
}
EVENTS: dict[str, tuple[str, str]] = {
    ContactEvent.Kind.CREATED: ("person_add", "Became a contact"),
    ContactEvent.Kind.TAG_ADDED: ("label", "Got the tag {tag}"),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One entry. `icon` is the name of a Material symbol."""

    at: str
    icon: str
    words: str
    why: str = ""
    chip: SafeString | str = ""


def page(contact: Contact, *, after: Key | None = None) -> tuple[list[Line], str | None]:
    """The latest entries after that place, and the cursor behind them; a query for each kind of entry.

    A step that sent a message is told by the message alone.
    """
    told = timeline.page(contact, limit=AT_ONCE, after=after)
    lines = [_line(entry) for entry in told["data"] if not (entry["type"] == "step" and entry["messageId"])]
    return lines, told["nextCursor"]


def _line(entry: Mapping[str, Any]) -> Line:
    return _TOLD[entry["type"]](entry)


def _message(entry: Mapping[str, Any]) -> Line:
    status = Status(entry["status"])
    error = entry["error"]
    why = str(SkipReason(entry["skipReason"]).label) if entry["skipReason"] in SkipReason.values else ""
    if error:
        why = f"{error['code']}: {error['text']}" if error["code"] is not None else error["text"]
    words = f"{entry['template']}, for {SENT_FOR.get(entry['source'], entry['source'])}"
    shown = chip(str(status.label), STATUS_COLORS[status])
    return Line(moment(entry["at"]), "outgoing_mail", words, why, shown)


def _inbound(entry: Mapping[str, Any]) -> Line:
    return Line(moment(entry["at"]), "chat", f"Wrote: {entry['text']}" if entry["text"] else f"Sent: {entry['kind']}")


def _consent(entry: Mapping[str, Any]) -> Line:
    words = "Opted in" if entry["optedIn"] else "Opted out"
    icon = "check_circle" if entry["optedIn"] else "block"
    return Line(moment(entry["at"]), icon, f"{words}: {_source(entry)}", entry["proof"] or "")


def _event(entry: Mapping[str, Any]) -> Line:
    icon, words = EVENTS.get(entry["event"], ("person", str(entry["event"]).replace("_", " ").capitalize()))
    return Line(moment(entry["at"]), icon, f"{words.format(tag=entry['tag'] or '(gone)')}: {_source(entry)}")


def _enrolled(entry: Mapping[str, Any]) -> Line:
    source = Source(entry["source"]).label if entry["source"] in Source.values else entry["source"]
    return Line(moment(entry["at"]), "account_tree", f"Began {entry['sequence']}", str(source))


def _ended(entry: Mapping[str, Any]) -> Line:
    status = EnrollmentStatus(entry["status"])
    words = "Came to the end of" if status == EnrollmentStatus.COMPLETED else "Left"
    why = str(ExitReason(entry["reason"]).label) if entry["reason"] in ExitReason.values else ""
    return Line(moment(entry["at"]), "account_tree", f"{words} {entry['sequence']}", why)


def _step(entry: Mapping[str, Any]) -> Line:
    outcome = "" if entry["outcome"] == "waiting" else entry["outcome"]
    shown = str(Outcome(outcome).label) if outcome in Outcome.values else str(outcome)
    kind = Step.Kind(entry["kind"]).label.lower()
    words = f"{entry['sequence']}, step {entry['place']} ({kind}): {shown[0].lower()}{shown[1:]}"
    return Line(moment(entry["at"]), "subdirectory_arrow_right", words, entry["reason"] or "")


def _refusal(entry: Mapping[str, Any]) -> Line:
    why = str(Code(entry["code"]).label) if entry["code"] in Code.values else str(entry["code"])
    return Line(moment(entry["at"]), "do_not_disturb_on", f"Not enrolled in {entry['sequence']}", why)


def _source(entry: Mapping[str, Any]) -> str:
    known = entry["source"] in ConsentSource.values
    return str(ConsentSource(entry["source"]).label).lower() if known else str(entry["source"] or "unknown")


_TOLD: dict[str, Callable[[Mapping[str, Any]], Line]] = {
    "message": _message,
    "inbound": _inbound,
    "consent": _consent,
    "contact": _event,
    "enrolled": _enrolled,
    "sequence_ended": _ended,
    "step": _step,
    "not_enrolled": _refusal,
}
