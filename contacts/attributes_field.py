"""A contact's attributes in a form: a row for each, with its name and its value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

Pair = tuple[str, str]
BLANK = 2  # rows to be filled, where nothing adds more


class AttributesWidget(forms.Widget):
    """Inputs `NAME-name` and `NAME-value`, each as often as there are rows."""

    template_name = "kaanha/attributes.html"

    class Media:
        js = ("kaanha/rows.js",)

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(name, value, attrs)
        pairs = shown(value) if isinstance(value, Mapping) else value or []
        context["rows"] = [*pairs, *[("", "")] * BLANK]
        return context

    def format_value(self, value: Any) -> Any:
        return value

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[Pair]:
        return list(zip(data.getlist(f"{name}-name"), data.getlist(f"{name}-value"), strict=False))

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return f"{name}-name" not in data

    def id_for_label(self, id_: str) -> str:
        return f"{id_}_1_name" if id_ else ""


class AttributesField(forms.Field):
    """The rows as (name, value); those without both are left out."""

    widget = AttributesWidget

    def to_python(self, value: Any) -> list[Pair]:
        pairs = [(" ".join(name.split()), text.strip()) for name, text in value or []]
        found: dict[str, str] = {}
        for name, text in pairs:
            if not name and text:
                raise ValidationError(f"The value “{text[:40]}” has no name. Name it, or empty its row.")
            if name in found:
                raise ValidationError(f"There are two rows for {name}. Keep one of them.")
            if name:
                found[name] = text
        return list(found.items())

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return self.to_python(data) != shown(initial or {})
        except ValidationError:
            return True


def shown(attributes: Mapping[str, Any]) -> list[Pair]:
    """The attributes as texts, by name: what is no text as JSON has it."""
    return [(name, _text(value)) for name, value in sorted(attributes.items(), key=lambda one: one[0].casefold())]


def merged(before: Mapping[str, Any], pairs: list[Pair]) -> dict[str, Any]:
    """The attributes that these rows say: who left a number or a yes as it was keeps it as such."""
    texts = dict(shown(before))
    return {name: before[name] if texts.get(name) == text else text for name, text in pairs}


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
