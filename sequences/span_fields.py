"""A form field for a length of time: a number and its unit."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from unfold.widgets import DATETIME_CLASSES, UnfoldAdminSelectWidget

from sequences import trees
from sequences.tree_nodes import measure
from sequences.tree_reading import MAX_SPAN

# From the smallest, as people look for them.
CHOICES = [(unit, unit.capitalize()) for unit in reversed(trees.UNITS)]


class SpanWidget(forms.MultiWidget):
    """A number and a choice of units. Seconds are offered where the shortest delay allows them, or are chosen."""

    template_name = "kaanha/span.html"

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        number = forms.NumberInput(
            attrs={"class": " ".join(DATETIME_CLASSES), "min": 1, "step": 1, "inputmode": "numeric"}
        )
        unit = UnfoldAdminSelectWidget(attrs={"aria-label": "Unit"}, choices=CHOICES)
        super().__init__([number, unit], attrs)

    def decompress(self, value: Any) -> list[Any]:
        if not isinstance(value, timedelta):
            return [None, "days"]
        unit, amount = measure(value)
        return [amount, unit]

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        shown = value if isinstance(value, list) else self.decompress(value)
        short = trees.UNITS["minutes"] > settings.SEQUENCE_MIN_DELAY or "seconds" in shown
        self.widgets[1].choices = CHOICES if short else CHOICES[1:]  # type: ignore[attr-defined]
        return super().get_context(name, shown, attrs)

    def id_for_label(self, id_: str) -> str:
        return f"{id_}_0" if id_ else id_


class SpanField(forms.Field):
    """A length of time above 0; None where it is left empty and needn't be given."""

    widget = SpanWidget

    def clean(self, value: Any) -> timedelta | None:
        amount, unit = [str(part or "").strip() for part in value or ("", "")]
        if not amount:
            if self.required:
                raise ValidationError("Give a number.", code="required")
            return None
        if not amount.isascii() or not amount.isdecimal() or unit not in trees.UNITS:
            raise ValidationError("Give a whole number above 0, and its unit.", code="invalid")
        most = MAX_SPAN // trees.UNITS[unit]
        if not 0 < int(amount[:20]) <= most:
            raise ValidationError(f"Give a number from 1 to {most:,} {unit}.", code="out_of_range")
        return int(amount) * trees.UNITS[unit]

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.clean(data) != initial)
        except ValidationError:
            return True
