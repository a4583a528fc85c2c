"""The frequency cap: MARKETING at most once per contact in 24 hours, whatever sends it.

One narrow row per contact; it is free when `until <= now`, and always to the message that holds it. Callers are in a
transaction and take, keep and free caps in the order of contacts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from django.db import connection

from kaanha.messaging.models import CAP_WINDOW

# Meta itself has just refused marketing to this person: the cap stands. Source: Cloud API, "Error codes".
KEPT_CODES = frozenset({131049, 130472})


def take(messages: Mapping[int, int], *, now: datetime) -> set[int]:
    """Reserve the cap for each {contact: message}; the contacts that got it. One statement."""
    if not messages:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, [now + CAP_WINDOW, list(messages), list(messages.values()), now])
        return {contact for (contact,) in cursor.fetchall()}


def lock(contacts: Collection[int]) -> None:
    """Lock these contacts' caps in the one order, before several statements change them in theirs."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, [list(contacts)])


def free_from(contacts: Collection[int]) -> dict[int, datetime]:
    """When the cap of each of `contacts` frees."""
    with connection.cursor() as cursor:
        cursor.execute(_UNTIL, [list(contacts)])
        return dict(cursor.fetchall())


def keep(accepted: Mapping[int, tuple[int, datetime]]) -> None:
    """For each {contact: (message, accepted_at)} let the cap run 24 h from the acceptance.

    Takes it again where it was given back; a later one of another message stands.
    """
    if not accepted:
        return
    messages, times = zip(*accepted.values(), strict=True)
    with connection.cursor() as cursor:
        cursor.execute(_KEEP, [list(accepted), list(messages), [at + CAP_WINDOW for at in times]])


def give_back(messages: Mapping[int, int], *, now: datetime) -> None:
    """Free the cap of each {contact: message}, where that message holds it."""
    if messages:
        with connection.cursor() as cursor:
            cursor.execute(_GIVE_BACK, [list(messages), list(messages.values()), now])


_TAKE = """
INSERT INTO messaging_marketingcap AS cap (contact_id, message, until)
SELECT contact, message, %s FROM unnest(%s::bigint[], %s::bigint[]) AS asked (contact, message) ORDER BY contact
ON CONFLICT (contact_id) DO UPDATE SET message = excluded.message, until = excluded.until
WHERE cap.until <= %s OR cap.message = excluded.message
RETURNING contact_id
"""
_LOCK = "SELECT 1 FROM messaging_marketingcap WHERE contact_id = ANY(%s) ORDER BY contact_id FOR UPDATE"
_UNTIL = "SELECT contact_id, until FROM messaging_marketingcap WHERE contact_id = ANY(%s)"
_KEEP = """
INSERT INTO messaging_marketingcap AS cap (contact_id, message, until)
SELECT contact, message, until
FROM unnest(%s::bigint[], %s::bigint[], %s::timestamptz[]) AS taken (contact, message, until)
ORDER BY contact
ON CONFLICT (contact_id) DO UPDATE SET message = excluded.message, until = excluded.until
WHERE cap.message = excluded.message OR cap.until < excluded.until
"""
_GIVE_BACK = """
WITH held AS MATERIALIZED (
  SELECT contact_id FROM messaging_marketingcap cap
  JOIN unnest(%s::bigint[], %s::bigint[]) AS given (contact, message)
    ON cap.contact_id = contact AND cap.message = given.message
  ORDER BY contact_id FOR UPDATE OF cap
)
UPDATE messaging_marketingcap cap SET until = %s FROM held WHERE cap.contact_id = held.contact_id
"""
