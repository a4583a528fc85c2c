"""What a callback's body says, as plain values. Source: Webhooks reference; shapes of v23 and of v24 onwards.

Meta puts up to a thousand facts into one body. Each is read by itself: what can't be used becomes a Problem and its
neighbors stay. Everything here fits a PostgreSQL column: no NUL, no lone surrogates, nothing endless.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from kaanha.whatsapp.cloud_api.limits import messaging_limit
from kaanha.whatsapp.cloud_api.text import clean

ID_LIMIT = 256
WORD_LIMIT = 64
NAME_LIMIT = 200
TEXT_LIMIT = 65_536  # WhatsApp's own is 4,096
CALLBACK_DATA_LIMIT = 512
DEPTH_LIMIT = 32
# What a timestamp may say, in seconds: from 2000 to 2100.
EARLIEST, LATEST = 946_684_800, 4_102_444_800


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a message of ours. `phone_number_id` is empty where the callback doesn't name the number."""

    phone_number_id: str
    wamid: str
    status: str  # sent, delivered, read, failed; others of tomorrow as they come
    at: datetime
    callback_data: str | None = None
    error: Mapping[str, Any] | None = None
    wa_id: str | None = None
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Inbound:
    """What a person sent: `wa_id`, `user_id` or both say who. `payload` is the member as it came."""

    phone_number_id: str
    wamid: str
    wa_id: str | None
    user_id: str | None
    name: str
    kind: str  # text, button, interactive, image, reaction, unsupported …
    text: str  # what was written or the label that was tapped; empty for a reaction
    choice: str | None  # the id behind a tapped button or row
    quoted: str | None  # the wamid that it answers or reacts to
    payload: Mapping[str, Any]
    at: datetime


@dataclass(frozen=True, slots=True)
class Preference:
    """The person's own switch for marketing at WhatsApp: `value` is stop or resume."""

    phone_number_id: str
    wa_id: str | None
    user_id: str | None
    value: str
    at: datetime


@dataclass(frozen=True, slots=True)
class NumberChanged:
    """A person has moved to another number."""

    phone_number_id: str
    old_wa_id: str | None
    new_wa_id: str
    user_id: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class NumberError:
    """An error of the number rather than of one message."""

    phone_number_id: str
    error: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TemplateStatus:
    """Meta's decision on one language of a template. `detail` is what Meta adds in words, to be shown as it is."""

    waba_id: str
    meta_id: str
    name: str
    language: str
    event: str
    reason: str
    title: str
    detail: str
    at: datetime


@dataclass(frozen=True, slots=True)
class TemplateCategory:
    """The category of a template: `current` now, and in a warning ahead `coming` from `coming_at` on."""

    waba_id: str
    meta_id: str
    name: str
    language: str
    current: str
    coming: str | None
    coming_at: datetime | None
    at: datetime


@dataclass(frozen=True, slots=True)
class TemplateQuality:
    waba_id: str
    meta_id: str
    name: str
    language: str
    score: str
    previous: str
    at: datetime


@dataclass(frozen=True, slots=True)
class NumberUpdate:
    """Throughput, quality or limit of a number or, without `display_number`, of the whole portfolio.

    `display_number` has digits only. `limit` is people per 24 h, UNLIMITED, or None where nothing is said.
    """

    waba_id: str
    display_number: str
    event: str
    limit: int | None
    at: datetime


@dataclass(frozen=True, slots=True)
class AccountUpdate:
    """Something happened to the account; `restrictions` are what Meta forbids and until when."""

    waba_id: str
    event: str
    restrictions: tuple[tuple[str, datetime | None], ...]
    detail: Mapping[str, Any]
    at: datetime


@dataclass(frozen=True, slots=True)
class Other:
    """A field, or a kind of message, that nobody here asks for."""

    waba_id: str
    field: str


@dataclass(frozen=True, slots=True)
class Problem:
    """What couldn't be used: `where` in the body, as in entry[0].changes[2].value.statuses[1], and why."""

    where: str
    reason: str


