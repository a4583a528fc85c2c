"""What Meta checks before it accepts a message. Every function here raises GraphError or answers what it found.

Source: Cloud API reference, "Messages" and "Error codes".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kaanha.simulator.errors import GraphError, required
from kaanha.simulator.phone_numbers import digits_of, user_id_of, wa_id_of, wa_id_of_user
from kaanha.simulator.templates import SENDABLE, VARIABLE, Shape, Template, text_of

OPAQUE_MAX = 512  # characters of biz_opaque_callback_data
TEXT_MAX = 4096  # characters of a text message
BODY_MAX = 1024  # characters of a template's body once filled
HEADER_MAX = 60  # characters of a text header once filled
PAYLOAD_MAX = 256  # characters of a quick reply's payload
CODE_MAX = 15  # characters of a one-time code
COUPON_MAX = 20  # characters of a coupon code
STRICT_SINCE = 23  # the version from which 132018 exists

KINDS = ("audio", "contacts", "document", "image", "interactive", "location", "reaction", "sticker", "template", "text",
         "video")  # fmt: skip
MEDIA = ("image", "video", "document")
_COMPONENTS = ("header", "body", "button", "carousel", "limited_time_offer", "order_status")
_BODY_PARAMETERS = ("text", "currency", "date_time")
_UNTIDY = re.compile(r"[\n\r\t]| {5,}")
_URL_SUFFIX = re.compile(r"[A-Za-z0-9\-._~%/?&=#+,;@!$'()*]+")
_BUTTON_KINDS = {"QUICK_REPLY": "quick_reply", "URL": "url", "OTP": "url", "COPY_CODE": "copy_code", "FLOW": "flow"}


@dataclass(frozen=True, slots=True)
class Addressee:
    """Who a message is for: as written, as digits, as WhatsApp knows them. `by_user_id` where no number was given."""

    written: str
    digits: str
    wa_id: str
    by_user_id: bool = False


def addressee(body: Mapping[str, Any], *, own_digits: str, rewritten: bool) -> Addressee:
    """Who `to` (or `recipient`, a business-scoped user id) names. `rewritten`: wa_ids may differ from the digits."""
    if body.get("to") is None and body.get("recipient") is not None:
        return _user(body["recipient"])
    written = body.get("to")
    if not written:
        raise required("to")
    digits = digits_of(written) if isinstance(written, str) else None
    if digits is None:
        raise GraphError(131009, "Recipient phone number not valid")
    if digits == own_digits:
        raise GraphError(131021, "Recipient phone number cannot be same as sender phone number")
    return Addressee(written, digits, wa_id_of(digits) if rewritten else digits)


def _user(written: Any) -> Addressee:
    wa_id = wa_id_of_user(written) if isinstance(written, str) else None
    if wa_id is None or user_id_of(wa_id) != written:
        raise GraphError(131009, "Recipient user id not valid")
    return Addressee(written, wa_id, wa_id, by_user_id=True)


def envelope(body: Mapping[str, Any]) -> str:
    """Check what every message has in common, and answer its type."""
    if body.get("messaging_product") != "whatsapp":
        raise required("messaging_product")
    opaque = body.get("biz_opaque_callback_data")
    if opaque is not None and not isinstance(opaque, str):
        raise GraphError(100, message="(#100) Param biz_opaque_callback_data must be a string")
    if opaque is not None and len(opaque) > OPAQUE_MAX:
        raise GraphError(
            100, message=f"(#100) Param biz_opaque_callback_data must be at most {OPAQUE_MAX} characters long."
        )
    if body.get("recipient_type", "individual") not in ("individual", "group"):
        raise GraphError(100, message="(#100) Param recipient_type must be one of {INDIVIDUAL, GROUP}")
    kind = body.get("type", "text")
    if not isinstance(kind, str) or kind.lower() not in KINDS:
        raise GraphError(
            100, message=f'(#100) Param type must be one of {{{", ".join(KINDS).upper()}}} - got "{kind}".'
        )
    if not isinstance(body.get(kind.lower()), list if kind.lower() == "contacts" else dict):
        raise GraphError(131008, f"Parameter '{kind.lower()}' is mandatory for type '{kind.lower()}'")
    return kind.lower()


def text(body: Mapping[str, Any]) -> None:
    """Check a free-form text."""
    words = body["text"].get("body")
    if not isinstance(words, str) or not words:
        raise GraphError(131008, "Parameter 'text.body' is mandatory for type 'text'")
    if len(words) > TEXT_MAX:
        raise GraphError(100, message=f"(#100) Param text['body'] must be at most {TEXT_MAX} characters long.")


def names(sent: Mapping[str, Any]) -> tuple[str, str]:
    """The name and language that a template message asks for."""
    name = sent.get("name")
    language = sent.get("language")
    code = language.get("code") if isinstance(language, dict) else None
    if not isinstance(name, str) or not name:
        raise required("template['name']")
    if not isinstance(code, str) or not code:
        raise required("template['language']['code']")
    return name, code


def state(template: Template | None, *, name: str, language: str) -> Template:
    """The template, if it exists and may be sent now."""
    if template is not None and template.status == "PAUSED":
        raise GraphError(132015)
    if template is not None and template.status == "DISABLED":
        raise GraphError(132016)
    if template is None or template.status not in SENDABLE:
        raise GraphError(132001, f"template name ({name}) does not exist in {language}")
    return template


def components(sent: Mapping[str, Any], template: Template, *, media_ids: Collection[str], version: int) -> None:
    """Check that the message brings exactly what the template expects."""
    parts = sent.get("components") or []
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise GraphError(100, message="(#100) Param template['components'] must be an array.")
    for part in parts:
        if str(part.get("type", "")).lower() not in _COMPONENTS:
            allowed = ", ".join(_COMPONENTS).upper()
            raise GraphError(
                100, message=f"(#100) Param template['components'][0]['type'] must be one of {{{allowed}}}"
            )
    shape = template.shape
    _header(shape, _parameters(parts, "header"), media_ids=media_ids, version=version)
    _body(shape, _parameters(parts, "body"), version=version)
    _buttons(shape, [part for part in parts if part["type"].lower() == "button"], version=version)
    if template.category == "AUTHENTICATION":
        _code(_parameters(parts, "body"))


def _parameters(parts: Sequence[Mapping[str, Any]], kind: str) -> list[dict[str, Any]]:
    found = [part.get("parameters") or [] for part in parts if part["type"].lower() == kind]
    if len(found) > 1:
        raise GraphError(100, f"There can be only one {kind} component")
    parameters = found[0] if found else []
    if not isinstance(parameters, list) or not all(isinstance(parameter, dict) for parameter in parameters):
        raise GraphError(100, f"{kind}: parameters must be an array of objects")
    return parameters


def _count(where: str, got: int, expected: int) -> None:
    if got != expected:
        raise GraphError(
            132000,
            f"{where}: number of localizable_params ({got}) does not match the expected number of params ({expected})",
        )


def _header(shape: Shape, parameters: list[dict[str, Any]], *, media_ids: Collection[str], version: int) -> None:
    if shape.header in (None, "TEXT"):
        wrong = next((p for p in parameters if p.get("type") not in ("text", "currency", "date_time")), None)
        if wrong is not None and shape.header_variables:
            raise _format("header", "TEXT", str(wrong.get("type", "UNKNOWN")))
        _count("header", len(parameters), len(shape.header_variables))
        _values("header", shape.header_variables, parameters, named=shape.named, version=version)
        _hydrated("header", shape.header_text, parameters, HEADER_MAX)
        return
    kind = shape.header or ""
    if not parameters or parameters[0].get("type") != kind.lower():
        raise _format("header", kind, str(parameters[0].get("type", "UNKNOWN")) if parameters else "UNKNOWN")
    _count("header", len(parameters), 1)
    if kind.lower() in MEDIA:
        _media(kind.lower(), parameters[0].get(kind.lower()), media_ids)


def _format(where: str, expected: str, received: str) -> GraphError:
    return GraphError(132012, f"{where}: Format mismatch, expected {expected.upper()}, received {received.upper()}")


def _media(kind: str, media: Any, media_ids: Collection[str]) -> None:
    link, media_id = (media.get("link"), media.get("id")) if isinstance(media, dict) else (None, None)
    if bool(link) == bool(media_id):
        raise GraphError(131008, f"header: exactly one of '{kind}.link' and '{kind}.id' is mandatory")
    if media_id and str(media_id) not in media_ids:
        raise GraphError(131009, f"header: {kind} id ({media_id}) does not belong to this phone number")
    if link and not re.match(r"https?://[^/\s]+", str(link)):
        raise GraphError(131009, f"header: {kind} link is not a valid URL")


def _body(shape: Shape, parameters: list[dict[str, Any]], *, version: int) -> None:
    wrong = next((p for p in parameters if p.get("type") not in _BODY_PARAMETERS), None)
    if wrong is not None:
        raise _format("body", "TEXT", str(wrong.get("type", "UNKNOWN")))
    _naming("body", parameters, named=shape.named)
    _count("body", len(parameters), len(shape.body_variables))
    _values("body", shape.body_variables, parameters, named=shape.named, version=version)
    _hydrated("body", shape.body_text, parameters, BODY_MAX)


def _naming(where: str, parameters: list[dict[str, Any]], *, named: bool) -> None:
    has_names = [bool(parameter.get("parameter_name")) for parameter in parameters]
    if named and not all(has_names):
        raise GraphError(100, "Parameter name is missing or empty")
    if not named and any(has_names):
        raise GraphError(100, f"{where}: parameter_name is not allowed, the template has positional parameters")


def _values(
    where: str, expected: Sequence[str], parameters: list[dict[str, Any]], *, named: bool, version: int
) -> None:
    _naming(where, parameters, named=named)
    if named:
        got = {parameter["parameter_name"] for parameter in parameters}
        missing = [name for name in expected if name not in got]
        if missing:
            raise GraphError(100, f"{where}: parameter ({missing[0]}) is missing")
    for parameter in parameters:
        _value(where, parameter, version=version)


def _value(where: str, parameter: Mapping[str, Any], *, version: int) -> None:
    kind = parameter["type"]
    if kind == "text" and not isinstance(parameter.get("text"), str):
        raise GraphError(131008, f"{where}: parameter of type text is missing text value")
    value = text_of(parameter)
    if not value:
        raise GraphError(131008, f"{where}: parameter of type {kind} is missing {kind} value")
    if _UNTIDY.search(value):
        raise _untidy("Param text cannot have new-line/tab characters or more than 4 consecutive spaces", version)


def _untidy(details: str, version: int) -> GraphError:
    return GraphError(132018 if version >= STRICT_SINCE else 100, details)


def _hydrated(where: str, text: str, parameters: list[dict[str, Any]], limit: int) -> None:
    fixed = len(VARIABLE.sub("", text))
    length = fixed + sum(len(text_of(parameter)) for parameter in parameters)
    if length > limit:
        raise GraphError(132005, f"Translated text has too many characters: {where} ({length}) exceeds {limit}")


def _buttons(shape: Shape, parts: list[dict[str, Any]], *, version: int) -> None:
    given: set[int] = set()
    for part in parts:
        index = _index(part.get("index"))
        if index >= len(shape.buttons):
            raise GraphError(132012, f"buttons: there is no button at index {index} in the created template")
        button = shape.buttons[index]
        kind, wanted = str(part.get("sub_type", "")).lower(), _BUTTON_KINDS.get(button.kind)
        if kind != wanted:
            raise GraphError(
                132012, f"buttons: Button at index {index} is of type {button.kind}, received {kind.upper()}"
            )
        _button(index, kind, part, needed=button.needs_parameter, version=version)
        given.add(index)
    for index, button in enumerate(shape.buttons):
        if button.needs_parameter and index not in given:
            raise _lacking(index, button.kind)


def _index(index: Any) -> int:
    if isinstance(index, bool) or not str(index).isdigit():
        raise required("template['components'][0]['index']")
    return int(index)


def _lacking(index: int, kind: str) -> GraphError:
    return GraphError(132000, f"buttons: Button at index {index} of type {kind.capitalize()} requires a parameter")


def _button(index: int, kind: str, part: Mapping[str, Any], *, needed: bool, version: int) -> None:
    parameters = part.get("parameters") or []
    if not isinstance(parameters, list) or not all(isinstance(parameter, dict) for parameter in parameters):
        raise GraphError(100, "buttons: parameters must be an array of objects")
    if kind in ("url", "copy_code"):
        if not parameters and needed:
            raise _lacking(index, kind)
        _count(f"buttons: Button at index {index}", len(parameters), int(needed))
    if not parameters:
        return
    match kind:
        case "url":
            _suffix(index, parameters[0], version=version)
        case "copy_code":
            _limited(index, "coupon_code", parameters[0].get("coupon_code"), COUPON_MAX)
        case "quick_reply":
            _limited(index, "payload", parameters[0].get("payload"), PAYLOAD_MAX)


def _suffix(index: int, parameter: Mapping[str, Any], *, version: int) -> None:
    suffix = parameter.get("text")
    if not isinstance(suffix, str) or not suffix:
        raise GraphError(131008, f"buttons: Button at index {index} is missing its text value")
    if not _URL_SUFFIX.fullmatch(suffix):
        raise _untidy(f"buttons: Button at index {index} has a URL parameter that is not percent-encoded", version)


def _limited(index: int, name: str, value: Any, limit: int) -> None:
    if not isinstance(value, str) or not value:
        raise GraphError(131008, f"buttons: Button at index {index} is missing its {name}")
    if len(value) > limit:
        raise GraphError(131009, f"buttons: {name} at index {index} must be at most {limit} characters long")


def _code(parameters: list[dict[str, Any]]) -> None:
    code = text_of(parameters[0]) if parameters else ""
    if len(code) > CODE_MAX:
        raise GraphError(131009, f"body: the code must be at most {CODE_MAX} characters long")
