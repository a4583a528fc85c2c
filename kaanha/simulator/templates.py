"""Message templates: what one holds, what it expects when sent, and the account's collection of them."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kaanha.simulator.errors import GraphError

VARIABLE = re.compile(r"\{\{\s*([A-Za-z0-9_]+)\s*\}\}")
FIRST_ID = 600000000000001
PAGE = 25  # templates a page unless `limit` says otherwise
EVENTFUL = ("APPROVED", "PENDING", "REJECTED", "PAUSED", "DISABLED", "FLAGGED", "IN_APPEAL", "LOCKED", "ARCHIVED",
            "LIMIT_EXCEEDED", "PENDING_DELETION")  # fmt: skip
CODE_BODY = "{{1}} is your verification code."  # Meta's own words: these bodies can't be written
SENDABLE = ("APPROVED", "FLAGGED")

# Fields of a template when the request names none.
DEFAULT_FIELDS = ("name", "parameter_format", "components", "language", "status", "category", "id")


def variables(text: str) -> tuple[str, ...]:
    """The names in double braces, each once, in the order of their first appearance."""
    return tuple(dict.fromkeys(VARIABLE.findall(text)))


@dataclass(frozen=True, slots=True)
class Button:
    """One button as the sender sees it: its kind, and whether a parameter must come with each message."""

    kind: str
    text: str
    needs_parameter: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """What a message must bring along to fit a template."""

    header: str | None  # TEXT, IMAGE, VIDEO, DOCUMENT, LOCATION, PRODUCT, or None
    header_text: str
    header_variables: tuple[str, ...]
    body_text: str
    body_variables: tuple[str, ...]
    buttons: tuple[Button, ...]
    named: bool


def shape_of(components: Iterable[Mapping[str, Any]], *, parameter_format: str, category: str) -> Shape:
    """Read the shape off a template's components; an authentication body always has its one code."""
    header, header_text, body_text = None, "", ""
    buttons: tuple[Button, ...] = ()
    for component in components:
        match component["type"].upper():
            case "HEADER":
                header, header_text = component.get("format", "TEXT").upper(), component.get("text", "")
            case "BODY":
                body_text = component.get("text") or (CODE_BODY if category == "AUTHENTICATION" else "")
            case "BUTTONS":
                buttons = tuple(_button(button) for button in component["buttons"])
    return Shape(
        header,
        header_text,
        variables(header_text),
        body_text,
        variables(body_text),
        buttons,
        parameter_format == "NAMED",
    )


def _button(button: Mapping[str, Any]) -> Button:
    kind = button["type"].upper()
    varies = kind in ("COPY_CODE", "OTP") or (kind == "URL" and bool(variables(button.get("url", ""))))
    return Button(kind, button.get("text", ""), varies)


@dataclass(slots=True)
class Template:
    """One language of one template, as Meta keeps it."""

    id: int
    name: str
    language: str
    category: str
    components: list[dict[str, Any]]
    status: str = "APPROVED"
    parameter_format: str = "POSITIONAL"
    quality: str = "UNKNOWN"
    rejected_reason: str = "NONE"
    previous_category: str | None = None
    pause: str | None = None  # "pacing" can be undone by hand, "quality" ends by itself
    edits: list[float] = field(default_factory=list)
    shape: Shape = field(init=False)

    def __post_init__(self) -> None:
        self.reshape()

    def reshape(self) -> None:
        """Bring `shape` up to date with the components."""
        self.shape = shape_of(self.components, parameter_format=self.parameter_format, category=self.category)

    def as_json(self, fields: Iterable[str] | None = None) -> dict[str, Any]:
        """The template as REST answers it: the id is a string, as everywhere outside callbacks."""
        everything = {
            "name": self.name,
            "parameter_format": self.parameter_format,
            "components": self.components,
            "language": self.language,
            "status": self.status,
            "category": self.category,
            "sub_category": "CUSTOM",
            "quality_score": {"score": self.quality, "date": int(time.time())},
            "rejected_reason": self.rejected_reason,
            "id": str(self.id),
        }
        if self.previous_category:
            everything["previous_category"] = self.previous_category
        wanted = [*(fields or DEFAULT_FIELDS), "id"]
        return {name: everything[name] for name in dict.fromkeys(wanted) if name in everything}

    def rendered(self, components: Iterable[Mapping[str, Any]]) -> str:
        """The body as the person reads it, from the components of a message that was accepted."""
        sent = next((c for c in components if str(c.get("type", "")).lower() == "body"), {})
        values = [text_of(parameter) for parameter in sent.get("parameters", ())]
        names = self.shape.body_variables
        if self.shape.named:
            names = tuple(parameter.get("parameter_name", "") for parameter in sent.get("parameters", ()))
        filled = dict(zip(names, values, strict=False))
        return VARIABLE.sub(lambda found: filled.get(found[1], found[0]), self.shape.body_text)