@dataclass(slots=True)
class Parsed:
    """Everything in one body, kind by kind, each in the order of the body."""

    receipts: list[Receipt] = field(default_factory=list)
    inbound: list[Inbound] = field(default_factory=list)
    preferences: list[Preference] = field(default_factory=list)
    number_changes: list[NumberChanged] = field(default_factory=list)
    number_errors: list[NumberError] = field(default_factory=list)
    template_statuses: list[TemplateStatus] = field(default_factory=list)
    template_categories: list[TemplateCategory] = field(default_factory=list)
    template_qualities: list[TemplateQuality] = field(default_factory=list)
    number_updates: list[NumberUpdate] = field(default_factory=list)
    account_updates: list[AccountUpdate] = field(default_factory=list)
    others: list[Other] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


class _Malformed(Exception):
    """A member that can't be used, and why."""


@dataclass(slots=True)
class _Change:
    """One change being read: its value, where it stands, and what its members share."""

    parsed: Parsed
    waba_id: str
    name: str
    value: dict[str, Any]
    where: str
    entry_at: Any
    received_at: datetime | None
    phone_number_id: str = ""
    people: list[dict[str, Any]] = field(default_factory=list)

    def at(self, seconds: Any) -> datetime:
        """The moment that `seconds` name; where they name none, that of receipt, if it is known."""
        moment = _moment(seconds) or self.received_at
        if moment is None:
            raise _Malformed(f"{_short(seconds)} is no timestamp")
        return moment

    def each(self, name: str, read: Callable[[_Change, dict[str, Any]], None]) -> None:
        """Read every member of the list `name`."""
        rows = self.value.get(name)
        if rows is None:
            return
        if not isinstance(rows, list):
            self.problem(f".{name}", f"{_short(rows)} stands where a list belongs")
            return
        for place, row in enumerate(rows):
            try:
                read(self, _object(row))
            except _Malformed as error:
                self.problem(f".{name}[{place}]", str(error))

    def problem(self, below: str, reason: str) -> None:
        self.parsed.problems.append(Problem(f"{self.where}.value{below}", reason))


def parse(body: bytes, *, received_at: datetime | None = None) -> Parsed:
    """Read a callback's body. Raises nothing, whatever the bytes.

    A member whose timestamp can't be read takes `received_at`; without that it is a problem.
    """
    parsed = Parsed()
    try:
        envelope = _load(body)
    except (ValueError, RecursionError) as error:
        parsed.problems.append(Problem("body", f"not JSON: {type(error).__name__} {_short(str(error))}"))
        return parsed
    for where, entry in _members(parsed, "body", envelope, "entry"):
        for place, change in _members(parsed, where, entry, "changes"):
            try:
                _read_change(parsed, place, entry, change, received_at)
            except _Malformed as error:
                parsed.problems.append(Problem(place, str(error)))
    return parsed


def _members(parsed: Parsed, where: str, parent: Any, name: str) -> list[tuple[str, Any]]:
    """The members of the list `name` in `parent`, each with its place."""
    rows = parent.get(name) if isinstance(parent, dict) else None
    prefix = name if where == "body" else f"{where}.{name}"
    if not isinstance(rows, list):
        parsed.problems.append(Problem(prefix, f"{_short(rows)} stands where a list belongs"))
        return []
    return [(f"{prefix}[{place}]", row) for place, row in enumerate(rows)]


def _read_change(parsed: Parsed, where: str, entry: Any, raw: Any, received_at: datetime | None) -> None:
    raw = _object(raw)
    name = _word(raw.get("field"))
    waba_id = _id(entry.get("id")) or ""
    read = READERS.get(name)
    if read is None:
        parsed.others.append(Other(waba_id, name))
        return
    change = _Change(parsed, waba_id, name, _object(raw.get("value")), where, entry.get("time"), received_at)
    read(change)


# --- messages ----------------------------------------------------------------------------------------------------


def _messages(change: _Change) -> None:
    value = change.value
    metadata = value.get("metadata")
    if isinstance(metadata, dict):
        change.phone_number_id = _id(metadata.get("phone_number_id")) or ""
    people = value.get("contacts")
    if isinstance(people, list):
        change.people = [person for person in people if isinstance(person, dict)]
    change.each("statuses", _receipt)
    change.each("messages", _message)
    change.each("user_preferences", _preference)
    change.each("errors", _number_error)


