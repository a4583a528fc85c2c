"""Celery's beat with a schedule in the database, which does the work itself while Redis is away."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

from celery.beat import ScheduleEntry, SchedulingError
from django.db import connections
from django_celery_beat.schedulers import DatabaseScheduler
from kombu import Connection, Producer
from kombu.common import ignore_errors
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from kaanha import due
from kaanha.operations.heartbeats import Pulse
from kaanha.operations.models import Heartbeat

AWAY = 2.0  # seconds after a failure in which nothing is published: a silent Redis costs a second for each attempt
HUNG = 30.0  # seconds without a tick after which beat doesn't count as alive
AT_ONCE = 16  # entries that are done here at the same time
# A connection of our own: a tick never waits longer than a second for Redis.
IMPATIENT = {"socket_connect_timeout": 1, "socket_timeout": 1, "max_retries": 0, "connect_retries_timeout": 1}
# What publishing raises when Redis is away, silent, or full.
LOST = (OperationalError, RedisError, OSError)

logger = logging.getLogger(__name__)


class StandIn:
    """Does the work of schedule entries in threads of this process, each at most once at a time."""

    def __init__(self, act: Callable[[str, Any], None] = due.perform) -> None:
        self.act = act
        self.busy: set[str] = set()
        self.lock = threading.Lock()
        self.threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="stand-in")

    def take(self, name: str, task: str, arguments: Any) -> bool:
        """Do `task` for the entry `name`, not waiting for it; False while its last turn isn't over."""
        with self.lock:
            if name in self.busy:
                return False
            self.busy.add(name)
        self.threads.submit(self._perform, name, task, arguments)
        return True

    def stop(self) -> None:
        """Let what has begun come to its end, and begin nothing more."""
        self.threads.shutdown(cancel_futures=True)

    def _perform(self, name: str, task: str, arguments: Any) -> None:
        try:
            self.act(task, arguments)
        except Exception:
            # Whatever it was: the next turn tries again, as a worker would.
            logger.exception("%s could not be done here", task)
        finally:
            connections.close_all()
            with self.lock:
                self.busy.discard(name)


class Scheduler(DatabaseScheduler):
    """django-celery-beat's scheduler, for which a lost Redis is no reason to stand still.

    What can't be published is done here, under the same claims as in a worker, in threads: the clock doesn't wait. Two
    beats at once only do everything twice, which is harmless.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.stand_in = StandIn()
        self.away_until = 0.0
        self.ticked_at = time.monotonic()
        super().__init__(*args, **kwargs)

    @property
    def away(self) -> bool:
        """Whether Redis didn't answer the last time it was asked."""
        return self.away_until > 0

    def tick(self, *args: Any, **kwargs: Any) -> float:
        self.ticked_at = time.monotonic()
        if not self.pulse.is_alive() and not self.pulse.ended.is_set():
            self.pulse.start()
        pause: float = super().tick(*args, **kwargs)
        return pause

    def apply_async(self, entry: ScheduleEntry, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        """Publish the entry; while that isn't possible do its work in this process."""
        if time.monotonic() >= self.away_until:
            try:
                result = super().apply_async(entry, producer=producer, advance=advance, **kwargs)
            except SchedulingError as error:
                if not isinstance(error.__context__, LOST):
                    raise
                self._lose_redis(error)
            else:
                self._find_redis()
                return result
        self.stand_in.take(str(entry.name), str(entry.task), entry.args or ())
        return None

    def close(self) -> None:
        super().close()
        self.stand_in.stop()
        self.pulse.stop()

    @cached_property
    def connection(self) -> Connection:
        return self.app.connection_for_write(transport_options=IMPATIENT)

    @cached_property
    def producer(self) -> Producer:
        """Connects when it publishes, not before: a beat that starts while Redis is away ticks all the same."""
        return self.Producer(self.connection, auto_declare=False)

    @cached_property
    def pulse(self) -> Pulse:
        return Pulse(
            Heartbeat.Kind.BEAT,
            socket.gethostname(),
            lives=lambda: time.monotonic() - self.ticked_at < HUNG,
            note=lambda: "Redis is away: this process does what is due." if self.away else "",
        )

    def _lose_redis(self, error: SchedulingError) -> None:
        if not self.away:
            logger.warning("Redis is away, so what is due is done in this process. (%s)", error)
        self.away_until = time.monotonic() + AWAY
        # A connection that has failed stays failed: the next attempt gets a new one.
        self.__dict__.pop("producer", None)
        lost = self.__dict__.pop("connection", None)
        if lost is not None:
            ignore_errors(lost, lost.release)

    def _find_redis(self) -> None:
        if self.away:
            logger.warning("Redis answers again: the workers do what is due.")
        self.away_until = 0.0
