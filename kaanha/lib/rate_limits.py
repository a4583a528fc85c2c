"""How often somebody may ask: a window that slides, shared by all processes through Redis.

While Redis is away each process counts for itself: nobody is kept out because of it.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cache

from django.conf import settings
from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis.exceptions import RedisError

from kaanha.lib.pacing import Outage

PATIENCE = 1.0  # seconds for an answer of Redis
PREFIX = "rate"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where somebody stands: `reset` is in how many whole seconds the window is empty again."""

    allowed: bool
    limit: int
    remaining: int
    reset: int
    window: int  # seconds

    def headers(self) -> dict[str, str]:
        """Source of the names: draft-ietf-httpapi-ratelimit-headers-07."""
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset),
            "RateLimit-Policy": f"{self.limit};w={self.window}",
        }


def hit(limit: str, who: str) -> Standing:
    """Count a request of `who`. `limit` is such as 600/minute."""
    item, outage = parse(limit), _outage()
    if not outage.lasts:
        try:
            return _hit(_shared(settings.REDIS_URL), item, who)
        except (StorageError, RedisError, OSError):
            outage.note()
    return _hit(_own(), item, who)


def _hit(limiter: SlidingWindowCounterRateLimiter, item: RateLimitItem, who: str) -> Standing:
    allowed = limiter.hit(item, who)
    stats = limiter.get_window_stats(item, who)
    reset = max(1, math.ceil(stats.reset_time - time.time()))
    return Standing(allowed, item.amount, max(0, stats.remaining), reset, item.get_expiry())


@cache
def _shared(redis_url: str) -> SlidingWindowCounterRateLimiter:
    timeouts = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE}
    return SlidingWindowCounterRateLimiter(
        RedisStorage(redis_url, wrap_exceptions=True, key_prefix=PREFIX, **timeouts)  # type: ignore[arg-type]
    )


@cache
def _own() -> SlidingWindowCounterRateLimiter:
    return SlidingWindowCounterRateLimiter(MemoryStorage())


@cache
def _outage() -> Outage:
    return Outage()
