"""Launching a broadcast: from its audience to a row in the ledger for each recipient, against the INSERT by hand."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from django.db import connection
from django.utils import timezone

from benchmarks.measuring import Cost, cost, in_turns, peak_memory
from benchmarks.reporting import Row, compared
from benchmarks.scale import Scale
from benchmarks.store import Store, execute, opened, tagged
from broadcasts import launch
from broadcasts.models import Broadcast, Status
from contacts.models import Tag
from kaanha.messaging.models import Message

MOST = 1.2


def measure(scale: Scale) -> Iterator[Row]:
    """A tenth of the contacts, then all of them: the memory of our process must not grow from one to the other."""
    store = opened(scale.contacts)
    for size, rounds in zip(scale.sizes[1:], (scale.rounds, 2), strict=True):
        tag = tagged(store, f"{size:,}", size)
        before = peak_memory()
        acts = (partial(_launch, store, tag, size), partial(_by_hand, store, tag, size))
        ours, theirs = in_turns(rounds, *acts)
        detail: dict[str, float | str] = {"memory grew MB": peak_memory() - before}
        yield compared(f"{size:,} recipients", ours, theirs, most=MOST, units=size, detail=detail)


def _launch(store: Store, tag: Tag, size: int) -> Cost:
    """What the sweep does with a broadcast whose turn it is, its checks, locks and counts included."""
    _emptied()
    broadcast = Broadcast.objects.create(
        organization=store.owner, name="News", template=store.template, phone_number=store.number
    )
    broadcast.tags.add(tag)
    now = timezone.now()
    launch.send(broadcast, now=now)
    took = cost(lambda: launch.start_queued(now=now))
    _require(size)
    return took


def _by_hand(store: Store, tag: Tag, size: int) -> Cost:
    _emptied()
    with connection.cursor() as cursor:
        took = cost(lambda: cursor.execute(_INSERT, [store.template.pk, store.owner.pk, tag.pk]))
    _require(size)
    return took


def _require(size: int) -> None:
    found = Message.objects.count()
    if found != size:
        raise SystemExit(f"{found:,} rows were made instead of {size:,}.")


def _emptied() -> None:
    """The ledger as it was before, and PostgreSQL with nothing left to write."""
    Broadcast.objects.filter(status=Status.SENDING).update(status=Status.COMPLETED)
    execute("TRUNCATE messaging_message CASCADE")
    execute("CHECKPOINT")


_INSERT = """
INSERT INTO messaging_message (dispatch_id, template_id, status, created_at, due_at, organization_id, contact_id,
  skip_reason, error_text, error_in_callback, attempt, tries, held_by_meta)
SELECT 1, %s, 'queued', now(), now(), organization_id, id, '', '', false, 0, 0, false
FROM contacts_contact
WHERE organization_id = %s AND opted_in AND deleted_at IS NULL AND phone IS NOT NULL
  AND EXISTS (SELECT FROM contacts_contacttag WHERE contact_id = contacts_contact.id AND tag_id = %s)
ORDER BY id
ON CONFLICT (dispatch_id, contact_id) DO NOTHING
"""
