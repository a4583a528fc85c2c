"""The sweep of the sequences: everything that moves by itself. Safe to run twice at once, cheap when nothing is due."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime

from django.utils import timezone

from sequences import advancing, enrolling, exiting, running, spreading, triggers, waking


def sweep(*, now: datetime, until: datetime | None = None) -> Counter[str]:
    """All that is due at `now`, or as much as fits before `until`; what was done, counted.

    Facts first: what happened to contacts and messages may end people, or make them due, before anybody goes on.
    """
    spreading.notice_downtime(now=now)
    done: Counter[str] = Counter(people_ended=running.finish_exits(now=now))
    done["contact_events"] = _all(triggers.handle, now, until)
    done["holders_decided"] = _all(enrolling.take_in, now, until)
    done["fates"] = _all(waking.wake, now, until)
    done["messages_withdrawn"] = exiting.tie_loose_ends(now=now)
    done["sequences_spread"] = spreading.spread(now=now)
    done["steps_released"] = running.release_repaired(now=now)
    done["enrollments_advanced"] = _all(advancing.advance, now, until)
    return +done


def _all(act: Callable[..., int], now: datetime, until: datetime | None) -> int:
    total = 0
    while (part := act(now=now)) and (total := total + part):
        if until is not None and timezone.now() >= until:
            break
    return total
