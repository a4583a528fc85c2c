"""Forms that fill a template: their rows for variables follow the template chosen in them, and so does a preview."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from contacts.models import Contact
from templates_app import rendering
from templates_app.admin import bubble
from templates_app.models import MessageTemplate
from templates_app.rendering import MEDIA, Slot

TEXT = "="
COLUMNS = [("first_name", "First name"), ("name", "Name"), ("phone", "Phone"), ("email", "E-mail address")]
SAMPLED = 200  # contacts whose attributes are offered as sources


@dataclass(frozen=True)
class Row:
    """A variable of the template with its three inputs."""

    slot: Slot
    source: forms.BoundField | None
    value: forms.BoundField
    fallback: forms.BoundField | None


class VariableForm(forms.BaseForm):
    """Stands before a form's own base. The form has a field `template` and calls `add_variables` once it is made."""

    slots: Sequence[Slot] = ()

    def chosen_template(self) -> MessageTemplate | None:
        """The template that the form shows at the moment; None before one is chosen."""
        field: Any = self.fields.get("template")
        value = self.data.get(self.add_prefix("template")) if self.is_bound else self.initial.get("template")
        if field is None or not str(value or "").isdecimal():
            return None
        template: MessageTemplate | None = field.queryset.filter(pk=value).first()
        return template

    def add_variables(self, template: MessageTemplate, mapped: Mapping[str, Any], *, organization: int) -> None:
        """Add the inputs of every variable of `template`, filled with what is `mapped` already."""
        self.slots = rendering.slots(template.components, template.parameter_format)
        sources = _sources(organization) if self.slots else []
        for slot in self.slots:
            mapping = mapped.get(slot.key) or {}
            if slot.kind not in MEDIA:
                self._add_source(slot, mapping, sources)
            typed = mapping.get("text") or mapping.get("link") or mapping.get("id")
            self.fields[f"{slot.key}:value"] = _text(slot.label, typed, slot.example or _example(slot))

    def _add_source(self, slot: Slot, mapping: Mapping[str, str], sources: list[tuple[str, str]]) -> None:
        # A variable that is named like a field is most likely meant to be filled with it.
        namesake = slot.key.partition(".")[2]
        guess = namesake if not mapping and namesake in dict(sources) else TEXT
        self.fields[f"{slot.key}:source"] = forms.ChoiceField(
            required=False,
            initial=mapping.get("field") or guess,
            widget=UnfoldAdminSelectWidget(attrs={"aria-label": f"Source of {slot.label}"}),
            choices=_with(sources, mapping.get("field")),
        )
        self.fields[f"{slot.key}:fallback"] = _text(
            f"If {slot.label} is empty", mapping.get("fallback"), "if the contact has none"
        )

    def rows(self) -> Iterator[Row]:
        """The variables in the order of reading, for the template."""
        for slot in self.slots:
            has_source = f"{slot.key}:source" in self.fields
            yield Row(
                slot,
                self[f"{slot.key}:source"] if has_source else None,
                self[f"{slot.key}:value"],
                self[f"{slot.key}:fallback"] if has_source else None,
            )

    def variables(self, values: Mapping[str, Any]) -> dict[str, dict[str, str]]:
        """The mapping that these inputs say, as `templates_app.rendering` reads it. Empty rows are left out."""
        mapping: dict[str, dict[str, str]] = {}
        for slot in self.slots:
            source, value, fallback = (
                str(values.get(f"{slot.key}:{part}") or "").strip() for part in ("source", "value", "fallback")
            )
            if slot.kind in MEDIA:
                if value:
                    mapping[slot.key] = {"id": value} if value.isdecimal() else {"link": value}
            elif source and source != TEXT:
                mapping[slot.key] = {"field": source} | ({"fallback": fallback} if fallback else {})
            elif value:
                mapping[slot.key] = {"text": value}
        return mapping

    def shown_texts(self) -> dict[str, str]:
        """What the preview shows in place of each variable, as far as the form is filled."""
        values = self.data if self.is_bound else {name: self[name].initial for name in self.fields if ":" in name}
        mapping = self.variables(values)
        sample = {slot.key: slot.example for slot in self.slots if slot.example and slot.key in mapping}
        person = self.person()
        return {key: _shown(one, sample.get(key, ""), person) for key, one in mapping.items()}

    def person(self) -> Mapping[str, str] | None:
        """The values of somebody who would get it, for the preview; None where the form knows nobody."""
        return None

    def message(self) -> dict[str, Any]:
        """What kaanha/message_rows.html shows: the variables' inputs, and the message as they fill it."""
        template = self.chosen_template()
        shown = bubble(template, self.shown_texts()) if template else ""
        return {"chosen": template, "variable_rows": list(self.rows()), "bubble": shown}


def mapped_bubble(template: MessageTemplate, variables: Mapping[str, Any]) -> SafeString:
    """The message with its texts and fallbacks in place, and [fields] where only a contact could say more."""
    return bubble(template, {key: _shown(one) for key, one in variables.items()})


def _shown(mapping: Mapping[str, str], example: str = "", person: Mapping[str, str] | None = None) -> str:
    """What a preview shows for one mapped variable: its text, else the person's value or an example, the fallback or
    the field's name.
    """
    for member in ("text", "link", "id"):
        if mapping.get(member):
            return mapping[member]
    if person is not None:
        return person.get(mapping["field"], "").strip() or mapping.get("fallback") or f"[{mapping['field']}]"
    return example or mapping.get("fallback") or f"[{mapping['field']}]"


def _sources(organization: int) -> list[tuple[str, str]]:
    """What a variable can be filled with: a text, or a field of the contact."""
    return [(TEXT, "This text"), *contact_fields(organization)]


def contact_fields(organization: int) -> list[tuple[str, str]]:
    """The columns of a contact and the attributes that contacts have, with what people call them. One query."""
    newest = Contact.objects.of(organization).exclude(attributes={}).order_by("-id")
    found = {name for row in newest.values_list("attributes", flat=True)[:SAMPLED] for name in row}
    attributes = sorted(found - {name for name, _ in COLUMNS}, key=str.casefold)
    return [*COLUMNS, *((name, name) for name in attributes)]


def _with(sources: list[tuple[str, str]], chosen: str | None) -> list[tuple[str, str]]:
    return sources if not chosen or chosen in dict(sources) else [*sources, (chosen, chosen)]


def _text(label: str, initial: str | None, placeholder: str) -> forms.CharField:
    widget = UnfoldAdminTextInputWidget(attrs={"placeholder": placeholder[:80], "aria-label": label})
    return forms.CharField(required=False, label=label, initial=initial or "", widget=widget, max_length=1024)


def _example(slot: Slot) -> str:
    return f"https://…, or a media id: the {slot.kind}" if slot.kind in MEDIA else ""
