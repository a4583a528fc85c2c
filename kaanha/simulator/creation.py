"""What Meta checks when a template is created or edited. Every function raises GraphError or returns nothing.

Source: Cloud API reference, "Template components" and the error codes of template management.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from kaanha.simulator.errors import GraphError, invalid_template, required
from kaanha.simulator.templates import VARIABLE, variables

CATEGORIES = ("MARKETING", "UTILITY", "AUTHENTICATION")
HEADER_MAX = FOOTER_MAX = 60
BODY_MAX = 1024
LABEL_MAX = 25
URL_MAX = 2000
PHONE_MAX = 20
BUTTONS_MAX = 10
KIND_MAX = {"URL": 2, "PHONE_NUMBER": 1, "COPY_CODE": 1, "VOICE_CALL": 1, "FLOW": 1, "OTP": 1, "QUICK_REPLY": 10}
HEADERS = ("TEXT", "IMAGE", "VIDEO", "DOCUMENT", "LOCATION", "PRODUCT")
_NAME = re.compile(r"[a-z0-9_]{1,512}")
_LANGUAGE = re.compile(r"[a-z]{2,3}(_[A-Z]{2})?")
_NAMED_VARIABLE = re.compile(r"[a-z][a-z0-9_]*")
_MARKUP = re.compile(r"[*_~`\n\r]")
_UNTIDY = re.compile(r"\t| {5,}|\n{3,}")


def check_new(body: Mapping[str, Any]) -> None:
    """Check a whole template as POSTed to the account."""
    name, language = body.get("name"), body.get("language")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise GraphError(100, message="(#100) Param name must match [a-z0-9_]{1,512}")
    if not isinstance(language, str) or not _LANGUAGE.fullmatch(language):
        raise GraphError(100, message="(#100) Param language must be a supported language code such as en_US")
    check_category(body.get("category"))
    check_components(body.get("components"), category=str(body["category"]), named=is_named(body))


def is_named(body: Mapping[str, Any]) -> bool:
    """Whether the template uses named variables."""
    parameter_format = str(body.get("parameter_format", "POSITIONAL")).upper()
    if parameter_format not in ("NAMED", "POSITIONAL"):
        raise GraphError(100, message="(#100) Param parameter_format must be one of {NAMED, POSITIONAL}")
    return parameter_format == "NAMED"


def check_category(category: Any) -> None:
    if category not in CATEGORIES:
        raise GraphError(100, message=f"(#100) Param category must be one of {{{', '.join(CATEGORIES)}}}")


def check_components(components: Any, *, category: str, named: bool) -> None:
    """Check the parts of a template: each on its own and all together."""
    if not isinstance(components, list) or not all(_typed(component) for component in components):
        raise required("components")
    by_kind = {each["type"].upper(): each for each in components}
    if len(by_kind) < len(components):
        raise invalid_template(2388042, "Component is repeated", "A template has each component at most once.")
    if "BODY" not in by_kind:
        raise invalid_template(2388042, "Body is missing", "A template needs a body.")
    if category == "AUTHENTICATION":
        _authentication(by_kind)
        return
    _header(by_kind.get("HEADER"), named=named)
    _body(by_kind["BODY"], named=named)
    _footer(by_kind.get("FOOTER"))
    _buttons(by_kind.get("BUTTONS"))


def _typed(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("type"), str)


def _example(component: Mapping[str, Any], name: str) -> list[Any]:
    """The list of examples under this name, empty where there is none."""
    example = component.get("example")
    given = example.get(name) if isinstance(example, dict) else None
    return given if isinstance(given, list) else []


def _too_long(what: str, limit: int) -> GraphError:
    return invalid_template(2388040, "Character limit exceeded", f"The {what} can have at most {limit} characters.")


def _words(component: Mapping[str, Any], what: str, limit: int) -> str:
    text = component.get("text")
    if not isinstance(text, str) or not text.strip():
        raise invalid_template(2388042, f"{what.capitalize()} is empty", f"The {what} needs a text.")
    if len(text) > limit:
        raise _too_long(what, limit)
    return text


def _header(header: Mapping[str, Any] | None, *, named: bool) -> None:
    if header is None:
        return
    kind = str(header.get("format", "")).upper()
    if kind not in HEADERS:
        raise GraphError(100, message=f"(#100) Param components['format'] must be one of {{{', '.join(HEADERS)}}}")
    if kind == "TEXT":
        _header_text(header, named=named)
    elif kind in ("IMAGE", "VIDEO", "DOCUMENT"):
        handles = _example(header, "header_handle")
        if not handles or not str(handles[0]).startswith("4::"):
            raise invalid_template(
                2388273, "Sample media is missing", "Upload a sample and put its handle into example.header_handle."
            )


def _header_text(header: Mapping[str, Any], *, named: bool) -> None:
    text = _words(header, "header", HEADER_MAX)
    if _MARKUP.search(VARIABLE.sub("", text)) or any(unicodedata.category(each) == "So" for each in text):
        raise invalid_template(
            2388047, "Header format is incorrect", "A header has no new lines, formatting characters or emoji."
        )
    if len(VARIABLE.findall(text)) > 1:
        raise invalid_template(2388047, "Header format is incorrect", "A header can have one variable.")
    _numbering(text, named=named, subcode=2388047, what="header")
    given = _example(header, "header_text_named_params" if named else "header_text")
    _examples("header", len(variables(text)), len(given))


def _body(body: Mapping[str, Any], *, named: bool) -> None:
    text = _words(body, "body", BODY_MAX)
    if _UNTIDY.search(text):
        raise invalid_template(
            2388072,
            "Body format is incorrect",
            "A body has no tabs, no more than four spaces or two line breaks in a row.",
        )
    _numbering(text, named=named, subcode=2388072, what="body")
    found = list(VARIABLE.finditer(text))
    if found and (found[0].start() == 0 or found[-1].end() == len(text.rstrip())):
        raise invalid_template(
            2388299, "Variables can't be at the start or end", "The body can't begin or end with a variable."
        )
    if found and len(VARIABLE.sub("", text).split()) < 2 * len(found) + 1:
        raise invalid_template(
            2388293, "Too many variables", "This template has too many variables for its length. Add more words."
        )
    _examples("body", len(variables(text)), _body_examples(body, named=named))


def _body_examples(body: Mapping[str, Any], *, named: bool) -> int:
    if named:
        return len(_example(body, "body_text_named_params"))
    rows = _example(body, "body_text")
    return len(rows[0]) if rows and isinstance(rows[0], list) else 0


def _numbering(text: str, *, named: bool, subcode: int, what: str) -> None:
    found = variables(text)
    if named:
        wrong = next((each for each in found if not _NAMED_VARIABLE.fullmatch(each)), None)
        if wrong is not None:
            raise GraphError(
                100, message=f"(#100) {what}: {{{{{wrong}}}}} is no name of lower case letters, digits and _"
            )
    elif list(found) != [str(number + 1) for number in range(len(found))]:
        raise invalid_template(
            subcode,
            f"{what.capitalize()} format is incorrect",
            "Variables are numbered {{1}}, {{2}} and so on, without a gap.",
        )


def _examples(what: str, variables_found: int, given: int) -> None:
    if variables_found != given:
        raise GraphError(
            100, message=f"(#100) {what}: {variables_found} variables need {variables_found} examples, {given} given"
        )


def _footer(footer: Mapping[str, Any] | None) -> None:
    if footer is None:
        return
    text = _words(footer, "footer", FOOTER_MAX)
    if VARIABLE.search(text):
        raise invalid_template(2388073, "Footer format is incorrect", "A footer has no variables.")


def _buttons(component: Mapping[str, Any] | None) -> None:
    if component is None:
        return
    buttons = component.get("buttons")
    if not isinstance(buttons, list) or not 1 <= len(buttons) <= BUTTONS_MAX or not all(map(_typed, buttons)):
        raise GraphError(100, message=f"(#100) A template has 1 to {BUTTONS_MAX} buttons")
    kinds = [button["type"].upper() for button in buttons]
    for kind, number in Counter(kinds).items():
        if number > KIND_MAX.get(kind, 0):
            raise GraphError(
                100, message=f"(#100) A template has at most {KIND_MAX.get(kind, 0)} buttons of type {kind}"
            )
    _order(kinds)
    for button, kind in zip(buttons, kinds, strict=True):
        _button(button, kind)


def _order(kinds: Sequence[str]) -> None:
    runs = [is_reply for is_reply, _ in groupby(kinds, key=lambda kind: kind == "QUICK_REPLY")]
    if len(runs) > 2:
        raise GraphError(
            100, message="(#100) invalid combination: quick replies stand together, other buttons stand together"
        )


def _button(button: Mapping[str, Any], kind: str) -> None:
    if kind != "COPY_CODE" and (not button.get("text") or len(str(button["text"])) > LABEL_MAX):
        raise _too_long("button label", LABEL_MAX)
    if kind == "PHONE_NUMBER" and not 1 <= len(str(button.get("phone_number", ""))) <= PHONE_MAX:
        raise _too_long("phone number", PHONE_MAX)
    if kind == "URL":
        _url(button)


def _url(button: Mapping[str, Any]) -> None:
    url = str(button.get("url", ""))
    if not re.match(r"https?://[^/{]+", url) or len(url) > URL_MAX:
        raise GraphError(100, message=f"(#100) A button's url is a web address of at most {URL_MAX} characters")
    if re.match(r"https?://(www\.)?(wa\.me|api\.whatsapp\.com)(/|$)", url):
        raise GraphError(100, message="(#100) A button can't link to WhatsApp itself")
    found = list(VARIABLE.finditer(url))
    if len(found) > 1 or (found and found[0].end() != len(url)):
        raise GraphError(100, message="(#100) A button's url has one variable at its very end")
    if found and not button.get("example"):
        raise GraphError(100, message="(#100) A button's url with a variable needs an example")


def _authentication(by_kind: Mapping[str, Mapping[str, Any]]) -> None:
    if by_kind["BODY"].get("text"):
        raise invalid_template(2388042, "Body can't be changed", "The body of an authentication template has no text.")
    minutes = by_kind.get("FOOTER", {}).get("code_expiration_minutes", 1)
    if not isinstance(minutes, int) or not 1 <= minutes <= 90:
        raise GraphError(100, message="(#100) Param code_expiration_minutes must be between 1 and 90")
    buttons = by_kind.get("BUTTONS", {}).get("buttons")
    if not isinstance(buttons, list) or [_typed(each) and each["type"].upper() for each in buttons] != ["OTP"]:
        raise invalid_template(
            2388042, "Button is missing", "An authentication template has exactly one button, of type OTP."
        )
    _one_time_password(buttons[0])


def _one_time_password(button: Mapping[str, Any]) -> None:
    kind = str(button.get("otp_type", "")).upper()
    if kind not in ("COPY_CODE", "ONE_TAP", "ZERO_TAP"):
        raise GraphError(100, message="(#100) Param otp_type must be one of {COPY_CODE, ONE_TAP, ZERO_TAP}")
    if kind == "COPY_CODE":
        return
    apps = button.get("supported_apps")
    if not isinstance(apps, list) or not 1 <= len(apps) <= 5 or not all(map(_signed, apps)):
        raise GraphError(
            100, message="(#100) supported_apps needs 1 to 5 apps, each with a signature_hash of 11 characters"
        )
    if kind == "ZERO_TAP" and button.get("zero_tap_terms_accepted") is not True:
        raise GraphError(100, message="(#100) Param zero_tap_terms_accepted must be true")


def _signed(app: Any) -> bool:
    return isinstance(app, dict) and len(str(app.get("signature_hash", ""))) == 11
