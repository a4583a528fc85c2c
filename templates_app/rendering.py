"""A template's variables: which there are, how they are mapped, and how they are filled for one contact.

Pure: works on components as Meta gives them and on plain values. A mapping reads
`{"body.1": {"field": "first_name", "fallback": "there"}, "body.2": {"text": "30 November"}, "header": {"link": "https://…"}}`.
Source: Cloud API, "Templates", "Send template messages".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from kaanha.lib.errors import Refusal

VARIABLE = re.compile(r"\{\{\s*([A-Za-z0-9_]+)\s*\}\}")
BODY_LIMIT = 1024  # after filling; Cloud API, error 132005
LIMITS = {"code": 15, "coupon": 20, "payload": 256}  # characters; Cloud API, "Authentication templates", "Copy code"
MEDIA = ("image", "video", "document")
STATIC_BUTTONS = ("PHONE_NUMBER", "VOICE_CALL")
# Meta refuses line breaks, tabs and more than four spaces in a row within a value.
_BREAKS = re.compile(r"\s*[\t\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*| {5,}")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
# What a typed suffix may hold as it is; a contact's value is data, and encoded but for the slash.
_URL_SYNTAX, _URL_DATA = "/?&=#+@!$'()*,;%~", "/~"
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_KEY = re.compile(r"header|(?:header|body)\.[A-Za-z0-9_]+|button\.\d{1,2}")
_BARE_KEY = re.compile(r"[A-Za-z0-9_]+")
EXAMPLES = "1=contact.first_name|there, 2=30 November, header=https://example.com/a.jpg, button.0=contact.code"


class MissingVariable(Exception):
    """This contact can't get the template: `slot` stays empty, for the contact has no `field`."""

    def __init__(self, slot: str, field: str, reason: str = "") -> None:
        super().__init__(reason or f"{slot} has no value: the contact has no {field}.")
        self.slot = slot
        self.field = field


class TooLong(MissingVariable):
    """This contact can't get the template: with its values a text exceeds Meta's limit."""

    def __init__(self, slot: str, field: str, limit: int) -> None:
        super().__init__(slot, field, f"{slot} is longer than {limit} characters with this contact's values.")


@dataclass(frozen=True, slots=True)
class Slot:
    """One thing to fill.

    `kind`: text, image, video, document, url (what follows a button's address), coupon, code (of an authentication
    template), payload (what comes back when a quick reply is tapped; not required).
    """

    key: str
    kind: str
    label: str
    example: str = ""
    required: bool = True


@dataclass(frozen=True, slots=True)
class _Part:
    """A component as it is sent, still without its parameters."""

    component: dict[str, str]
    slots: list[Slot]
    text: str = ""
    named: bool = False


def slots(components: Sequence[Any], parameter_format: str) -> list[Slot]:
    """Everything that a message with this template has to fill, or may, in the order of reading."""
    return list({slot.key: slot for part in _parts(components, parameter_format) for slot in part.slots}.values())


def unsupported(components: Sequence[Any]) -> str | None:
    """Why Kaanha can't send this template, in a sentence; None if it can."""
    if not any(_kind(component) == "BODY" for component in _objects(components)):
        return "The template has no body."
    for component in _objects(components):
        kind, shape = _kind(component), str(component.get("format") or "TEXT").upper()
        if kind == "HEADER" and shape not in ("TEXT", *(media.upper() for media in MEDIA)):
            return f"Its header is of the kind {shape}, which Kaanha doesn't send yet."
        if kind not in ("HEADER", "BODY", "FOOTER", "BUTTONS"):
            return f"It has a part of the kind {kind or 'without a name'}, which Kaanha doesn't send yet."
        for button in _buttons(component) if kind == "BUTTONS" else ():
            if _kind(button) not in ("QUICK_REPLY", "URL", "COPY_CODE", "OTP", *STATIC_BUTTONS):
                return f"It has a button of the kind {_kind(button)}, which Kaanha doesn't send yet."
    return None