def _receipt(change: _Change, row: dict[str, Any]) -> None:
    errors = row.get("errors")
    error = errors[0] if isinstance(errors, list) and errors else None
    wa_id = _wa_id(row.get("recipient_id"))
    user_id = _user_id(row.get("recipient_user_id"))
    if user_id is None and change.people:
        user_id = _user_id(_person(change, wa_id, None).get("user_id"))
    change.parsed.receipts.append(
        Receipt(
            change.phone_number_id,
            _wamid(row.get("id")),
            _word(row.get("status")).lower() or _missing("status"),
            change.at(row.get("timestamp")),
            _callback_data(row.get("biz_opaque_callback_data")),
            fit(error) if isinstance(error, dict) else None,
            wa_id,
            user_id,
        )
    )


def _message(change: _Change, row: dict[str, Any]) -> None:
    kind = _word(row.get("type")) or "unknown"
    if kind == "system":
        _system(change, row)
        return
    wa_id, user_id = _wa_id(row.get("from")), _user_id(row.get("from_user_id"))
    person = _person(change, wa_id, user_id)
    wa_id, user_id = wa_id or _wa_id(person.get("wa_id")), user_id or _user_id(person.get("user_id"))
    if wa_id is None and user_id is None:
        raise _Malformed("the message doesn't say whom it is from")
    body = _inner(row, kind)
    change.parsed.inbound.append(
        Inbound(
            change.phone_number_id or _missing("metadata.phone_number_id"),
            _wamid(row.get("id")),
            wa_id,
            user_id,
            _text(_inner(person, "profile").get("name"), NAME_LIMIT),
            kind[:30],
            _written(kind, body),
            _text(_tapped(body).get("id") or body.get("payload"), ID_LIMIT) or None,
            _id(body.get("message_id") if kind == "reaction" else _inner(row, "context").get("id")),
            fit(row),
            change.at(row.get("timestamp")),
        )
    )


def _written(kind: str, body: dict[str, Any]) -> str:
    """The words of a message: its text, a caption, or the label of what was tapped."""
    match kind:
        case "text":
            words = body.get("body")
        case "button":
            words = body.get("text")
        case "interactive":
            words = _tapped(body).get("title") or _tapped(body).get("body")
        case "edit":
            message = _inner(body, "message")
            inner = _word(message.get("type")) or "text"
            return "" if inner == "edit" else _written(inner, _inner(message, inner))
        case _:
            words = body.get("caption")
    return _text(words, TEXT_LIMIT)


def _tapped(body: dict[str, Any]) -> dict[str, Any]:
    """The button, row or form of an interactive reply."""
    for kind in ("button_reply", "list_reply", "nfm_reply"):
        if isinstance(body.get(kind), dict):
            return _inner(body, kind)
    return {}


def _system(change: _Change, row: dict[str, Any]) -> None:
    """A notice of WhatsApp's about a person. Nobody has written, so it is no inbound message."""
    notice = _inner(row, "system")
    kind = _word(notice.get("type"))
    old, user_id = _wa_id(row.get("from")), _user_id(row.get("from_user_id"))
    new = _wa_id(notice.get("wa_id")) or _wa_id(notice.get("new_wa_id"))
    marketing = _word(notice.get("marketing")).lower()
    if kind in ("user_changed_number", "customer_changed_number") and new:
        moved = NumberChanged(change.phone_number_id, old, new, user_id, change.at(row.get("timestamp")))
        change.parsed.number_changes.append(moved)
    elif kind == "user_preference_changed" and marketing in ("stop", "resume"):
        _prefer(change, wa_id=old, user_id=user_id, value=marketing, seconds=row.get("timestamp"))
    else:
        change.parsed.others.append(Other(change.waba_id, f"{change.name}.system.{kind}"))


