"""The bodies that we post. Source: Cloud API, "Messages"."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

# One encoder for all: json.dumps with options of its own builds a new one at every call.
_encode = json.JSONEncoder(separators=(",", ":")).encode


def template_message(
    *,
    name: str,
    language: str,
    components: Sequence[Any],
    callback_data: str,
    to: str | None = None,
    user_id: str | None = None,
) -> bytes:
    """A template for one recipient: `to` is a phone number with its plus, `user_id` stands in where there is none.

    `callback_data` comes back in every status of the message; at most 512 characters, readable by every app that is
    subscribed to the account, so no personal data. Without the plus Meta may put the sender's country code in front.
    """
    template: dict[str, Any] = {"name": name, "language": {"code": language}}
    if components:  # a template without variables is sent with no components at all
        template["components"] = components
    message = {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        **({"to": to} if to else {"recipient": user_id}),
        "type": "template",
        "biz_opaque_callback_data": callback_data,
        "template": template,
    }
    return _encode(message).encode()
