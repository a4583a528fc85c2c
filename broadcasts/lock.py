"""One broadcast of an organization at a time: the lock that says which.

The lock's value is the broadcast, not a process, so whoever carries the broadcast on after a crash continues under it.
It only saves work: the rule itself is a unique index in PostgreSQL and holds with Redis gone.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import lru_cache

from django.conf import settings
from redis import Redis
from redis.exceptions import RedisError

from broadcasts.models import Broadcast, Status
from kaanha.lib.pacing import Outage

TTL = timedelta(minutes=30)

logger = logging.getLogger(__name__)
_outage = Outage()

_FREE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


def name(organization_id: int) -> str:
    return f"lock:broadcast:org:{organization_id}"


def take(broadcast: Broadcast) -> bool:
    """Lock the organization for `broadcast` for 30 minutes, or renew it; False while another one is sending.

    A lock of a broadcast that isn't sending any more is replaced at once. With Redis away the answer is yes.
    """
    key, value = name(broadcast.organization_id), str(broadcast.pk)
    if _outage.lasts:
        return True
    try:
        if _redis().set(key, value, nx=True, ex=TTL) or _redis().get(key) == value.encode():
            _redis().expire(key, TTL)
            return True
        if _another_is_sending(broadcast):
            return False
        _redis().set(key, value, ex=TTL)
    except (RedisError, OSError):
        _outage.note()
        logger.warning("Redis is away: broadcast %s goes on under PostgreSQL's rule alone", broadcast.pk)
    return True


def free(broadcast: Broadcast) -> None:
    """Unlock the organization, if the lock is this broadcast's."""
    if _outage.lasts:
        return
    try:
        _redis().eval(_FREE, 1, name(broadcast.organization_id), str(broadcast.pk))
    except (RedisError, OSError):
        _outage.note()
        logger.warning("Redis is away: the lock of broadcast %s runs out by itself", broadcast.pk)


def _another_is_sending(broadcast: Broadcast) -> bool:
    others = Broadcast.objects.of(broadcast.organization_id).exclude(pk=broadcast.pk)
    return bool(others.filter(status=Status.SENDING).exists())


def _redis() -> Redis:
    return _client(settings.REDIS_URL)


@lru_cache(maxsize=2)
def _client(url: str) -> Redis:
    return Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1)
