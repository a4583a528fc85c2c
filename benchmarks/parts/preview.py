"""The preview of a broadcast: how many get it and the first ten, against these two statements by hand, and its pages.

Ours also tells for how many others which reason keeps it from them, which theirs doesn't.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial

from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from benchmarks.doors import person, program, require_answer
from benchmarks.measuring import Cost, cost, in_turns
from benchmarks.reporting import Bound, Row, bounded, compared
from benchmarks.scale import Scale
from benchmarks.store import Store, execute, opened, tagged
from broadcasts import audience
from broadcasts.models import Broadcast

MOST, PAGE = 1.2, Bound("<", 300, "ms")
CAPPED = 10  # one in so many had a message lately


def measure(scale: Scale) -> Iterator[Row]:
    """Marketing to all contacts, and the pages that show it."""
    store = opened(scale.contacts)
    execute(_CAPS, [timezone.now() + timedelta(hours=1), CAPPED])
    execute("VACUUM ANALYZE messaging_marketingcap")
    broadcast = _draft(store, scale.contacts)
    acts = (partial(_preview, broadcast, scale.contacts), partial(_by_hand, broadcast, scale.contacts))
    ours, theirs = in_turns(scale.rounds * 2, *acts)
    yield compared(f"{scale.contacts:,} contacts", ours, theirs, most=MOST, units=scale.contacts)
    api, admin = program(store.owner), person(store.owner)
    yield _page("API page", api, f"/api/broadcasts/{broadcast.public_id}/preview", scale)
    yield _page("admin page", admin, reverse("admin:broadcasts_broadcast_review", args=[broadcast.pk]), scale)


def _draft(store: Store, size: int) -> Broadcast:
    broadcast: Broadcast = Broadcast.objects.create(
        organization=store.owner, name=f"To {size:,}", template=store.template, phone_number=store.number
    )
    broadcast.tags.add(tagged(store, f"{size:,}", size))
    return broadcast


def _preview(broadcast: Broadcast, size: int) -> Cost:
    told: list[audience.Preview] = []
    took = cost(lambda: told.append(audience.preview(broadcast, now=timezone.now())))
    _require(told[0].total, size)
    return took


def _by_hand(broadcast: Broadcast, size: int) -> Cost:
    values = [broadcast.organization_id, broadcast.tags.get().pk]
    counts: list[int] = []

    def ask() -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) {_WHO}", values)
            counts.append(cursor.fetchone()[0])
            cursor.execute(f"SELECT c.* {_WHO} ORDER BY c.id LIMIT 10", values)
            cursor.fetchall()

    took = cost(ask)
    _require(counts[0], size)
    return took


def _require(found: int, size: int) -> None:
    wanted = size - size // CAPPED
    if found != wanted:
        raise SystemExit(f"{found:,} were counted instead of {wanted:,}.")


def _page(name: str, client: Client, address: str, scale: Scale) -> Row:
    require_answer(client, address)
    costs = [cost(lambda: client.get(address)) for _ in range(scale.rounds * 2)]
    return bounded(name, [one.wall * 1000 for one in costs], PAGE, costs=costs, units=1)


_CAPS = """
INSERT INTO messaging_marketingcap (contact_id, message, until)
SELECT id, 0, %s FROM (SELECT id, row_number() OVER (ORDER BY id) AS place FROM contacts_contact) AS c
WHERE place %% %s = 0
"""
_WHO = """
FROM contacts_contact c
WHERE c.organization_id = %s AND c.opted_in AND c.deleted_at IS NULL AND c.phone IS NOT NULL
  AND c.marketing_opted_out_at IS NULL AND c.country <> 'US'
  AND EXISTS (SELECT FROM contacts_contacttag t WHERE t.contact_id = c.id AND t.tag_id = %s)
  AND NOT EXISTS (SELECT FROM messaging_marketingcap m WHERE m.contact_id = c.id AND m.until > now())
"""
