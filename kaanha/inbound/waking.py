"""Waking who applies callbacks: what Meta says is heard in a moment, and not only at beat's next second."""

from __future__ import annotations

import logging
import threading
import time

from kombu.exceptions import OperationalError

from kaanha.inbound.tasks import apply_callbacks

PAUSE = 0.2  # seconds from one poke of this process to the next: who applies looks on for as long

logger = logging.getLogger(__name__)

_came = threading.Event()
_lock = threading.Lock()
_pokes: threading.Thread | None = None


def wake() -> None:
    """Say that a callback was stored. It costs no time: the poke goes by a thread of its own, for Redis may be away."""
    global _pokes
    _came.set()
    if _pokes is None:
        with _lock:
            if _pokes is None:
                thread = threading.Thread(target=_poke_on, name="waking", daemon=True)
                thread.start()
                _pokes = thread


def _poke_on() -> None:
    while _came.wait():
        _came.clear()
        try:
            apply_callbacks.delay()
        except OperationalError:
            pass  # Redis is away: beat sees to the callbacks
        except Exception:
            logger.exception("Workers could not be told of a callback")
        time.sleep(PAUSE)
