"""Form fields for what people type in the admin: local times, lists of words, minutes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from unfold.widgets import (
    DATETIME_CLASSES,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminTextareaWidget,
)

from kaanha.lib import local_time
from kaanha.lib.errors import Refusal


class LocalTimeWidget(forms.MultiWidget):
    """The browser's own date picker, and a time that may carry an offset where a clock change makes it needed."""

    template_name = "kaanha/local_time.html"

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        styled = " ".join(DATETIME_CLASSES)
        day = forms.DateInput(attrs={"type": "date", "class": styled, "aria-label": "Date"}, format="%Y-%m-%d")
        time = forms.TextInput(
            attrs={"class": styled, "placeholder": "09:30", "aria-label": "Time", "autocomplete": "off"}
        )
        super().__init__([day, time], attrs)

    def decompress(self, value: Any) -> list[Any]:
        if isinstance(value, datetime):
            local = timezone.localtime(value)
            return [local.date(), f"{local:%H:%M}" + (f"{local:%z}" if _is_repeated(local) else "")]
        return [None, None]


class LocalTimeField(forms.Field):
    """A moment, typed as clocks in `zone` show it. Times that don't exist or come twice are refused with a sentence."""

    widget = LocalTimeWidget

    def __init__(self, *, zone: ZoneInfo | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.zone = zone

    def clean(self, value: Any) -> datetime | None:
        day, time = [str(part or "").strip() for part in value or ("", "")]
        if not day and not time:
            if self.required:
                raise ValidationError("Give a date and a time.", code="required")
            return None
        if not day or not time:
            raise ValidationError("Give both a date and a time.", code="incomplete")
        try:
            return local_time.parse(f"{day} {time}", self.zone or ZoneInfo(timezone.get_current_timezone_name()))
        except Refusal as refusal:
            raise ValidationError(str(refusal), code=refusal.code) from refusal

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.clean(data) != initial)
        except ValidationError:
            return True


class LinesField(forms.CharField):
    """A list of texts, one a line."""

    widget = UnfoldAdminTextareaWidget(attrs={"rows": 4})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return list(dict.fromkeys(line for part in str(value or "").splitlines() if (line := part.strip())))


class MinutesField(forms.IntegerField):
    """A span of time, in whole minutes."""

    widget = UnfoldAdminIntegerFieldWidget

    def prepare_value(self, value: Any) -> Any:
        return int(value.total_seconds() // 60) if isinstance(value, timedelta) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.prepare_value(initial), data)

    def clean(self, value: Any) -> Any:
        minutes = super().clean(value)
        return None if minutes is None else timedelta(minutes=minutes)


def _is_repeated(local: datetime) -> bool:
    return local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
