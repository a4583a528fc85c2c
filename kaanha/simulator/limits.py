"""Meta's rates: per number, per pair of number and person, per hour of management calls, per day of people."""

from __future__ import annotations

from collections import deque

from kaanha.simulator.errors import GraphError

PAIR_BURST = 45  # messages to one person at once; Cloud API, "Pair rate limits"
PAIR_INTERVAL = 6.0  # seconds per further message
HOUR = 3600.0
DAY = 86400.0


class Bucket:
    """A token bucket: `capacity` at once, refilled by `rate` a second."""

    __slots__ = ("at", "left")

    def __init__(self, capacity: float, now: float) -> None:
        self.left = capacity
        self.at = now

    def take(self, *, capacity: float, rate: float, now: float) -> bool:
        """Take one token; False where there is none."""
        self.left = min(capacity, self.left + (now - self.at) * rate)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Limits:
    """What has been used up. A limit that isn't switched on is passed as None and costs nothing."""

    def __init__(self) -> None:
        self._numbers: dict[str, Bucket] = {}
        self._pairs: dict[tuple[str, str], Bucket] = {}
        self._calls: deque[float] = deque()
        self._people: dict[str, float] = {}

    def spend_throughput(self, phone_number_id: str, *, rate: int | None, now: float) -> None:
        """Raise 130429 above `rate` messages a second of one number."""
        if rate is None:
            return
        bucket = self._numbers.setdefault(phone_number_id, Bucket(rate, now))
        if not bucket.take(capacity=rate, rate=rate, now=now):
            raise GraphError(130429)

    def spend_pair(self, phone_number_id: str, wa_id: str, *, now: float) -> None:
        """Raise 131056 when one person gets more than the burst, or more than one message in six seconds after it."""
        bucket = self._pairs.setdefault((phone_number_id, wa_id), Bucket(PAIR_BURST, now))
        if not bucket.take(capacity=PAIR_BURST, rate=1 / PAIR_INTERVAL, now=now):
            raise GraphError(131056)

    def spend_management(self, *, per_hour: int | None, now: float) -> None:
        """Raise 80007 above `per_hour` management calls in a rolling hour."""
        if per_hour is None:
            return
        while self._calls and self._calls[0] <= now - HOUR:
            self._calls.popleft()
        if len(self._calls) >= per_hour:
            raise GraphError(80007)
        self._calls.append(now)

    def admits_person(self, wa_id: str, *, per_day: int | None, now: float) -> bool:
        """Whether this person is among the `per_day` unique people of the last 24 hours, or may still become one."""
        if per_day is None:
            return True
        if self._people.get(wa_id, -DAY) > now - DAY:
            return True
        if len(self._people) >= per_day:
            self._people = {person: at for person, at in self._people.items() if at > now - DAY}
        if len(self._people) >= per_day:
            return False
        self._people[wa_id] = now
        return True
