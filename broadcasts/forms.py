"""The form of a draft. Its rows for variables follow the chosen template."""

from __future__ import annotations

from typing import Any

from unfold.widgets import UnfoldAdminSelect2MultipleWidget

from broadcasts.models import Broadcast
from contacts.models import Tag
from kaanha.messaging.variable_forms import VariableForm
from kaanha.organizations.fields import LocalTimeField
from kaanha.organizations.owned_admin import OwnedForm
from kaanha.whatsapp.models import PhoneNumber
from templates_app.models import MessageTemplate


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

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        template, number = cleaned.get("template"), cleaned.get("phone_number")
        if template and number and template.account_id != number.account_id:
            self.add_error("phone_number", f"{template} belongs to the account {template.account}: choose its number.")
        return cleaned

    def save(self, commit: bool = True) -> Any:
        self.instance.variables = self.variables(self.cleaned_data)
        return super().save(commit)
