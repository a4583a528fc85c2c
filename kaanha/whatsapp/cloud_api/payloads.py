"""The bodies that we post. Source: Cloud API, "Messages"."""

from __future__ import annotations

import json
from typing import Any

# One encoder for all: json.dumps with options of its own builds a new one at every call.
encode = json.JSONEncoder(separators=(",", ":")).encode
NO_COMPONENTS = "[]"


def template_message(
    *,
    name: str,
    language: str,
    components: str,
    callback_data: str,
    to: str | None = None,
    user_id: str | None = None,
) -> bytes:
    """A template for one recipient: `to` is a phone number with its plus, `user_id` stands in where there is none.

    `components` come encoded, for they are kept with the row, too. `callback_data` comes back in every status of the
    message; at most 512 characters, readable by every app that is subscribed to the account, so no personal data.
    Without the plus Meta may put the sender's country code in front.
    """
    message: dict[str, Any] = {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        **({"to": to} if to else {"recipient": user_id}),
        "type": "template",
        "biz_opaque_callback_data": callback_data,
        "template": {"name": name, "language": {"code": language}},
    }
    text = encode(message)
    if components != NO_COMPONENTS:  # a template without variables is sent with no components at all
        text = f'{text[:-2]},"components":{components}}}}}'
    return text.encode()
