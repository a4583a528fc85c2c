"""Callback bodies, as Meta writes them: the envelope, statuses, inbound messages; escaped ASCII, signed byte by byte.

Source: Cloud API reference, "Webhooks".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from kaanha.simulator.phone_numbers import profile_name_of, user_id_of

_CHANGE_SIZES = (1, 7, 1000)  # events in one change; a client must loop over every level


@dataclass(frozen=True, slots=True)
class Event:
    """One thing to tell: `item` goes into the list `kind` (statuses, messages) of a change, or is the whole value.

    `phone` is None for events of the account and its templates; these carry `at`, the entry's time.
    """

    destination: str
    field: str
    kind: str | None
    item: dict[str, Any]
    phone: tuple[str, str] | None = None  # display number in digits, id
    contacts: tuple[dict[str, Any], ...] = ()
    at: int | None = None


def encode(body: Any) -> bytes:
    r"""JSON in ASCII: \uXXXX in lower case for everything else, and \/ for every slash."""
    return json.dumps(body, separators=(",", ":")).replace("/", "\\/").encode("ascii")


def signature(secret: str, body: bytes) -> str:
    """The value of X-Hub-Signature-256."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def old_signature(secret: str, body: bytes) -> str:
    """The value of X-Hub-Signature, which Meta still sends beside the other."""
    return f"sha1={hmac.new(secret.encode(), body, hashlib.sha1).hexdigest()}"


def new_wamid(wa_id: str, *, inbound: bool = False) -> str:
    """A message id of Meta's look; opaque to everyone."""
    number = wa_id.encode()
    mark = b"\x15\x02\x00\x12\x18\x14" if inbound else b"\x15\x02\x00\x11\x18\x12"
    raw = b"\x1c\x18" + bytes([len(number)]) + number + mark + secrets.token_hex(9).upper().encode() + b"\x00"
    return f"wamid.{base64.b64encode(raw).decode()}"


def contact(wa_id: str, name: str | None = None, *, numbered: bool = True) -> dict[str, Any]:
    """A person as `contacts` shows them; with a username the number is not shown (`numbered` False)."""
    profile = {"name": name or profile_name_of(wa_id)}
    if not numbered:
        return {"profile": profile | {"username": f"sample.{wa_id[-4:]}"}, "user_id": user_id_of(wa_id)}
    return {"profile": profile, "wa_id": wa_id, "user_id": user_id_of(wa_id)}


def pricing(category: str, *, window_open: bool) -> dict[str, Any]:
    """The price class of a delivered message. Replies inside the window are of the category service."""
    kind = "free_customer_service" if window_open and category == "service" else "regular"
    return {"billable": kind == "regular", "pricing_model": "PMP", "type": kind, "category": category}


def envelope(waba_id: str, events: Iterable[Event], rng: Random) -> dict[str, Any]:
    """One callback body. The events are spread over entries, changes and lists in ever different ways."""
    entries: list[dict[str, Any]] = []
    size, apart = rng.choice(_CHANGE_SIZES), rng.random() < 0.3
    for group in _groups(events, size):
        change = {"value": _value(group), "field": group[0].field}
        if group[0].at is not None:
            entries.append({"id": waba_id, "time": group[0].at, "changes": [change]})
        elif entries and not apart and "time" not in entries[-1]:
            entries[-1]["changes"].append(change)
        else:
            entries.append({"id": waba_id, "changes": [change]})
    return {"object": "whatsapp_business_account", "entry": entries}


def _groups(events: Iterable[Event], size: int) -> list[list[Event]]:
    groups: list[list[Event]] = []
    for event in events:
        last = groups[-1] if groups else None
        together = last is not None and event.kind is not None and len(last) < size
        if last is not None and together and (last[0].kind, last[0].phone) == (event.kind, event.phone):
            last.append(event)
        else:
            groups.append([event])
    return groups


def _value(group: list[Event]) -> Mapping[str, Any]:
    first = group[0]
    if first.kind is None:
        return first.item
    value: dict[str, Any] = {"messaging_product": "whatsapp"}
    if first.phone:
        value["metadata"] = {"display_phone_number": first.phone[0], "phone_number_id": first.phone[1]}
    people = {each["user_id"]: each for event in group for each in event.contacts}
    if people:
        value["contacts"] = list(people.values())
    value[first.kind] = [event.item for event in group]
    return value
