"""Python's collector of garbage, and what it need not look at.

A full collection looks at every object that can hold others, and holds up all threads meanwhile: at the two hundred
thousand of Django and the libraries it takes 110 to 150 ms, and while rows are read and messages sent there is one
every two seconds. Nothing that was loaded for good is ever garbage.
"""

from __future__ import annotations

import gc
import itertools
from typing import Any

from django.core.signals import request_finished


def spare_what_is_loaded() -> None:
    """Never look again at what is there now. Objects that nobody refers to are still freed at once."""
    gc.collect()
    gc.freeze()


def spare_again_after(requests: int) -> None:
    """The same once so many requests were answered: by then they have loaded their templates and addresses."""
    answered = itertools.count(1)

    def count(**_: Any) -> None:
        if next(answered) == requests:
            request_finished.disconnect(count)
            spare_what_is_loaded()

    request_finished.connect(count, weak=False)
