"""One pace for all processes: a token bucket in Redis that slows down when told and recovers by itself.

With Redis away each process goes on at a safe rate of its own.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

from redis.asyncio import Redis
from redis.exceptions import RedisError

BURST = 0.1  # seconds of the rate that may go at once
RECOVERY = 0.02  # of the full rate, regained per second after a slow-down
SLOWEST = 0.05  # of the full rate
SLOW_ONCE_IN = 1.0  # seconds: a burst of refusals is one reason to slow down, not a hundred
AWAY = 2.0  # seconds without asking a Redis that didn't answer
LIFETIME = 120  # seconds; an unused bucket is a full one

logger = logging.getLogger(__name__)

# Both scripts share how a bucket refills: `tokens` since `at`, at the full rate times a factor that recovers.
_REFILL = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local full, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local saved = redis.call('HMGET', KEYS[1], 'tokens', 'at', 'factor', 'slowed_at')
local slowed_at = tonumber(saved[4]) or 0
local factor = math.min(1, (tonumber(saved[3]) or 1) + (now - slowed_at) * {recovery})
local rate = full * factor
local capacity = math.max(1, rate * burst)
local since = tonumber(saved[2]) or 0
local tokens = math.min(capacity, (tonumber(saved[1]) or capacity) + math.max(0, now - since) * rate)
""".replace("{recovery}", str(RECOVERY))

_TAKE = (
    _REFILL
    + """
local want, least = tonumber(ARGV[3]), tonumber(ARGV[4])
least = math.min(least, want, math.max(1, math.floor(capacity)))
local grant, wait = 0, 0
if tokens >= least then
  grant = math.min(want, math.floor(tokens))
else
  wait = (least - tokens) / rate
end
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens - grant), 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], ARGV[5])
return {grant, tostring(wait)}
"""
)

_SLOW = (
    _REFILL
    + """
if now - slowed_at >= tonumber(ARGV[3]) then
  factor = math.max(tonumber(ARGV[4]), factor / 2)
  redis.call('HSET', KEYS[1], 'tokens', '0', 'at', string.format('%.6f', now),
             'factor', tostring(factor), 'slowed_at', string.format('%.6f', now))
  redis.call('EXPIRE', KEYS[1], ARGV[5])
end
return tostring(factor)
"""
)


@dataclass
class Outage:
    """What a process remembers of Redis being away, so that it doesn't wait for it again and again."""

    until: float = 0.0

    @property
    def lasts(self) -> bool:
        return time.monotonic() < self.until

    def note(self) -> None:
        self.until = time.monotonic() + AWAY


@dataclass
class Pace:
    """The right to do `rate` things per second, shared under `name` by everybody who uses the same Redis.

    In any one second at most `rate` + `rate` × BURST are granted (at least one is). `fallback_rate` is what this
    process alone may do while Redis is away.
    """

    redis: Redis
    name: str
    rate: float
    fallback_rate: float
    outage: Outage = field(default_factory=Outage)
    _local: _Bucket = field(init=False)

    def __post_init__(self) -> None:
        self._local = _Bucket(self.fallback_rate)
        self._take = self.redis.register_script(_TAKE)
        self._slow = self.redis.register_script(_SLOW)

    async def take(self, want: int, *, least: int = 1) -> tuple[int, float]:
        """Up to `want` permits, none if fewer than `least` are there; and the seconds to wait if there were none."""
        if self.outage.lasts:
            return self._local.take(want)
        try:
            granted, wait = await self._take(
                keys=[self._key], args=[self.rate, BURST, want, least, LIFETIME], client=self.redis
            )
        except (RedisError, OSError):
            self.outage.note()
            return self._local.take(want)
        return int(granted), float(wait)

    async def give_back(self, permits: int) -> None:
        """Return permits that weren't used. Losing them costs a moment, so Redis being away is no trouble."""
        if self.outage.lasts:
            return
        try:
            await self.redis.hincrbyfloat(self._key, "tokens", permits)
        except (RedisError, OSError):
            logger.debug("%s permits not returned to %s", permits, self.name)

    async def slow_down(self) -> None:
        """Halve the rate for everybody; it recovers by RECOVERY per second."""
        self._local.halve()
        try:
            await self._slow(
                keys=[self._key], args=[self.rate, BURST, SLOW_ONCE_IN, SLOWEST, LIFETIME], client=self.redis
            )
        except (RedisError, OSError):
            logger.warning("Redis is away: %s slowed down in this process only", self.name)

    @property
    def _key(self) -> str:
        return f"pace:{self.name}"


class _Bucket:
    """The same within one process, by its own clock."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.tokens = 1.0
        self.at = time.monotonic()

    def take(self, want: int) -> tuple[int, float]:
        now = time.monotonic()
        self.tokens = min(max(1.0, self.rate * BURST), self.tokens + (now - self.at) * self.rate)
        self.at = now
        granted = min(want, int(self.tokens))
        self.tokens -= granted
        return granted, 0.0 if granted else (1 - self.tokens) / self.rate

    def halve(self) -> None:
        self.rate = max(self.rate / 2, 1.0)
