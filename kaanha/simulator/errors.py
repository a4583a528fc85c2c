"""Meta's errors: what each code says, with which HTTP status, and the JSON it comes in.

Source: Cloud API reference, "Error codes"; Graph API, "Handling errors".
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

DOCUMENTATION = "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/"

# code -> (HTTP status, text). A code that is missing here answers 400 with a plain text.
TEXTS: dict[int, tuple[int, str]] = {
    0: (401, "AuthException"),
    1: (400, "API Unknown"),
    2: (503, "Service temporarily unavailable"),
    3: (500, "Application does not have the capability to make this API call"),
    4: (400, "Application request limit reached"),
    10: (403, "Application does not have permission for this action"),
    100: (400, "Invalid parameter"),
    104: (400, "An access token is required to request this resource"),
    190: (401, "Invalid OAuth access token - Cannot parse access token"),
    200: (403, "Provide valid app ID"),
    368: (403, "Temporarily blocked for policies violations"),
    613: (400, "Calls to this api have exceeded the rate limit"),
    80007: (400, "There have been too many calls to this WhatsApp Business account"),
    130403: (400, "Business has blocked the user"),
    130429: (400, "Rate limit hit"),
    130472: (400, "User's number is part of an experiment"),
    130497: (403, "Business account is restricted from messaging users in this country"),
    131000: (500, "Something went wrong"),
    131005: (403, "Access denied"),
    131008: (400, "Required parameter is missing"),
    131009: (400, "Parameter value is not valid"),
    131016: (500, "Service unavailable"),
    131021: (400, "Recipient cannot be the sender"),
    131026: (400, "Message undeliverable"),
    131030: (400, "Recipient phone number not in allowed list"),
    131031: (403, "Business Account locked"),
    131037: (400, "Display name approval is required before sending messages"),
    131042: (400, "Business eligibility payment issue"),
    131045: (500, "Message failed to send because of a phone number registration error"),
    131047: (400, "Re-engagement message"),
    131048: (400, "Spam rate limit hit"),
    131049: (400, "This message was not delivered to maintain healthy ecosystem engagement."),
    131050: (400, "Unable to deliver the message. The recipient has stopped marketing messages from this business."),
    131051: (400, "Unsupported message type"),
    131052: (400, "Media download error"),
    131053: (400, "Media upload error"),
    131055: (400, "Method not allowed"),
    131056: (400, "(Business Account, Consumer Account) pair rate limit hit"),
    131057: (500, "Account in maintenance mode"),
    131062: (400, "Business-scoped user ids are not supported for this message"),
    131063: (400, "Marketing messages are disabled on Cloud API"),
    131064: (400, "Messaging is limited because of template misclassification"),
    132000: (400, "Number of parameters does not match the expected number of params"),
    132001: (404, "Template name does not exist in the translation"),
    132005: (400, "Translated text too long"),
    132007: (400, "Template format character policy violated"),
    132008: (400, "Parameter value is not valid"),
    132012: (400, "Parameter format does not match format in the created template"),
    132015: (400, "Template is paused"),
    132016: (400, "Template is disabled"),
    132018: (400, "There are issues with the parameters in your template"),
    132068: (400, "Flow is blocked"),
    132069: (400, "Flow is throttled"),
    133000: (500, "Incomplete deregistration"),
    133004: (503, "Server temporarily unavailable"),
    133010: (400, "Phone number not registered"),
    133015: (400, "Recently deleted phone number, please wait"),
    134100: (400, "Only marketing messages are supported"),
    134101: (400, "Template is still being synced"),
    134102: (500, "Template is unavailable"),
    135000: (400, "Generic user error"),
    137000: (400, "Recipient identity key hash mismatch"),
}

# What error_data.details says where the text alone would say less than Meta does.
DETAILS: dict[int, str] = {
    130429: "Cloud API message throughput has been reached.",
    130472: "Failed to send message because this user's phone number is part of an experiment.",
    131000: "Message failed to send due to an unknown error.",
    131026: "Message undeliverable.",
    131042: "Message failed to send because of a problem with the payment method of this business.",
    131047: "Message failed to send because more than 24 hours have passed since the customer"
    " last replied to this number.",
    131048: "Message failed to send because there are restrictions on how many messages can be sent from this number.",
    131049: "In order to maintain a healthy ecosystem engagement, the message failed to be delivered.",
    131050: "The recipient has chosen to stop marketing messages from this business.",
    131053: "Unable to upload the media used in the message.",
    131056: "Message failed to send because there were too many messages sent from this phone number"
    " to the same phone number in a short period of time.",
    131057: "Business account is in maintenance mode.",
    132015: "Template is paused due to low quality so it cannot be sent in a template message.",
    132016: "Template has been paused too many times due to low quality and is now permanently disabled.",
    133004: "Server is temporarily unavailable. Please try again later.",
}


class GraphError(Exception):
    """An answer that refuses. `details` is Meta's error_data.details, `subcode` its error_subcode."""

    def __init__(
        self,
        code: int,
        details: str | None = None,
        *,
        message: str | None = None,
        subcode: int | None = None,
        status: int | None = None,
        kind: str = "OAuthException",
        user: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(f"{code}: {details or message}")
        known_status, known_text = TEXTS.get(code, (400, "Unknown error"))
        self.code = code
        self.subcode = subcode
        self.status = status or known_status
        self.message = message or numbered(code, known_text)
        self.details = DETAILS.get(code) if details is None else details
        self.kind = kind
        self.user = user

    def body(self) -> dict[str, Any]:
        """The JSON that Meta answers with."""
        error: dict[str, Any] = {"message": self.message, "type": self.kind, "code": self.code}
        if self.subcode is not None:
            error["error_subcode"] = self.subcode
        if self.user:
            title, text = self.user
            error |= {"is_transient": False, "error_user_title": title, "error_user_msg": text}
        if self.details is not None:
            error["error_data"] = {"messaging_product": "whatsapp", "details": self.details}
        error["fbtrace_id"] = secrets.token_urlsafe(16)
        return {"error": error}


def numbered(code: int, text: str) -> str:
    """`text` as Meta words it, with the code in front; the token errors come without one."""
    return text if code in (0, 190) else f"(#{code}) {text}"


def required(parameter: str) -> GraphError:
    """The refusal of a request that lacks a basic parameter."""
    return GraphError(100, None, message=f"(#100) The parameter {parameter} is required.")


def unknown_object(object_id: str, *, method: str) -> GraphError:
    """The refusal of an id that does not exist or that the token may not see; Graph answers both alike."""
    return GraphError(
        100,
        message=f"Unsupported {method.lower()} request. Object with ID '{object_id}' does not exist, cannot be loaded "
        "due to missing permissions, or does not support this operation. Please read the Graph API documentation at "
        "https://developers.facebook.com/docs/graph-api",
        subcode=33,
        kind="GraphMethodException",
    )


def invalid_template(subcode: int | None, title: str, text: str) -> GraphError:
    """The refusal of a template as written: the useful part is in error_subcode and error_user_msg."""
    return GraphError(100, message="Invalid parameter", subcode=subcode, user=(title, text))


def from_json(wanted: Mapping[str, Any]) -> GraphError:
    """The error that a switch asks for: {"code": 131042, "subcode"?, "status"?, "details"?, "message"?}."""
    return GraphError(
        int(wanted["code"]),
        wanted.get("details"),
        message=wanted.get("message"),
        subcode=wanted.get("subcode"),
        status=wanted.get("status"),
    )


def in_status(code: int) -> dict[str, Any]:
    """The same error as it stands in the `errors` of a failed status."""
    text = TEXTS.get(code, (400, "Unknown error"))[1]
    error: dict[str, Any] = {"code": code, "title": text, "message": text}
    error["error_data"] = {"details": DETAILS.get(code, text)}
    error["href"] = DOCUMENTATION
    return error
