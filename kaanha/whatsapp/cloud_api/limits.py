"""Messaging limits and throughput as Meta names them. Source: Cloud API, "Messaging limits", "Throughput"."""

from __future__ import annotations

import re
from typing import Any

UNLIMITED = -1  # what Meta itself writes where the limit is a number

THROUGHPUT = {"STANDARD": 80, "HIGH": 1000}  # messages per second
LARGEST = 2**31 - 1

_TIER = re.compile(r"TIER_(\d{1,6})(K?)")


def messaging_limit(limit: Any) -> int | None:
    """People per rolling 24 h from "TIER_250", "TIER_2K", "TIER_UNLIMITED", 2000 or -1; None where nothing is said."""
    if isinstance(limit, bool):
        return None
    if isinstance(limit, int):
        return UNLIMITED if limit == UNLIMITED else limit if 0 < limit <= LARGEST else None
    if not isinstance(limit, str):
        return None
    if limit == "TIER_UNLIMITED":
        return UNLIMITED
    tier = _TIER.fullmatch(limit)
    return int(tier[1]) * (1000 if tier[2] else 1) if tier else None
