"""Which app posts to which callback address, remembered for seconds in which Meta may post thousands of times.

A signature that doesn't fit what is remembered is judged by what stands in the database: a new secret counts at once,
and one that was taken away five seconds later.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from kaanha.whatsapp.models import MetaApp

KEPT = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Known:
    """An app as its callbacks need it."""

    app: int
    name: str
    secrets: tuple[str, ...]
    until: float


_known: dict[str, Known] = {}


def known(callback_key: str) -> Known | None:
    """The app behind the address, as it was within the last five seconds; None for nobody's address."""
    return remembered(callback_key) or look_up(callback_key)


def remembered(callback_key: str) -> Known | None:
    """The same without a look into the database; None also where nothing is remembered."""
    found = _known.get(callback_key)
    return found if found is not None and found.until > time.monotonic() else None


def look_up(callback_key: str) -> Known | None:
    """The app behind the address as it is now, remembered from now on."""
    app = MetaApp.objects.filter(callback_key=callback_key).first()
    if app is None:
        _known.pop(callback_key, None)
        return None
    found = Known(app.pk, str(app), tuple(app.secrets), time.monotonic() + KEPT)
    _known[callback_key] = found
    return found
