"""What Celery's workers do here besides their tasks: come back fast after Redis, say that they live, end when deaf.

And leave to themselves the objects that were loaded: see `garbage`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.app.base import Celery
from celery.signals import task_received, worker_ready, worker_shutdown
from celery.utils.nodenames import worker_direct
from celery.worker import state
from celery.worker.consumer import Consumer as CeleryConsumer
from django.conf import settings
from kombu import Connection
from kombu.exceptions import OperationalError

from kaanha.lib import garbage
from kaanha.operations.heartbeats import Pulse
from kaanha.operations.models import Heartbeat
from kaanha.operations.tasks import hear

DEAF = 75  # exit code; EX_TEMPFAIL of sysexits.h: start it again
LOOK = 1.0  # seconds between two looks
QUIET = 5.0  # seconds without a task after which a worker calls out to itself
SPARED = 5  # × DEAF_AFTER: so long a deaf worker may finish what it has in hand

logger = logging.getLogger(__name__)


class Consumer(CeleryConsumer):
    """Celery's consumer, which tries a lost Redis every one to three seconds instead of every two to thirty."""

    def ensure_connected(self, conn: Connection) -> Connection:
        sooner = partial(conn.ensure_connection, interval_start=1, interval_step=1, interval_max=3)
        conn.ensure_connection = sooner  # type: ignore[method-assign]
        connected: Connection = super().ensure_connected(conn)
        return connected


class Hearing:
    """Whether this worker still gets what is sent to it. One that has grown deaf looks alive and does nothing.

    With nothing heard for a while it calls out to itself, through a queue that only it reads, on the same connection
    as its lanes. When Redis takes the calls and none arrives for WORKER_DEAF_AFTER seconds, it is deaf. A worker whose
    hands are full takes nothing and can't know.
    """

    def __init__(self, *, call: Callable[[], bool], full: Callable[[], bool], idle: Callable[[], bool]) -> None:
        self.call = call
        self.full = full
        self.idle = idle
        self.heard_at = time.monotonic()
        self.unheard_since: float | None = None

    def heard(self) -> None:
        self.heard_at = time.monotonic()
        self.unheard_since = None

    def is_lost(self) -> bool:
        """Whether it is time to end; calls out if that is not known."""
        now = time.monotonic()
        if self.full():
            self.heard()
        if now - self.heard_at < QUIET:
            return False
        if not self.call():
            self.unheard_since = None  # Redis is away: silence means nothing
            return False
        self.unheard_since = self.unheard_since or now
        deaf_for = now - self.unheard_since
        # To end in the middle of sending would leave messages unconfirmed: what is in hand may settle first.
        return deaf_for >= settings.WORKER_DEAF_AFTER * (1 if self.idle() else SPARED)


class Guard(threading.Thread):
    """Ends the process when its worker is deaf, so that its supervisor starts another."""

    def __init__(self, worker: Any) -> None:
        super().__init__(name="hearing", daemon=True)
        self.app: Celery = worker.app
        self.queue = worker_direct(worker.hostname)
        self.hearing = Hearing(
            call=self._call,
            full=lambda: len(state.reserved_requests) >= worker.concurrency,
            idle=lambda: not state.active_requests,
        )

    def run(self) -> None:
        while not self.hearing.is_lost():
            time.sleep(LOOK)
        logger.critical("This worker hears nothing although Redis answers: it ends, to be started again.")
        logging.shutdown()
        os._exit(DEAF)

    def _call(self) -> bool:
        """Send to our own queue; False when Redis doesn't take it."""
        try:
            with self.app.connection_for_write() as connection:
                hear.apply_async(queue=self.queue, connection=connection, retry=False)  # type: ignore[call-arg]
        except (OperationalError, OSError) as error:
            logger.debug("Redis is away: %s", error)
            return False
        return True


_life: list[Any] = []


@worker_ready.connect
def _begin(sender: Any, **_: Any) -> None:
    """Also after each reconnection."""
    if _life:
        return
    worker = sender.controller
    lanes = [name for name in worker.app.amqp.queues.consume_from if name != worker_direct(worker.hostname).name]
    pulse, guard = Pulse(Heartbeat.Kind.WORKER, worker.hostname, lanes=lanes), Guard(worker)
    task_received.connect(lambda **_: guard.hearing.heard(), weak=False)
    _life.append(pulse)
    garbage.spare_what_is_loaded()
    pulse.start()
    guard.start()


@worker_shutdown.connect
def _end(**_: Any) -> None:
    while _life:
        _life.pop().stop()