def problems(components: Sequence[Any], parameter_format: str, variables: Any) -> list[str]:
    """What keeps the template from being filled with this mapping, each in a sentence; empty if nothing does."""
    if sentence := unsupported(components):
        return [sentence]
    if not isinstance(variables, Mapping):
        return ["The variables must be a mapping of names to values."]
    known = {slot.key: slot for slot in slots(components, parameter_format)}
    listed = ", ".join(known) or "none"
    unknown = [f"The template has no variable {key}; it has: {listed}." for key in variables if key not in known]
    return unknown + [
        sentence for slot in known.values() if (sentence := _objection(slot, variables.get(slot.key))) is not None
    ]


def _objection(slot: Slot, mapping: Any) -> str | None:
    if mapping is None:
        choices = "give it a link or a media id" if slot.kind in MEDIA else "map it to a contact's field or a text"
        return f"{slot.label} ({slot.key}) has no value: {choices}." if slot.required else None
    given = [name for name in ("field", "text", "link", "id") if isinstance(mapping, Mapping) and mapping.get(name)]
    if len(given) != 1 or not isinstance(mapping[given[0]], str):
        return f"{slot.label} ({slot.key}) needs exactly one of: a contact's field, a text{_media_choices(slot)}."
    name, value = given[0], mapping[given[0]]
    if slot.kind in MEDIA:
        link = mapping.get("fallback") or "" if name == "field" else value
        if link and name != "id" and not _is_link(str(link)):
            return f"{slot.label} ({slot.key}) needs a link that begins with https://, not {link!r}."
    elif name in ("link", "id"):
        return f"{slot.label} ({slot.key}) takes a contact's field or a text, not a {name}."
    elif name == "text" and not _tidy(value):
        return f"The text for {slot.key} is empty."
    fixed = value if name == "text" else mapping.get("fallback") or ""
    limit = LIMITS.get(slot.kind)
    if limit and len(str(fixed)) > limit:
        return f"The text for {slot.key} is longer than {limit} characters."
    return None


def _media_choices(slot: Slot) -> str:
    return ", a link, a media id" if slot.kind in MEDIA else ""


# --- filling -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Source:
    """Where one parameter's value comes from; `fixed` is the whole parameter where no contact can change it."""

    slot: Slot
    parameter_name: str
    field: str
    otherwise: str
    member: str = "link"
    file_name: str = ""
    fixed: dict[str, Any] | None = None

    def text(self, values: Mapping[str, str]) -> str:
        """The value for a contact. Raises MissingVariable."""
        if not self.field:
            return self.otherwise
        value = _tidy(values.get(self.field) or "")
        if self.slot.kind in MEDIA and not _is_link(value):
            value = ""
        if not value:
            value = self.otherwise
        elif self.slot.kind == "url":
            value = quote(value, safe=_URL_DATA)
        if not value:
            raise MissingVariable(self.slot.key, self.field)
        limit = LIMITS.get(self.slot.kind)
        if limit and len(value) > limit:
            raise TooLong(self.slot.key, self.field, limit)
        return value

    def parameter(self, text: str) -> dict[str, Any]:
        """The value as Meta takes it."""
        kind = self.slot.kind
        if kind in MEDIA:
            return {"type": kind, kind: {self.member: text} | ({"filename": self.file_name} if self.file_name else {})}
        if kind == "payload":
            return {"type": "payload", "payload": text}
        if kind == "coupon":
            return {"type": "coupon_code", "coupon_code": text}
        if self.parameter_name:
            return {"type": "text", "parameter_name": self.parameter_name, "text": text}
        return {"type": "text", "text": text}


@dataclass(frozen=True, slots=True)
class Need:
    """What each contact has to bring: a value in `field`, for want of it `otherwise`; a link where `link` says so.

    `limit` is the most characters that it may have, if there is one, and `uses` how often it stands in the body.
    """

    field: str
    otherwise: str
    link: bool
    limit: int | None
    uses: int


