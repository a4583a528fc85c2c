"""The sweep of the sequences: everything that moves by itself. Safe to run twice at once, cheap when nothing is due."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from datetime import datetime

from django.db import InterfaceError, OperationalError
from django.utils import timezone

from sequences import advancing, enrolling, exiting, moving, running, spreading, triggers, waking

logger = logging.getLogger(__name__)


def sweep(*, now: datetime, until: datetime | None = None) -> Counter[str]:
    """All that is due at `now`, or as much as fits before `until`; what was done, counted.

    Facts first: what happened to contacts and messages may end people, or make them due, before anybody goes on.
    """
    done: Counter[str] = Counter()
    _one(spreading.notice_downtime, now)
    done["people_ended"] = _one(running.finish_exits, now)
    done["people_moved"] = _all(moving.carry_on, now, until)
    done["contact_events"] = _all(triggers.handle, now, until)
    done["holders_decided"] = _all(enrolling.take_in, now, until)
    done["fates"] = _all(waking.wake, now, until)
    done["messages_withdrawn"] = _one(exiting.tie_loose_ends, now)
    done["sequences_spread"] = _all(spreading.spread, now, until)
    done["steps_released"] = _one(running.release_repaired, now)
    done["enrollments_advanced"] = _all(advancing.advance, now, until)
    return +done


def _all(act: Callable[..., int], now: datetime, until: datetime | None) -> int:
    total = 0
    while (part := _one(act, now)) and (total := total + part):
        if until is not None and timezone.now() >= until:
            break
    return total


def _one(act: Callable[..., int], now: datetime) -> int:
    """Do `act` once. Trouble with one act is told in the log and keeps none of the others waiting."""
    try:
        return act(now=now)
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        logger.exception("The sweep of the sequences can't %s", act.__name__)
        return 0
