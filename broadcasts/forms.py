"""The form of a draft. Its rows for variables follow the chosen template."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.functional import cached_property
from unfold.widgets import UnfoldAdminRadioSelectWidget, UnfoldAdminSelect2MultipleWidget

from broadcasts import audience
from broadcasts.filling import values_of
from broadcasts.models import Broadcast
from contacts.models import Contact, ContactQuerySet, Tag
from kaanha.messaging.variable_forms import VariableForm
from kaanha.organizations.fields import LocalTimeField
from kaanha.organizations.owned_admin import OwnedForm
from kaanha.whatsapp.models import PhoneNumber
from templates_app.models import MessageTemplate

KEEP, AT_ONCE = "keep", "now"
READERS = 20  # people in whose eyes the message can be looked at
DIGITS = 19  # of a key that fits its column


class ResumeForm(forms.Form):
    """When a broadcast starts that was paused before its time."""

    start = forms.ChoiceField(required=False, label="When it starts", widget=UnfoldAdminRadioSelectWidget, initial=KEEP)

    def __init__(self, *args: Any, at: str, **kwargs: Any) -> None:
        """`at` is that time, in words; empty once it has passed: then nothing is left to choose."""
        super().__init__(*args, **kwargs)
        field: Any = self.fields["start"]
        if at:
            field.choices = [(KEEP, f"Keep its time: {at}"), (AT_ONCE, "Send it now")]
        else:
            field.choices, field.widget = [(AT_ONCE, "Send it now")], forms.HiddenInput()
            self.initial["start"] = AT_ONCE


class BroadcastForm(VariableForm, OwnedForm):
    """Everything that a draft holds. Incomplete variables are kept: the check comes before sending."""

    scheduled_at = LocalTimeField(required=False, label="Send at")

    class Meta:
        model = Broadcast
        fields = ("name", "template", "phone_number", "tags", "excluded_tags", "scheduled_at")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
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
            self.add_variables(template, self.instance.variables, organization=organization.pk)

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

    def clean_scheduled_at(self) -> datetime | None:
        at: datetime | None = self.cleaned_data["scheduled_at"]
        if at is not None and at <= timezone.now() and "scheduled_at" in self.changed_data:
            raise ValidationError(
                "This time has passed already. Choose one in the future, or leave it empty to send when you confirm.",
                code="past_time",
            )
        return at

    # --- what the page shows beside the fields, for what they hold at the moment ------------------------------------

    def audience(self) -> ContactQuerySet:
        """Who would be written to, of the tags that are chosen."""
        owner = self.instance.organization_id or (self.owner.pk if self.owner else 0)
        return audience.among(owner, tags=self._chosen("tags", owner), excluded=self._chosen("excluded_tags", owner))

    def _chosen(self, name: str, owner: int) -> list[int]:
        if not self.is_bound:
            return [tag.pk for tag in self.initial.get(name) or ()]
        data: Any = self.data
        keys = [key for key in data.getlist(self.add_prefix(name)) if key.isdecimal() and len(key) < DIGITS]
        return list(Tag.objects.of(owner).filter(pk__in=keys).values_list("pk", flat=True))

    @cached_property
    def reader(self) -> Contact | None:
        """Somebody of the audience, in whose eyes the preview is shown: the first, or another one where asked for."""
        if "tags" not in self.fields:
            return None
        people = self.audience().order_by("pk")
        found: Contact | None = people[self.turn : self.turn + 1].first() or people.first()
        return found

    @property
    def turn(self) -> int:
        """Whose turn it is to be the reader: the first, the second …"""
        asked = str(self.data.get("reader", "0")) if self.is_bound else "0"
        return int(asked) % READERS if asked.isdecimal() and len(asked) < DIGITS else 0

    def person(self) -> dict[str, str] | None:
        return values_of(self.reader) if self.reader else None

    def message(self) -> dict[str, Any]:
        return {**super().message(), "reader": self.reader, "turn": self.turn, "next_turn": (self.turn + 1) % READERS}

    def clean(self) -> dict[str, Any]:
        """Refuses to overwrite what was saved since the page was shown: `seen` is when the draft was saved before."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        seen = self.data.get("seen")
        if self.instance.pk and seen and seen != self.instance.updated_at.isoformat():
            raise ValidationError(
                "This draft was saved in another window meanwhile. Copy what you have typed, and open it again.",
                code="changed_meanwhile",
            )
        template, number = cleaned.get("template"), cleaned.get("phone_number")
        if template and number and template.account_id != number.account_id:
            self.add_error("phone_number", f"{template} belongs to the account {template.account}: choose its number.")
        return cleaned

    def save(self, commit: bool = True) -> Any:
        self.instance.variables = self.variables(self.cleaned_data)
        return super().save(commit)
