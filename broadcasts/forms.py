"""The form of a draft. Its rows for variables follow the chosen template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django import forms
from unfold.widgets import (
    UnfoldAdminSelect2MultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from broadcasts.models import Broadcast
from contacts.models import Contact, Tag
from kaanha.organizations.fields import LocalTimeField
from kaanha.organizations.owned_admin import OwnedForm
from kaanha.whatsapp.models import PhoneNumber
from templates_app import rendering
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


class BroadcastForm(OwnedForm):
    """Everything that a draft holds. Incomplete variables are kept: the check comes before sending."""

    scheduled_at = LocalTimeField(required=False, label="Send at")

    class Meta:
        model = Broadcast
        fields = ("name", "template", "phone_number", "tags", "excluded_tags", "scheduled_at")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.slots: list[Slot] = []
        organization = self.instance.organization if self.instance.organization_id else self.owner
        if organization is None or "template" not in self.fields:
            return
        self._offer_own(organization.pk)
        when: Any = self.fields["scheduled_at"]
        when.zone = organization.zone
        when.help_text = (
            f"In {organization.timezone}, the organization's timezone. Leave it empty to send when you confirm."
        )
        if template := self.chosen_template():
            self._add_variables(template, organization.pk)

    def _offer_own(self, organization: int) -> None:
        templates = MessageTemplate.objects.of(organization).approved().select_related("account")
        numbers = PhoneNumber.objects.of(organization).usable()
        fields: dict[str, Any] = dict(self.fields)
        fields["template"].queryset = templates.order_by("name", "language")
        fields["template"].help_text = "Only templates that Meta has approved can be sent."
        fields["phone_number"].queryset = numbers
        only = list(numbers[:2])
        if len(only) == 1:
            self.initial.setdefault("phone_number", only[0].pk)
        for name in ("tags", "excluded_tags"):
            fields[name].queryset = Tag.objects.of(organization).order_by("name")
            fields[name].widget = UnfoldAdminSelect2MultipleWidget()
            fields[name].widget.choices = fields[name].choices
            fields[name].required = False
        fields["tags"].help_text = "Who holds any of these receives it, once."
        fields["excluded_tags"].help_text = "Who holds any of these doesn't."

    def chosen_template(self) -> MessageTemplate | None:
        """The template that the form shows at the moment; None before one is chosen."""
        field: Any = self.fields.get("template")
        value = self.data.get(self.add_prefix("template")) if self.is_bound else self.initial.get("template")
        if field is None or not str(value or "").isdecimal():
            return None
        template: MessageTemplate | None = field.queryset.filter(pk=value).first()
        return template

    def _add_variables(self, template: MessageTemplate, organization: int) -> None:
        self.slots = rendering.slots(template.components, template.parameter_format)
        sources = _sources(organization) if self.slots else []
        for slot in self.slots:
            mapping = self.instance.variables.get(slot.key) or {}
            if slot.kind not in MEDIA:
                # A variable that is named like a field is most likely meant to be filled with it.
                namesake = slot.key.partition(".")[2]
                guess = namesake if not mapping and namesake in dict(sources) else TEXT
                chosen = mapping.get("field") or guess
                self.fields[f"{slot.key}:source"] = forms.ChoiceField(
                    required=False,
                    initial=chosen,
                    widget=UnfoldAdminSelectWidget(attrs={"aria-label": f"Source of {slot.label}"}),
                    choices=_with(sources, mapping.get("field")),
                )
                self.fields[f"{slot.key}:fallback"] = _text(
                    f"If {slot.label} is empty", mapping.get("fallback"), "if the contact has none"
                )
            typed = mapping.get("text") or mapping.get("link") or mapping.get("id")
            self.fields[f"{slot.key}:value"] = _text(slot.label, typed, slot.example or _example(slot))

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
        """The mapping that these inputs say, as a broadcast keeps it. Empty rows are left out."""
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
        return {key: shown_text(one, sample.get(key, "")) for key, one in mapping.items()}

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        template, number = cleaned.get("template"), cleaned.get("phone_number")
        if template and number and template.account_id != number.account_id:
            self.add_error("phone_number", f"{template} belongs to the account {template.account}: choose its number.")
        return cleaned

    def save(self, commit: bool = True) -> Any:
        self.instance.variables = self.variables(self.cleaned_data)
        return super().save(commit)


def _sources(organization: int) -> list[tuple[str, str]]:
    """What a variable can be filled with: a text, the columns of a contact, the attributes that contacts have."""
    newest = Contact.objects.of(organization).exclude(attributes={}).order_by("-id")
    found = {name for row in newest.values_list("attributes", flat=True)[:SAMPLED] for name in row}
    attributes = sorted(found - {name for name, _ in COLUMNS}, key=str.casefold)
    return [(TEXT, "This text"), *COLUMNS, *((name, name) for name in attributes)]


def _with(sources: list[tuple[str, str]], chosen: str | None) -> list[tuple[str, str]]:
    return sources if not chosen or chosen in dict(sources) else [*sources, (chosen, chosen)]


def _text(label: str, initial: str | None, placeholder: str) -> forms.CharField:
    widget = UnfoldAdminTextInputWidget(attrs={"placeholder": placeholder[:80], "aria-label": label})
    return forms.CharField(required=False, label=label, initial=initial or "", widget=widget, max_length=1024)


def _example(slot: Slot) -> str:
    return f"https://…, or a media id: the {slot.kind}" if slot.kind in MEDIA else ""


def shown_text(mapping: Mapping[str, str], example: str = "") -> str:
    """What a preview shows for one mapped variable: its text, else an example, the fallback or the field's name."""
    for member in ("text", "link", "id"):
        if mapping.get(member):
            return mapping[member]
    return example or mapping.get("fallback") or f"[{mapping['field']}]"
