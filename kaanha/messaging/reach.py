"""Meta's messaging limit: how many different people a portfolio may write to in a rolling 24 hours.

Shared by all numbers of the portfolio. Other software may use the portfolio, too, so we stop a little below the limit.
Source: Cloud API, "Messaging limits".
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection

WINDOW = timedelta(hours=24)
SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Limit:
    """A portfolio's messaging limit: `people` per rolling 24 h."""

    portfolio: int
    people: int


@dataclass(frozen=True, slots=True)
class Room:
    """Who of those asked for fits, and when places free for the others."""

    fits: frozenset[int]
    # When the oldest places free, in order; never empty.
    places: tuple[datetime, ...]

    def frees_at(self, people: int) -> list[datetime]:
        """When each of so many people may try again: each waits for a place of its own, as far as they are known."""
        return [self.places[min(place, len(self.places) - 1)] for place in range(people)]


def reserve(limit: Limit, contacts: Collection[int], *, now: datetime) -> Room:
    """Note that these contacts are written to, as far as the limit allows, those asked first first.

    People who were written to within the window don't count again. Locks the portfolio, so that claims for its numbers
    can't both take the last places. Five statements.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, [limit.portfolio])
        cursor.execute(_KNOWN, [limit.portfolio, now - WINDOW, list(contacts)])
        known = {contact for (contact,) in cursor.fetchall()}
        cursor.execute(_USED, [limit.portfolio, now - WINDOW])
        (used,) = cursor.fetchone()
        free = max(0, int(limit.people * SHARE) - used)
        fits = known | set([contact for contact in contacts if contact not in known][:free])
        cursor.execute(_OLDEST, [limit.portfolio, now - WINDOW, len(contacts)])
        places = tuple(at + WINDOW for (at,) in cursor.fetchall()) or (now + WINDOW,)
        cursor.execute(_NOTE, [limit.portfolio, now, sorted(fits)])
    return Room(frozenset(fits), places)


_LOCK = "SELECT 1 FROM whatsapp_portfolio WHERE id = %s FOR NO KEY UPDATE"
_KNOWN = "SELECT contact_id FROM messaging_reach WHERE portfolio_id = %s AND at > %s AND contact_id = ANY(%s)"
_USED = "SELECT count(*) FROM messaging_reach WHERE portfolio_id = %s AND at > %s"
_OLDEST = "SELECT at FROM messaging_reach WHERE portfolio_id = %s AND at > %s ORDER BY at LIMIT %s"
_NOTE = """
INSERT INTO messaging_reach (portfolio_id, at, contact_id)
SELECT %s, %s, contact FROM unnest(%s::bigint[]) AS c (contact)
ON CONFLICT (portfolio_id, contact_id) DO UPDATE SET at = excluded.at
"""
