"""The forms of a sequence as a whole: its settings, and the word that publishes it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.db.models import Q
from unfold.widgets import UnfoldAdminSelect2Widget, UnfoldBooleanWidget

from contacts.models import Contact, Tag
from kaanha.organizations.owned_admin import CappedPaginator, OwnedForm
from kaanha.whatsapp.models import PhoneNumber
from sequences.models import Sequence, Trigger
from sequences.span_fields import SpanField

LATE_LEAST, LATE_MOST = timedelta(minutes=1), timedelta(days=365)


class SequenceForm(OwnedForm):
    """Everything but the steps. What starts it holds from the next revision on, the rest at once."""

    late_limit = SpanField(
        required=False,
        label="Late is more than",
        help_text="How long after its planned time a step counts as late. Empty: never.",
    )

    class Meta:
        model = Sequence
        fields = (
            "name",
            "trigger",
            "trigger_tag",
            "phone_number",
            "exit_tag",
            "exit_on_reply",
            "late_limit",
            "when_late",
            "spread_per_minute",
        )
        labels = {
            "trigger": "Trigger",
            "trigger_tag": "Tag",
            "phone_number": "Sends from",
            "exit_tag": "Exit tag",
            "exit_on_reply": "A reply ends it, too",
            "when_late": "What happens then",
            "spread_per_minute": "People a minute",
        }
        help_texts = {
            "trigger_tag": "Who gets this tag from the activation on is enrolled. New tags are made under “Tags”.",
            "exit_tag": "Who gets this tag while inside leaves at once; who holds it isn't enrolled. Empty: none.",
            "exit_on_reply": "Who answers one of its messages leaves at once.",
            "spread_per_minute": "After a pause or downtime those who fell due meanwhile go on one after the other, "
            "so many a minute, and never all at once.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        organization = self.instance.organization if self.instance.organization_id else self.owner
        if organization is not None and "phone_number" in self.fields:
            self._offer_own(organization.pk)

    def _offer_own(self, organization: int) -> None:
        fields: dict[str, Any] = dict(self.fields)
        # The one chosen stays in the list: disconnected, it must not keep the other settings from being saved.
        chosen = Q(disconnected_at=None) | Q(pk=self.instance.phone_number_id)
        fields["phone_number"].queryset = PhoneNumber.objects.of(organization).filter(chosen)
        only = list(PhoneNumber.objects.of(organization).usable()[:2])
        if len(only) == 1:
            self.initial.setdefault("phone_number", only[0].pk)
        for name in ("trigger_tag", "exit_tag"):
            fields[name].queryset = Tag.objects.of(organization).order_by("name")
            fields[name].widget = UnfoldAdminSelect2Widget()
            fields[name].widget.choices = fields[name].choices

    def clean_late_limit(self) -> timedelta | None:
        limit: timedelta | None = self.cleaned_data["late_limit"]
        if limit is not None and not LATE_LEAST <= limit <= LATE_MOST:
            raise forms.ValidationError("Give a time from 1 minute to 365 days, or none.", code="out_of_range")
        return limit

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cleaned.get("trigger") != Trigger.TAG_ADDED:
            cleaned["trigger_tag"] = None
        elif not cleaned.get("trigger_tag"):
            self.add_error("trigger_tag", "Choose the tag that starts it.")
        elif cleaned["trigger_tag"] == cleaned.get("exit_tag"):
            self.add_error("exit_tag", "The tag that starts it can't also end it: choose another one.")
        return cleaned


class PublishForm(forms.Form):
    """Says what somebody looked at when they published it."""

    seen = forms.CharField(widget=forms.HiddenInput)

    def __init__(self, *args: Any, sequence: Sequence, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["seen"] = sequence.version


class ActivationForm(PublishForm):
    """Who holds the trigger's tag already can be enrolled, too."""

    enroll_existing = forms.BooleanField(required=False, widget=UnfoldBooleanWidget)

    def __init__(self, *args: Any, sequence: Sequence, **kwargs: Any) -> None:
        super().__init__(*args, sequence=sequence, **kwargs)
        tag = sequence.trigger_tag if sequence.trigger == Trigger.TAG_ADDED else None
        count = holders(sequence, tag) if tag else 0
        if not count:
            del self.fields["enroll_existing"]
            return
        told = f"{count:,}" if count < CappedPaginator.CAP else f"{CappedPaginator.CAP:,}+"
        people = "contact who holds" if count == 1 else "contacts who hold"
        self.fields["enroll_existing"].label = f"Also enroll the {told} {people} the tag {tag} now"
        self.fields[
            "enroll_existing"
        ].help_text = (
            "They begin right after the activation. Without this, only who gets the tag from now on is enrolled."
        )


def holders(sequence: Sequence, tag: Tag) -> int:
    """How many contacts hold the tag and would be taken in now; counted up to the cap of lists."""
    contacts = Contact.objects.of(sequence.organization_id).reachable().tagged_any([tag])
    if sequence.exit_tag_id is not None:
        contacts = contacts.tagged_none([sequence.exit_tag_id])
    return contacts[: CappedPaginator.CAP].count()
