"""Applying stored callbacks again, after whatever kept a part of them from being used has been repaired."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from kaanha.inbound import applying
from kaanha.inbound.models import Callback

BATCH = 20  # bodies of up to 3 MB
# Problems that kept a whole body, or a whole number's part of it, from being heard.
UNHEARD = frozenset({"body", "metadata.phone_number_id"})


@dataclass(slots=True)
class Outcome:
    """What came of a replay. `cleared` had problems and have none any more; `troubled` maps the others to theirs."""

    applied: int = 0
    cleared: list[int] = field(default_factory=list)
    troubled: dict[int, list[dict[str, str]]] = field(default_factory=dict)


def replay(callbacks: QuerySet[Callback], *, now: datetime) -> Outcome:
    """Apply these again, oldest first. What they told before changes nothing: every fact is applied once."""
    outcome = Outcome()
    for batch in _batches(callbacks):
        applying.apply_bodies([_body(row) for row in batch], now=now)
        problems = dict(Callback.objects.filter(pk__in=[row.pk for row in batch]).values_list("pk", "problems"))
        for row in batch:
            _note(outcome, row, problems.get(row.pk))
    return outcome


def _batches(callbacks: QuerySet[Callback]) -> Iterator[Sequence[Callback]]:
    last = 0
    while batch := list(callbacks.filter(pk__gt=last).order_by("pk")[:BATCH]):
        yield batch
        last = batch[-1].pk


def _body(row: Callback) -> applying.Body:
    unheard = row.applied_at is None or any(problem.get("where") in UNHEARD for problem in row.problems or [])
    return applying.Body(row.pk, row.app_id, row.received_at, bytes(row.body), again=not unheard)


def _note(outcome: Outcome, row: Callback, problems: Any) -> None:
    outcome.applied += 1
    if problems:
        outcome.troubled[row.pk] = problems
    elif row.problems:
        outcome.cleared.append(row.pk)
