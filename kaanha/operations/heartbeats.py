"""Saying that we live: a row every ten seconds, by a thread that nothing else can hold up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from datetime import datetime

from django.db import DatabaseError, InterfaceError, connections
from django.utils import timezone

from kaanha.operations.models import FORGOTTEN, INTERVAL, Heartbeat

logger = logging.getLogger(__name__)


def beat(
    kind: str, name: str, *, started_at: datetime, now: datetime, note: str = "", lanes: Collection[str] = ()
) -> None:
    """Note that this process lives, and forget those that have been silent for a day."""
    said = {"started_at": started_at, "at": now, "note": note[:200], "lanes": sorted(lanes)}
    Heartbeat.objects.update_or_create(kind=kind, name=name[:200], defaults=said)
    Heartbeat.objects.filter(at__lt=now - FORGOTTEN).delete()


def goodbye(kind: str, name: str) -> None:
    """Leave on purpose: nobody need wonder where we are."""
    Heartbeat.objects.filter(kind=kind, name=name[:200]).delete()


class Pulse(threading.Thread):
    """Beats for this process until `stop`. `lives` says whether the process does what it is for, and `note` how.

    While `lives` answers False nothing is written: a process whose thread runs and whose work doesn't is no better than
    a dead one.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        *,
        lives: Callable[[], bool] = lambda: True,
        note: Callable[[], str] = str,
        lanes: Collection[str] = (),
    ) -> None:
        super().__init__(name="pulse", daemon=True)
        self.kind = kind
        self.told_as = name
        self.lives = lives
        self.note = note
        self.lanes = lanes
        self.ended = threading.Event()

    def run(self) -> None:
        started_at = timezone.now()
        while not self.ended.is_set():
            if self.lives():
                self._say(lambda: self._beat(started_at))
            self.ended.wait(INTERVAL.total_seconds())
        self._say(lambda: goodbye(self.kind, self.told_as))

    def stop(self) -> None:
        """Say goodbye and end; waits a moment for that."""
        self.ended.set()
        if self.is_alive():
            self.join(2)

    def _beat(self, started_at: datetime) -> None:
        now = timezone.now()
        beat(self.kind, self.told_as, started_at=started_at, now=now, note=self.note(), lanes=self.lanes)

    def _say(self, words: Callable[[], object]) -> None:
        try:
            words()
        except (DatabaseError, InterfaceError) as error:
            logger.warning("%s %s could not tell that it lives: %s", self.kind, self.told_as, error)
        finally:
            connections.close_all()