def _preference(change: _Change, row: dict[str, Any]) -> None:
    value = _word(row.get("value")).lower()
    if value not in ("stop", "resume"):
        change.parsed.others.append(Other(change.waba_id, f"user_preferences.{value}"))
        return
    wa_id, user_id = _wa_id(row.get("wa_id")), _user_id(row.get("user_id"))
    person = _person(change, wa_id, user_id)
    wa_id, user_id = wa_id or _wa_id(person.get("wa_id")), user_id or _user_id(person.get("user_id"))
    _prefer(change, wa_id=wa_id, user_id=user_id, value=value, seconds=row.get("timestamp"))


def _prefer(change: _Change, *, wa_id: str | None, user_id: str | None, value: str, seconds: Any) -> None:
    if wa_id is None and user_id is None:
        raise _Malformed("the preference doesn't say whose it is")
    preference = Preference(change.phone_number_id, wa_id, user_id, value, change.at(seconds))
    change.parsed.preferences.append(preference)


def _number_error(change: _Change, row: dict[str, Any]) -> None:
    change.parsed.number_errors.append(NumberError(change.phone_number_id, fit(row)))


def _person(change: _Change, wa_id: str | None, user_id: str | None) -> dict[str, Any]:
    """Who of the change's contacts it is; a contact that stands alone and says nothing else is the one."""
    for person in change.people:
        theirs = _wa_id(person.get("wa_id")), _user_id(person.get("user_id"))
        if (wa_id and wa_id == theirs[0]) or (user_id and user_id == theirs[1]):
            return person
    if len(change.people) == 1 and wa_id is None and user_id is None:
        return change.people[0]
    return {}


# --- templates ---------------------------------------------------------------------------------------------------


def _template_status(change: _Change) -> None:
    value = change.value
    other, rejection = _inner(value, "other_info"), _inner(value, "rejection_info")
    said = (rejection.get("reason"), rejection.get("recommendation"), other.get("description"))
    reason = _word(value.get("reason"))
    change.parsed.template_statuses.append(
        TemplateStatus(
            change.waba_id,
            *_template(value),
            _word(value.get("event")).upper() or _missing("event"),
            "" if reason == "NONE" else reason,
            _word(other.get("title")),
            " ".join(filter(None, (_text(words, TEXT_LIMIT) for words in said))),
            change.at(change.entry_at),
        )
    )


def _template_category(change: _Change) -> None:
    value = change.value
    # In a warning `new_category` is the current one, and the coming one is in the other field.
    coming = _word(value.get("correct_category")).upper() or None
    change.parsed.template_categories.append(
        TemplateCategory(
            change.waba_id,
            *_template(value),
            _word(value.get("new_category")).upper() or _missing("new_category"),
            coming,
            _moment(value.get("category_update_timestamp")) if coming else None,
            change.at(change.entry_at),
        )
    )


def _template_quality(change: _Change) -> None:
    value = change.value
    change.parsed.template_qualities.append(
        TemplateQuality(
            change.waba_id,
            *_template(value),
            _word(value.get("new_quality_score")).upper() or _missing("new_quality_score"),
            _word(value.get("previous_quality_score")).upper(),
            change.at(change.entry_at),
        )
    )


def _template(value: dict[str, Any]) -> tuple[str, str, str]:
    """Id, name and language of the template that a change is about; the id is a number here and a text elsewhere."""
    meta_id, name = _id(value.get("message_template_id")) or "", _text(value.get("message_template_name"), 512)
    if not meta_id and not name:
        raise _Malformed("the change doesn't say which template it is about")
    return meta_id, name, language_code(_word(value.get("message_template_language")))


def language_code(code: str) -> str:
    """A template's language as REST writes it: callbacks may say en-US for en_US."""
    return code.replace("-", "_")


# --- numbers and accounts ----------------------------------------------------------------------------------------


def _number_update(change: _Change) -> None:
    value = change.value
    limit = value.get("current_limit") or value.get("max_daily_conversations_per_business")
    number = "".join(filter(str.isdigit, _word(value.get("display_phone_number"))))
    event = _word(value.get("event")).upper()
    change.parsed.number_updates.append(
        NumberUpdate(change.waba_id, number, event, messaging_limit(limit), change.at(change.entry_at))
    )