def text_of(parameter: Mapping[str, Any]) -> str:
    """The words that a text, currency or date parameter puts into the body."""
    kind = parameter.get("type", "")
    inner = parameter.get(kind)
    return str(inner.get("fallback_value", "")) if isinstance(inner, Mapping) else str(inner or "")


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a listing: `after` is the cursor of the next part, None at the end."""

    templates: list[Template]
    before: str
    after: str | None


class Templates:
    """The account's templates, found by id or by name and language, listed in the order of their creation."""

    def __init__(self) -> None:
        self._by_id: dict[int, Template] = {}
        self._by_name: dict[tuple[str, str], Template] = {}
        self._next_id = FIRST_ID
        self.resting: set[tuple[str, str]] = set()  # deleted after approval: blocked for 30 days

    def __iter__(self) -> Iterator[Template]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, raw: Mapping[str, Any]) -> Template:
        """Take in a template written as in Meta's listing; one of the same name and language is replaced."""
        self.remove(self._by_name.get((raw["name"], raw["language"])))
        template = Template(
            id=int(raw.get("id") or self._free_id()),
            name=raw["name"],
            language=raw["language"],
            category=raw["category"],
            components=list(raw["components"]),
            status=raw.get("status", "APPROVED"),
            parameter_format=raw.get("parameter_format", "POSITIONAL").upper(),
            quality=raw.get("quality_score", {}).get("score", "UNKNOWN"),
            rejected_reason=raw.get("rejected_reason", "NONE"),
        )
        self._by_id[template.id] = self._by_name[template.name, template.language] = template
        return template

    def _free_id(self) -> int:
        while self._next_id in self._by_id:
            self._next_id += 1
        self._next_id += 1
        return self._next_id - 1

    def remove(self, template: Template | None) -> None:
        """Forget a template; None is nothing to forget."""
        if template is not None:
            del self._by_id[template.id], self._by_name[template.name, template.language]

    def by_id(self, template_id: str | int) -> Template | None:
        """The template of this id, written as string or number."""
        return self._by_id.get(int(template_id)) if str(template_id).isdigit() else None

    def find(self, name: str, language: str) -> Template | None:
        """The template of exactly this name and language: there is no falling back from en_US to en."""
        return self._by_name.get((name, language))

    def named(self, name: str) -> list[Template]:
        """Every language of a name."""
        return [template for template in self if template.name == name]

    def page(self, found: list[Template], *, after: str | None, limit: int, empty_middle: bool) -> Page:
        """One page of `found`. With `empty_middle` an empty page with a next stands before the second full one."""
        kind, last_id = _cursor_read(after)
        rest = [template for template in found if template.id > last_id]
        if empty_middle and kind == "p":
            return Page([], after or "", _cursor("e", last_id))
        if empty_middle and kind == "" and len(rest) > 1:
            limit = min(limit, len(rest) // 2)
        page = rest[:limit]
        following = _cursor("p", page[-1].id) if len(rest) > len(page) else None
        return Page(page, _cursor("p", page[0].id if page else last_id), following)


def _cursor(kind: str, template_id: int) -> str:
    return base64.urlsafe_b64encode(f"{kind}:{template_id}".encode()).decode().rstrip("=")


def _cursor_read(cursor: str | None) -> tuple[str, int]:
    if not cursor:
        return "", 0
    try:
        kind, last_id = base64.urlsafe_b64decode(f"{cursor}===").decode().split(":")
        return kind, int(last_id)
    except ValueError as error:
        raise GraphError(100, "Invalid cursors values") from error
