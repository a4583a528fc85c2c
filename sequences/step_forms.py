"""The forms of a step: one for each kind. They give the step as the draft's JSON has it, without id and paths."""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import time
from typing import Any, ClassVar

from django import forms
from django.db.models import Q
from unfold.widgets import (
    DATETIME_CLASSES,
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from contacts.models import Tag
from kaanha.lib import public_ids
from kaanha.messaging.policy import is_marketing
from kaanha.messaging.variable_forms import VariableForm, contact_fields
from sequences import models, trees
from sequences.span_fields import SpanField
from sequences.tree_nodes import measure
from sequences.trees import Condition, Delay, Field, HasTag, Kind, Message, Node, Reached, Until
from templates_app.models import MessageTemplate

MORNING = time(9)  # where nobody has chosen
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
OPERATORS = (
    ("equals", "is"),
    ("notEquals", "is not"),
    ("contains", "contains"),
    ("startsWith", "starts with"),
    ("isSet", "is set"),
    ("isNotSet", "is not set"),
    ("greaterThan", "is a number greater than"),
    ("lessThan", "is a number less than"),
)
STATUSES = (
    ("sent", "was sent"),
    ("delivered", "was delivered"),
    ("read", "was read"),
    ("failed", "failed"),
    ("replied", "was answered"),
)


@dataclass(frozen=True)
class Draft:
    """What a step's form has to know of the sequence around it."""

    sequence: models.Sequence
    # The message steps that come before, by key: what a condition may ask about.
    earlier: Mapping[str, str] = field(default_factory=dict)


class StepForm(forms.Form):
    """A step's form. `node` is the step as it is; a new one has none."""

    kind: ClassVar[Kind]
    # The fields that belong to each choice of `mode`: those of the others are ignored, whatever they hold.
    modes: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __init__(self, data: Any = None, *, draft: Draft, node: Node | None = None) -> None:
        super().__init__(data)
        self.draft = draft
        self.organization = draft.sequence.organization
        self.fields_by_name: dict[str, Any] = self.fields
        self.fill(node)

    def fill(self, node: Any) -> None:
        """Offer the organization's choices, and show the step as it is."""

    def step(self) -> dict[str, Any]:
        """The valid form's step, without its id and its paths."""
        return {"type": self.kind.value, **self.members(self.cleaned_data)}

    def members(self, typed: Mapping[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def chosen_mode(self) -> str:
        """What is chosen in a form with a `mode`, after the fields of the other choices are forgotten."""
        chosen = str(self.cleaned_data.get("mode") or "")
        for name in (name for mode, names in self.modes.items() if mode != chosen for name in names):
            self.errors.pop(name, None)
        return chosen

    def missing(self, name: str, sentence: str) -> None:
        """Ask for a field that has to be filled here, unless its own error says so already."""
        if not self.cleaned_data.get(name) and name not in self.errors:
            self.add_error(name, sentence)


class TemplateField(forms.ModelChoiceField):
    widget = UnfoldAdminSelectWidget

    def label_from_instance(self, template: Any) -> str:
        standing = "" if template.sendable else f": {template.get_status_display().lower()}"
        return f"{template} · {template.get_category_display().lower()}{standing}"


class MessageStepForm(VariableForm, StepForm):
    """A template with its variables. Variables may be left open: publishing asks for them."""

    kind = Kind.MESSAGE

    template = TemplateField(queryset=MessageTemplate.objects.none(), empty_label="Choose a template")
    when_capped = forms.ChoiceField(
        required=False,
        label="If somebody got a marketing message less than 24 hours before",
        choices=[
            ("skip", "Skip this message and go on"),
            ("wait", "Wait until the 24 hours are over, then send it"),
        ],
        widget=UnfoldAdminRadioSelectWidget,
        help_text="The frequency cap: one marketing message in 24 hours, whatever sends it.",
    )

    def fill(self, node: Message | None) -> None:
        self.node = node or Message("", template="")
        number = self.draft.sequence.phone_number
        now = public_ids.decode(MessageTemplate.PUBLIC_KIND, self.node.template)
        own = MessageTemplate.objects.of(self.organization)
        offered = Q(status__in=MessageTemplate.SENDABLE, account=number.account_id) | Q(pk=now)
        field: Any = self.fields["template"]
        field.queryset = own.filter(offered).order_by("name", "language", "pk")
        field.help_text = f"Templates that Meta has approved for the account of {number}."
        self.initial = {"template": now, "when_capped": self.node.when_capped}
        if self.is_bound and self.add_prefix("when_capped") not in self.data:
            # Not asked until a template is chosen, so not answered yet.
            answered: Any = self.data
            self.data = answered.copy()
            self.data[self.add_prefix("when_capped")] = self.node.when_capped  # type: ignore[index]
        if template := self.chosen_template():
            mapped = self.node.variables if template.pk == now else {}
            self.add_variables(template, mapped, organization=self.organization.pk)

    @property
    def unknown(self) -> str:
        """The template that the step names and that isn't there; empty where it is."""
        chosen = self.fields_by_name["template"].queryset.filter(pk=self.initial["template"] or 0)
        return "" if chosen.exists() else self.node.template

    @property
    def nothing_to_send(self) -> bool:
        return not self.fields_by_name["template"].queryset.exists()

    def message(self) -> dict[str, Any]:
        shown = super().message()
        return {**shown, "marketing": shown["chosen"] and is_marketing(shown["chosen"].category), "form": self}

    def members(self, typed: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "template": typed["template"].public_id,
            "variables": {key: self._mapping(key, one) for key, one in self.variables(typed).items()},
            "whenCapped": typed["when_capped"] or self.node.when_capped,
        }

    def _mapping(self, key: str, typed: dict[str, str]) -> dict[str, str]:
        """The name of a document's file, which only the API gives, stays with its document."""
        former = self.node.variables.get(key, {})
        same = "filename" in former and {**typed, "filename": former["filename"]} == former
        return former if same else typed


class DelayForm(StepForm):
    """A span of time, or a time of day. The input of the other one is ignored."""

    kind = Kind.DELAY
    modes = {"span": ("span",), "until": ("time", "weekdays", "timezone")}

    mode = forms.ChoiceField(
        label="Wait",
        choices=[("span", "for some time"), ("until", "until a time of day")],
        initial="span",
        widget=UnfoldAdminRadioSelectWidget,
    )
    span = SpanField(
        required=False,
        label="For",
        help_text="Counted from the moment in which the step before it was done. A day is 24 hours.",
    )
    time = forms.TimeField(
        required=False,
        label="Until",
        input_formats=["%H:%M", "%H:%M:%S"],
        help_text="The next time that clocks show this, after the step before it was done.",
        widget=forms.TimeInput(attrs={"type": "time", "class": " ".join(DATETIME_CLASSES)}, format="%H:%M"),
    )
    weekdays = forms.MultipleChoiceField(
        required=False,
        label="On these days",
        choices=list(zip(trees.WEEKDAYS, DAYS, strict=True)),
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )
    timezone = forms.ChoiceField(required=False, label="Timezone", widget=UnfoldAdminSelectWidget)

    def fill(self, node: Delay | None) -> None:
        until = node.until if node else None
        span = node.span if node else trees.UNITS["days"]
        chosen = until or Until(time=MORNING)
        own = [("", f"The organization's: {self.organization.timezone}")]
        zones = sorted(zoneinfo.available_timezones() | ({chosen.timezone} if chosen.timezone else set()))
        self.fields_by_name["timezone"].choices = own + [(name, name) for name in zones]
        self.initial = {
            "mode": "until" if until else "span",
            "span": span,
            "time": chosen.time,
            "weekdays": [trees.WEEKDAYS[day] for day in sorted(chosen.weekdays)],
            "timezone": chosen.timezone or "",
        }

    def clean(self) -> dict[str, Any]:
        match self.chosen_mode():
            case "until":
                self.missing("time", "Give a time, such as 09:00.")
                self.missing("weekdays", "Tick at least one day.")
            case "span":
                self.missing("span", "Give a number.")
        return self.cleaned_data

    def members(self, typed: Mapping[str, Any]) -> dict[str, Any]:
        if typed["mode"] == "span":
            return {"delay": _span(typed["span"])}
        zone = {"timezone": typed["timezone"]} if typed["timezone"] else {}
        return {"until": {"time": f"{typed['time']:%H:%M}", "weekdays": typed["weekdays"], **zone}}


class ConditionForm(StepForm):
    """A question with two answers. What it asks is one of three; the input of the others is ignored."""

    kind = Kind.CONDITION
    modes = {"tag": ("tag",), "field": ("field", "op", "value"), "message": ("message_step", "reached")}

    mode = forms.ChoiceField(
        label="It asks about",
        choices=[("tag", "a tag"), ("field", "a field of the contact"), ("message", "an earlier message")],
        initial="tag",
        widget=UnfoldAdminRadioSelectWidget,
    )
    tag = forms.ModelChoiceField(
        Tag.objects.none(),
        required=False,
        label="Does the contact have this tag?",
        empty_label="Choose a tag",
        widget=UnfoldAdminSelectWidget,
    )
    field = forms.ChoiceField(required=False, label="Field", widget=UnfoldAdminSelectWidget)
    op = forms.ChoiceField(required=False, label="Comparison", choices=OPERATORS, widget=UnfoldAdminSelectWidget)
    value = forms.CharField(
        required=False,
        label="Value",
        max_length=2048,
        widget=UnfoldAdminTextInputWidget,
        help_text="Capitals and small letters are the same.",
    )
    message_step = forms.ChoiceField(required=False, label="Message", widget=UnfoldAdminSelectWidget)
    reached = forms.ChoiceField(required=False, label="Question", choices=STATUSES, widget=UnfoldAdminSelectWidget)
    wait = SpanField(
        required=False,
        label="Wait for a Yes, at most",
        help_text="The contact takes the Yes path as soon as the answer is yes, and the No path when this time is "
        "over. Leave it empty to decide at once.",
    )

    def fill(self, node: Condition | None) -> None:
        self.initial = {"mode": "tag", "reached": "read", "wait": node.wait if node else None}
        self.unknown = ""
        self._offer(contact_fields(self.organization.pk))
        if node is not None:
            self._show(node.test)

    def _offer(self, sources: Sequence[tuple[str, str]]) -> None:
        fields = self.fields_by_name
        fields["tag"].queryset = Tag.objects.of(self.organization).order_by("name")
        fields["field"].choices = [("", "Choose a field"), *sources]
        fields["message_step"].choices = [("", "Choose a message"), *self.draft.earlier.items()]

    def _show(self, test: HasTag | Field | Reached) -> None:
        match test:
            case HasTag(tag):
                known = public_ids.decode(Tag.PUBLIC_KIND, tag)
                self.initial.update(mode="tag", tag=known)
                self.unknown = "" if self.fields_by_name["tag"].queryset.filter(pk=known).exists() else tag
            case Reached(key, status):
                self.initial.update(mode="message", message_step=key, reached=status)
                self._keep("message_step", key, "a step that it can't ask about")
            case Field(name, op, value):
                self.initial.update(mode="field", field=name, op=op, value=value)
                self._keep("field", name, name)

    def _keep(self, name: str, chosen: str, words: str) -> None:
        """Offer what the step has now, too: saving something else doesn't change it."""
        field = self.fields_by_name[name]
        if chosen not in dict(field.choices):
            field.choices = [*field.choices, (chosen, words)]

    def clean(self) -> dict[str, Any]:
        match self.chosen_mode():
            case "tag":
                self.missing("tag", "Choose a tag.")
            case "message":
                self.missing("message_step", "Choose a message that comes before this step.")
            case "field":
                self.missing("field", "Choose a field.")
                self._compared()
        return self.cleaned_data

    def _compared(self) -> None:
        op, value = self.cleaned_data.get("op"), self.cleaned_data.get("value") or ""
        if op in trees.WITHOUT_VALUE:
            return
        self.missing("value", "Give the value that it is compared with.")
        if op in trees.NUMERIC and value and trees.number(value) is None:
            self.add_error("value", "Give a number, such as 30 or 2.5.")

    def members(self, typed: Mapping[str, Any]) -> dict[str, Any]:
        wait = {"waitFor": _span(typed["wait"])} if typed["wait"] else {}
        return {"if": self._test(typed), **wait}

    def _test(self, typed: Mapping[str, Any]) -> dict[str, str]:
        if typed["mode"] == "tag":
            return {"tag": typed["tag"].public_id}
        if typed["mode"] == "message":
            return {"step": typed["message_step"], "reached": typed["reached"] or "read"}
        op = typed["op"] or "equals"
        value = {} if op in trees.WITHOUT_VALUE else {"value": typed["value"]}
        return {"field": typed["field"], "is": op, **value}


FORMS: dict[Kind, type[StepForm]] = {form.kind: form for form in (MessageStepForm, DelayForm, ConditionForm)}


def _span(length: Any) -> dict[str, int]:
    unit, amount = measure(length)
    return {unit: amount}
