"""What an HTTP answer of Meta proves: accepted, refused, surely not delivered, or unknown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kaanha.whatsapp.cloud_api.errors import Verdict, classify, known
from kaanha.whatsapp.cloud_api.text import clean

WAMID_LIMIT = 256
REASON_LIMIT = 200
# Meta has the message and keeps it back. Source: Cloud API, "Template pacing".
HELD = frozenset({"held_for_quality_assessment", "paused"})
# Answered before a message is looked at, whoever answers: Meta, or a proxy on the way.
TOO_MANY_REQUESTS, SERVICE_UNAVAILABLE = 429, 503
# What a server says when it gives up an idle connection, perhaps in the moment in which a request is on its way to it.
REQUEST_TIMEOUT = 408


@dataclass(frozen=True, slots=True)
class Accepted:
    """Meta has the message. `wa_id` and `user_id` are whom Meta took the recipient for, where it says so."""

    wamid: str
    wa_id: str | None
    user_id: str | None
    held: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """Meta's own error: it doesn't have the message, and says why."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Undelivered:
    """Proof that Meta doesn't have the message, without a reason of Meta's: try again later."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotMeta:
    """Refused by something that isn't Meta (a proxy, a wrong address): undelivered, and so is all that follows."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Meta may or may not have the message."""

    reason: str


Answer = Accepted | Refused | Undelivered | NotMeta | Unknown


def read(status: int, body: bytes) -> Answer:
    """What a complete answer to a message proves."""
    answer = parsed(body)
    if error := graph_error(answer):
        return Refused(classify(error, http_status=status))
    if 200 <= status < 300:
        return _accepted(answer) or Unknown(f"HTTP {status} without a message id{_quoted(body)}")
    if status in (TOO_MANY_REQUESTS, SERVICE_UNAVAILABLE):
        return Undelivered(f"HTTP {status}{_quoted(body)}")
    if _refuses(status):
        return NotMeta(status, f"HTTP {status} without an error of Meta's{_quoted(body)}")
    return Unknown(f"HTTP {status}{_quoted(body)}")


def broken_off(status: int, reason: str) -> Answer:
    """What an answer proves whose body never came whole: the status, where it alone means a refusal."""
    if _refuses(status) or status == SERVICE_UNAVAILABLE:
        return Undelivered(f"HTTP {status}, broken off: {reason}")
    return Unknown(f"HTTP {status}, broken off: {reason}")


def _refuses(status: int) -> bool:
    """Whether the status says that this very request was refused."""
    return 400 <= status < 500 and status != REQUEST_TIMEOUT


def parsed(body: bytes) -> Any:
    """The body's JSON; None where it isn't any."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def graph_error(answer: Any) -> Mapping[str, Any] | None:
    """The error of an answer in Graph's own shape; None for other errors, such as a gateway's in JSON.

    The shape matters: a Graph error proves that there is no message, a gateway's proves nothing.
    """
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        return None
    signed = isinstance(error.get("type"), str) or "fbtrace_id" in error or "error_data" in error
    return error if signed or known(error.get("code")) else None


def _accepted(answer: Any) -> Accepted | None:
    message = _first_of(answer, "messages")
    wamid = _text(message.get("id"))
    if wamid is None:
        return None
    contact = _first_of(answer, "contacts")
    return Accepted(
        clean(wamid, WAMID_LIMIT),
        _text(contact.get("wa_id")),
        _text(contact.get("user_id")),
        _text(message.get("message_status")) in HELD,
    )


def _first_of(answer: Any, name: str) -> Mapping[str, Any]:
    rows = answer.get(name) if isinstance(answer, dict) else None
    first = rows[0] if isinstance(rows, list) and rows else None
    return first if isinstance(first, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _quoted(body: bytes) -> str:
    """The beginning of a body that isn't what it should be, for people who look for the reason."""
    text = clean(" ".join(body[: 4 * REASON_LIMIT].decode(errors="replace").split()), REASON_LIMIT)
    return f": {text}" if text else ", empty"
