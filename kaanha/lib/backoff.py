"""How long to wait before the next try."""

import random
from datetime import timedelta


def exponential(tries: int, *, base: timedelta, factor: float = 2.0, ceiling: timedelta) -> timedelta:
    """The wait after the `tries`-th try: base × factor^(tries-1), at most `ceiling`, less up to half by chance.

    The chance keeps a thousand rows that failed together from coming back together.
    """
    full = min(base * factor ** min(tries - 1, 60), ceiling)
    return full * random.uniform(0.5, 1.0)  # noqa: S311 — spreading load, not guarding a secret