@dataclass(slots=True)
class Filler:
    """A template with its mapping, ready to be filled for one contact after another."""

    _parts: list[tuple[dict[str, str], list[_Source]]]
    _body_length: int  # what the body has beside its variables
    _uses: dict[str, int]  # how often each of them stands in the body

    def fill(self, values: Mapping[str, str]) -> list[dict[str, Any]]:
        """The `components` of the message to a contact with these values. Raises MissingVariable, TooLong.

        What doesn't depend on the contact is shared between the answers: don't change it.
        """
        length, filled = self._body_length, []
        for component, sources in self._parts:
            parameters = []
            for source in sources:
                text = source.text(values)
                if component["type"] == "body":
                    length += len(text) * self._uses.get(source.slot.key, 1)
                parameters.append(source.fixed or source.parameter(text))
            filled.append({**component, "parameters": parameters})
        if length > BODY_LIMIT:
            raise TooLong("body", "", BODY_LIMIT)
        return filled

    def texts(self, values: Mapping[str, str]) -> dict[str, str]:
        """The same as `preview` wants it: each variable's text by its key. Raises MissingVariable."""
        return {source.slot.key: source.text(values) for _, sources in self._parts for source in sources}

    def needs(self) -> list[Need]:
        """What the message takes from each contact, in the order of reading."""
        return [
            Need(source.field, source.otherwise, source.slot.kind in MEDIA, LIMITS.get(source.slot.kind), uses)
            for source, uses in self._uses_of()
            if source.field
        ]

    @property
    def room(self) -> int:
        """How many characters the body leaves to what contacts bring."""
        typed = sum(len(source.otherwise) * uses for source, uses in self._uses_of() if not source.field)
        return BODY_LIMIT - self._body_length - typed

    def _uses_of(self) -> Iterator[tuple[_Source, int]]:
        """Each source with how often it stands in the body."""
        for component, sources in self._parts:
            for source in sources:
                yield source, self._uses.get(source.slot.key, 1) if component["type"] == "body" else 0


def prepare(components: Sequence[Any], parameter_format: str, variables: Mapping[str, Any]) -> Filler:
    """Make ready what is the same for every contact. Refusal with every problem of the mapping."""
    if found := problems(components, parameter_format, variables):
        raise Refusal(" ".join(found), code="variables_unmapped")
    parts = _parts(components, parameter_format)
    body = next(part for part in parts if part.component["type"] == "body")
    names = VARIABLE.findall(body.text)
    return Filler(
        [(part.component, sources) for part in parts if (sources := _sources(part, variables))],
        len(VARIABLE.sub("", body.text)),
        {f"body.{name}": names.count(name) for name in names},
    )


def _sources(part: _Part, variables: Mapping[str, Any]) -> list[_Source]:
    return [_source(slot, variables[slot.key], named=part.named) for slot in part.slots if variables.get(slot.key)]


def _source(slot: Slot, mapping: Mapping[str, Any], *, named: bool) -> _Source:
    member = next(name for name in ("field", "text", "link", "id") if mapping.get(name))
    value = str(mapping[member] if member != "field" else mapping.get("fallback") or "")
    value = _typed_suffix(_tidy(value)) if slot.kind == "url" else _tidy(value)
    source = _Source(
        slot,
        parameter_name=slot.key.partition(".")[2] if named else "",
        field=mapping["field"] if member == "field" else "",
        otherwise=value,
        member="id" if member == "id" else "link",
        file_name=str(mapping.get("filename") or "") if slot.kind == "document" else "",
    )
    return source if source.field else replace(source, fixed=source.parameter(value))


def _tidy(text: str) -> str:
    """`text` as Meta takes a value: trimmed, on one line, without long runs of spaces."""
    text = _BREAKS.sub(" ", text).strip()
    return text if text.isascii() and "\0" not in text else _UNSTORABLE.sub("", text)


