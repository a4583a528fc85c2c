"""What Meta answers and posts, as far as a benchmark needs it: an acceptance, a status, a body of statuses."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from kaanha.messaging.claiming import Envelope, callback_data
from kaanha.messaging.settling import Result
from kaanha.whatsapp.cloud_api.client import Accepted
from kaanha.whatsapp.models import PhoneNumber

PRICING = {"billable": True, "pricing_model": "PMP", "type": "regular", "category": "marketing"}


def wamid(message: int) -> str:
    """An id as long as Meta's."""
    return f"wamid.BENCHMARK{message:040}"


def accepted(envelopes: Iterable[Envelope], *, at: datetime) -> list[Result]:
    """That Meta has taken all of them."""
    return [Result(one, Accepted(wamid(one.id), None, None, held=False), at) for one in envelopes]


def status(message: int, stage: str, *, at: datetime, attempt: int = 1, known_as: str = "") -> dict[str, Any]:
    """What Meta tells of a message; `known_as` is its wamid where that is another one than `wamid` gives."""
    return {
        "id": known_as or wamid(message),
        "status": stage,
        "timestamp": str(int(at.timestamp())),
        "recipient_id": "919000000001",
        "biz_opaque_callback_data": callback_data(message, attempt),
        "pricing": PRICING,
    }


def body(number: PhoneNumber, statuses: list[dict[str, Any]]) -> bytes:
    """The statuses as Meta posts them together."""
    shown = {"display_phone_number": "15555550100", "phone_number_id": number.phone_number_id}
    value = {"messaging_product": "whatsapp", "metadata": shown, "statuses": statuses}
    entry = {"id": number.account.waba_id, "changes": [{"field": "messages", "value": value}]}
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()