def _account_update(change: _Change) -> None:
    value = change.value
    rows = value.get("restriction_info")
    restrictions = tuple(
        (_word(row.get("restriction_type")), _moment(row.get("expiration")))
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict)
    )
    event = _word(value.get("event")).upper() or _missing("event")
    update = AccountUpdate(change.waba_id, event, restrictions, fit(value), change.at(change.entry_at))
    change.parsed.account_updates.append(update)


READERS: dict[str, Callable[[_Change], None]] = {
    "messages": _messages,
    "user_preferences": _messages,
    "message_template_status_update": _template_status,
    "template_category_update": _template_category,
    "message_template_quality_update": _template_quality,
    "phone_number_quality_update": _number_update,
    "business_capability_update": _number_update,
    "account_update": _account_update,
}


# --- values ------------------------------------------------------------------------------------------------------


def fit(value: Any, depth: int = 0) -> Any:
    """JSON that PostgreSQL can store: texts cleaned and cut, no infinities, nothing below a depth of 32."""
    if isinstance(value, str):
        return clean(value, TEXT_LIMIT)
    if isinstance(value, dict | list) and depth >= DEPTH_LIMIT:
        return None
    if isinstance(value, dict):
        return {clean(key, TEXT_LIMIT): fit(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [fit(inner, depth + 1) for inner in value]
    return value


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _bounded(text: str) -> int | None:
    return int(text) if len(text) < 100 else None


# Lenient where JSON is strict (control characters) and strict where Python is lenient (NaN, infinities).
_decoder = json.JSONDecoder(strict=False, parse_float=_finite, parse_constant=lambda _: None)
_slow_decoder = json.JSONDecoder(strict=False, parse_float=_finite, parse_int=_bounded, parse_constant=lambda _: None)


def _load(body: bytes) -> Any:
    text = body.decode("utf-8-sig", errors="replace").strip()
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # a number with more digits than Python reads; one by one it costs more
        return _slow_decoder.decode(text)


def _moment(seconds: Any) -> datetime | None:
    """The moment of a Unix timestamp, written as text or number; None for anything else."""
    if isinstance(seconds, bool) or not isinstance(seconds, str | int | float):
        return None
    if isinstance(seconds, str) and len(seconds) > WORD_LIMIT:
        return None
    return _moment_of(seconds)


@lru_cache(maxsize=1024)  # what happens at once is told at once: most timestamps of a batch are the same few
def _moment_of(seconds: str | float) -> datetime | None:
    try:
        number = float(seconds)
    except (ValueError, OverflowError):
        return None
    return datetime.fromtimestamp(number, UTC) if EARLIEST <= number <= LATEST else None


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Malformed(f"{_short(value)} stands where an object belongs")
    return value


def _inner(row: dict[str, Any], name: str) -> dict[str, Any]:
    value = row.get(name)
    return value if isinstance(value, dict) else {}


def _text(value: Any, limit: int) -> str:
    return clean(value, limit) if isinstance(value, str) else ""


def _word(value: Any) -> str:
    return clean(value, WORD_LIMIT) if isinstance(value, str) else ""


def _id(value: Any) -> str | None:
    """An id, which is a text in some places and a number in others. Not cut: half an id would be another's."""
    if isinstance(value, str):
        text = value
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**30:
        text = str(value)
    else:
        return None
    return clean(text) if 0 < len(text) <= ID_LIMIT else None


def _wamid(value: Any) -> str:
    return _id(value) or _missing("id")


def _wa_id(value: Any) -> str | None:
    """A number as WhatsApp writes it: up to 20 digits, without plus."""
    text = (_id(value) or "").lstrip("+")
    return text if text.isascii() and text.isdigit() and len(text) <= 20 else None


def _user_id(value: Any) -> str | None:
    text = _id(value)
    return text if text and len(text) <= 128 else None


def _callback_data(value: Any) -> str | None:
    return clean(value) if isinstance(value, str) and 0 < len(value) <= CALLBACK_DATA_LIMIT else None


def _missing(name: str) -> str:
    raise _Malformed(f"{name} is missing or of the wrong kind")


def _short(value: Any) -> str:
    """The value as a problem shows it."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return "an endless number"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return clean(repr(value[:60] if isinstance(value, str) else value), 80)