def _typed_suffix(text: str) -> str:
    """What somebody typed to follow a button's address, with its own ? & = and %20 left alone."""
    return quote(_STRAY_PERCENT.sub("%25", text), safe=_URL_SYNTAX)


def _is_link(text: str) -> bool:
    return text.startswith(("https://", "http://")) and len(text) > len("https://") and " " not in text


# --- reading components ------------------------------------------------------------------------------------------


def _parts(components: Sequence[Any], parameter_format: str) -> list[_Part]:
    named, one_code = str(parameter_format).upper() == "NAMED", _is_authentication(components)
    found: list[_Part] = []
    for component in _objects(components):
        match _kind(component):
            case "HEADER":
                found.append(_header(component, named=named))
            case "BODY":
                found.append(_code_body(component) if one_code else _text_part("body", component, named=named))
            case "BUTTONS":
                buttons = enumerate(_buttons(component))
                found += [_button(index, button, one_code=one_code) for index, button in buttons]
    return found


def _header(component: Mapping[str, Any], *, named: bool) -> _Part:
    kind = str(component.get("format") or "TEXT").lower()
    if kind not in MEDIA:
        return _text_part("header", component, named=named)
    example = _first(_mapping(component.get("example")).get("header_handle"))
    return _Part({"type": "header"}, [Slot("header", kind, f"The {kind} of the header", example)])


def _text_part(place: str, component: Mapping[str, Any], *, named: bool) -> _Part:
    text = _text(component)
    names = list(dict.fromkeys(VARIABLE.findall(text)))
    # Names other than numbers are sent by name whatever the format says: older answers leave it out.
    named = named or any(not name.isdigit() for name in names)
    if not named:
        names.sort(key=int)
    examples = _examples(place, _mapping(component.get("example")), names)
    found = [
        Slot(f"{place}.{name}", "text", f"{{{{{name}}}}} in the {place}", examples.get(name, "")) for name in names
    ]
    return _Part({"type": place}, found, text, named)


def _examples(place: str, example: Mapping[str, Any], names: list[str]) -> dict[str, str]:
    by_name = example.get(f"{place}_text_named_params")
    if isinstance(by_name, list):
        rows = [row for row in by_name if isinstance(row, Mapping)]
        return {str(row.get("param_name")): str(row.get("example", "")) for row in rows}
    in_order = example.get(f"{place}_text")
    if isinstance(in_order, list) and in_order and isinstance(in_order[0], list):
        in_order = in_order[0]  # a body's examples are a list of lists
    return dict(zip(names, map(str, in_order), strict=False)) if isinstance(in_order, list) else {}


def _code_body(component: Mapping[str, Any]) -> _Part:
    return _Part({"type": "body"}, [_CODE], _text(component) or "{{1}}")


_CODE = Slot("body.1", "code", "The code")


def _button(index: int, button: Mapping[str, Any], *, one_code: bool) -> _Part:
    kind, label = _kind(button), str(button.get("text") or f"button {index + 1}")
    key, example = f"button.{index}", _first(button.get("example"))
    component = {"type": "button", "sub_type": "url", "index": str(index)}
    if kind in ("OTP", "URL") and one_code:
        return _Part(component, [_CODE])  # the code goes twice: into the body and into the button
    if kind == "URL" and VARIABLE.search(str(button.get("url") or "")):
        return _Part(component, [Slot(key, "url", f"What follows the address of “{label}”", example)])
    if kind == "COPY_CODE":
        component["sub_type"] = "copy_code"
        return _Part(component, [Slot(key, "coupon", f"The code of “{label}”", example)])
    if kind == "QUICK_REPLY":
        component["sub_type"] = "quick_reply"
        return _Part(component, [Slot(key, "payload", f"What “{label}” sends back", required=False)])
    return _Part(component, [])


