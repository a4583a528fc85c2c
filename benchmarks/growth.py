"""What the same costs in ever fuller ledgers: a broadcast's stages and the pages, among 10⁴ to 10⁷ messages.

python -m kaanha.servers -- python -m benchmarks.growth [--most 10000000]

Prints the figures, keeps them in benchmarks/results/growth.json and draws docs/growth.svg.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import plot
from benchmarks.databases import of_its_own

if TYPE_CHECKING:
    from django.test import Client

    from benchmarks.store import Store

CHECKOUT = Path(__file__).resolve().parent.parent
RESULTS, DRAWING = CHECKOUT / "benchmarks/results/growth.json", CHECKOUT / "docs/growth.svg"
PEOPLE = 10_000  # who get each broadcast
ROUNDS = 2
REQUESTS = 15  # for each page
MOST = 10_000_000
STAGES, PAGES = "CPU of a message, ours and PostgreSQL's, in ms", "median of a page in ms"

# {what: {series: {messages in the ledger: value}}}
Told = dict[str, dict[str, dict[int, float]]]


def measure(most: int) -> Iterator[Told]:
    """Fill the ledger tenfold again and again up to `most`; each time, what the same costs by now."""
    from benchmarks.doors import person, program
    from benchmarks.store import opened

    store = opened(PEOPLE, body="There is news for you in the shop.")
    doors = {"api": program(store.owner), "admin": person(store.owner)}
    told: Told = {STAGES: {}, PAGES: {}}
    size, full = PEOPLE, 0
    while size <= most:
        _fill(store, full, size)
        full = size
        for name, milliseconds in _stages(store).items():
            told[STAGES].setdefault(name, {})[size] = milliseconds
        for name, milliseconds in _pages(doors).items():
            told[PAGES].setdefault(name, {})[size] = milliseconds
        print(f"{size:,}", {name: values[size] for part in told.values() for name, values in part.items()})  # noqa: T201
        yield told
        size *= 10


def _fill(store: Store, full: int, size: int) -> None:
    """Old broadcasts to everybody, so that so many messages are there; the newest are the last of 90 days."""
    from benchmarks.big_installation import indexed_afterward
    from benchmarks.store import execute
    from kaanha.messaging import quarters

    values = {"owner": store.owner.pk, "number": store.number.pk, "template": store.template.pk}
    with indexed_afterward():
        execute(_OLD, {**values, "dispatches": (size - full) // PEOPLE, "people": PEOPLE})
    quarters.recount(store.owner.pk)
    execute("VACUUM ANALYZE")


def _stages(store: Store) -> dict[str, float]:
    """Milliseconds of CPU that a message of a new broadcast takes, by stage; medians of the rounds."""
    from benchmarks.measuring import cost
    from benchmarks.parts import weight

    found: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        run = weight.Run(store, PEOPLE)
        for name, act in run.stages():
            found.setdefault(name, []).append(cost(act).cpu / PEOPLE * 1000)
        run.end()
    return {name: round(statistics.median(values), 4) for name, values in found.items()}


def _pages(doors: dict[str, Client]) -> dict[str, float]:
    from django.urls import reverse

    from benchmarks.doors import require_answer

    pages = {
        "API: newest messages": ("api", "/api/messages"),
        "API: broadcasts": ("api", "/api/broadcasts"),
        "admin: home": ("admin", reverse("admin:index")),
        "admin: broadcasts": ("admin", reverse("admin:broadcasts_broadcast_changelist")),
    }
    for door, address in pages.values():
        require_answer(doors[door], address)
    return {name: round(_milliseconds(partial(doors[door].get, address)), 1) for name, (door, address) in pages.items()}


def _milliseconds(get: Callable[[], object]) -> float:
    from benchmarks.measuring import cost

    return statistics.median(cost(get).wall for _ in range(REQUESTS)) * 1000


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--most", type=int, default=MOST)
    most = asked.parse_args().most
    with of_its_own():
        for told in measure(most):
            if most == MOST:
                RESULTS.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
                DRAWING.write_text(plot.drawn(told, below="messages in the ledger"))


_OLD = """
WITH dispatched AS (
  INSERT INTO messaging_dispatch (organization_id, phone_number_id, kind, lane, when_capped, variables, hold_reason,
    hold_detail, created_at)
  SELECT %(owner)s, %(number)s, 'broadcast', 'marketing', 'skip', '{}', '', '',
    now() - interval '90 days' * (%(dispatches)s - n + 1) / (%(dispatches)s + 1)
  FROM generate_series(1, %(dispatches)s) AS n
  RETURNING id, created_at
), people AS (
  SELECT id FROM contacts_contact WHERE organization_id = %(owner)s ORDER BY id LIMIT %(people)s
)
INSERT INTO messaging_message (organization_id, dispatch_id, contact_id, template_id, status, skip_reason, error_text,
  error_in_callback, attempt, tries, held_by_meta, wamid, created_at, accepted_at, sent_at, delivered_at, read_at)
SELECT %(owner)s, d.id, p.id, %(template)s, 'read', '', '', false, 1, 0, false, 'wamid.OLD' || d.id || '.' || p.id,
  d.created_at, d.created_at, d.created_at, d.created_at + interval '1 minute', d.created_at + interval '1 hour'
FROM dispatched d CROSS JOIN people p ORDER BY d.id, p.id
"""

if __name__ == "__main__":
    main()