def _is_authentication(components: Sequence[Any]) -> bool:
    """Whether the one variable is a code. Meta lists the OTP button of such a template as a URL of its own."""
    for component in _objects(components):
        if "add_security_recommendation" in component or "code_expiration_minutes" in component:
            return True
        if any(_kind(button) == "OTP" or "/otp/code/" in str(button.get("url")) for button in _buttons(component)):
            return True
    return False


def _objects(rows: Any) -> Iterator[Mapping[str, Any]]:
    return (row for row in rows if isinstance(row, Mapping)) if isinstance(rows, Sequence) else iter(())


def _buttons(component: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(_objects(component.get("buttons")))


def _kind(component: Mapping[str, Any]) -> str:
    return str(component.get("type") or "").upper()


def _text(component: Mapping[str, Any]) -> str:
    text = component.get("text")
    return text if isinstance(text, str) else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _first(value: Any) -> str:
    """An example, which stands alone or first in a list."""
    if isinstance(value, list):
        value = value[0] if value else ""
    return value if isinstance(value, str) else ""


# --- for people --------------------------------------------------------------------------------------------------


def preview(components: Sequence[Any], values: Mapping[str, str]) -> dict[str, Any]:
    """The message as the person reads it: header, body, footer as text and buttons as {"kind", "text", "url"?}.

    `values` are texts by key, as `Filler.texts` gives them; a variable without one stays as {{it}} is.
    """
    shown: dict[str, Any] = {"header": "", "body": "", "footer": "", "buttons": []}
    for component in _objects(components):
        kind = _kind(component).lower()
        if kind == "buttons":
            shown["buttons"] += [
                _shown_button(index, button, values) for index, button in enumerate(_buttons(component))
            ]
        elif kind in shown:
            media = str(component.get("format") or "TEXT").lower()
            link = values.get("header", "")
            shown[kind] = (
                f"[{media}] {link}".rstrip()
                if kind == "header" and media != "text"
                else _filled(kind, _text(component), values)
            )
    return shown


def _filled(place: str, text: str, values: Mapping[str, str]) -> str:
    return VARIABLE.sub(lambda found: values.get(f"{place}.{found[1]}", found[0]), text)


def _shown_button(index: int, button: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, str]:
    shown = {"kind": _kind(button), "text": _text(button)}
    if isinstance(button.get("url"), str):
        shown["url"] = VARIABLE.sub(lambda found: values.get(f"button.{index}", found[0]), button["url"])
    return shown


def parse_variables(pairs: Iterable[str]) -> dict[str, dict[str, str]]:
    """The mapping of `KEY=VALUE` texts, such as `1=contact.first_name|there` or `header=https://…/a.jpg`.

    A bare key means the body; a value that begins with `contact.` is a field, with what follows `|` as its fallback;
    every other value is taken literally. Refusal with examples for anything else.
    """
    mapping: dict[str, dict[str, str]] = {}
    for pair in pairs:
        key, equals, value = (part.strip() for part in pair.partition("="))
        if _BARE_KEY.fullmatch(key) and key != "header":
            key = f"body.{key}"
        if not equals or not value or not _KEY.fullmatch(key):
            raise Refusal(f"{pair!r} is no variable. Write KEY=VALUE, as in: {EXAMPLES}", code="variable_invalid")
        if key in mapping:
            raise Refusal(f"The variable {key} is given twice.", code="variable_invalid")
        mapping[key] = _parsed_value(pair, key, value)
    return mapping


def _parsed_value(pair: str, key: str, value: str) -> dict[str, str]:
    if value.startswith("contact."):
        name, _, fallback = value.removeprefix("contact.").partition("|")
        if not name.strip():
            raise Refusal(f"{pair!r} names no field of the contact. Examples: {EXAMPLES}", code="variable_invalid")
        return {"field": name.strip()} | ({"fallback": fallback.strip()} if fallback.strip() else {})
    if key == "header":
        return {"id": value} if value.isdigit() else {"link": value}
    return {"text": value}
