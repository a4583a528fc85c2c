"""Syncs that somebody asked for: a worker walks through Meta's list, and a page shows how far it is.

A sync is a row, not a task: it waits while no worker runs, and is taken up again when one dies. The walk holds no
transaction. What it found is written in one, together with the sync's end: both stand there, or neither.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from kaanha.lib.errors import Refusal
from kaanha.whatsapp.models import BusinessAccount
from templates_app import syncing
from templates_app.models import MessageTemplate, TemplateSync

TRIES = 3  # of the whole walk, when workers die
AT_ONCE = 4  # walks in all workers together, or slow answers of Meta would keep them from everything else
PAUSES = timedelta(minutes=1)  # between the three tries of a page, and for writing what was found
SHOWN = 100  # changes that are told one by one
BROKEN_OFF = (
    f"The sync was begun {TRIES} times and never came to its end: its worker was killed, or met an error that is in "
    "its log. Nothing has changed. Ask who runs Kaanha to see whether workers stay alive, then sync again."
)
_ANEW: dict[str, Any] = {
    "leased_until": None, "attempts": 0, "pages": 0, "templates": 0, "finished_at": None, "refusal": "",
    "created": 0, "updated": 0, "unchanged": 0, "deleted": 0, "changes": [], "problems": [],
}  # fmt: skip

logger = logging.getLogger(__name__)


class Superseded(Exception):
    """Another worker has taken the sync over, or it is gone."""


def ask(accounts: Iterable[BusinessAccount], *, now: datetime) -> int:
    """Ask for a sync of each account; how many weren't under way already."""
    return sum(_ask(account, now) for account in accounts)


def sweep() -> int:
    """Do what is asked for, one after the other; how many were done. With nothing to do it costs one query."""
    if not _open().exists():
        return 0
    _give_up(now=timezone.now())
    done = 0
    while sync := claim(now=timezone.now()):
        perform(sync)
        done += 1
    return done


def claim(*, now: datetime) -> TemplateSync | None:
    """The sync that has waited longest, leased; None where there is none, or where enough are done already."""
    with transaction.atomic(durable=True):
        if _open().filter(leased_until__gt=now).count() >= AT_ONCE:
            return None
        free = _open().exclude(leased_until__gt=now).filter(attempts__lt=TRIES).order_by("asked_at", "pk")
        sync = free.select_for_update(skip_locked=True, of=("self",)).select_related("account__organization").first()
        if sync is None:
            return None
        sync.attempts += 1
        sync.pages = sync.templates = 0
        sync.leased_until = _lease(now)
        sync.save(update_fields=["attempts", "pages", "templates", "leased_until"])
    return sync


def perform(sync: TemplateSync) -> None:
    """Walk and write. What Meta refuses ends the sync; where the process dies, its lease does."""
    began = timezone.now()
    try:
        rows = syncing.walk(sync.account, told=lambda seen: note_page(sync, seen))
        _settle(sync, rows, began)
    except Refusal as refusal:
        _end(sync, refusal=str(refusal))
    except Superseded:
        logger.info("The %s is done by another worker", sync)


def note_page(sync: TemplateSync, seen: int) -> None:
    """Note a page with `seen` templates, and hold the lease. Superseded where it isn't ours any more."""
    come = {"pages": F("pages") + 1, "templates": F("templates") + seen}
    if not _ours(sync).update(leased_until=_lease(timezone.now()), **come):
        raise Superseded


def _ask(account: BusinessAccount, now: datetime) -> int:
    _, made = TemplateSync.objects.get_or_create(account=account, defaults={"asked_at": now})
    over = TemplateSync.objects.filter(account=account).exclude(finished_at=None)
    return int(made) or over.update(asked_at=now, **_ANEW)


def _give_up(*, now: datetime) -> None:
    dead = _open().filter(attempts__gte=TRIES, leased_until__lte=now)
    dead.update(finished_at=now, leased_until=None, refusal=BROKEN_OFF)


def _settle(sync: TemplateSync, rows: Iterable[Mapping[str, Any]], began: datetime) -> None:
    with transaction.atomic():
        if _ours(sync).select_for_update().first() is None:
            raise Superseded
        before = _standing(sync)
        outcome = syncing.write(sync.account, rows, now=began)
        _end(sync, changes=_changes(before, _standing(sync)), **asdict(outcome))


def _end(sync: TemplateSync, **told: Any) -> None:
    _ours(sync).update(finished_at=timezone.now(), leased_until=None, **told)


def _standing(sync: TemplateSync) -> dict[tuple[str, str], str]:
    """The status of each template by name and language, in the order of both."""
    rows = MessageTemplate.objects.filter(account=sync.account_id).order_by("name", "language")
    return {(name, language): status for name, language, status in rows.values_list("name", "language", "status")}


def _changes(before: Mapping[tuple[str, str], str], after: Mapping[tuple[str, str], str]) -> list[str]:
    """What is new or has another status, in words: the first `SHOWN`, and how many more there are."""
    words = dict(MessageTemplate.Status.choices)
    told = [
        f"{name} ({language}): {words.get(before.get((name, language), ''), before.get((name, language), 'new'))}"
        f" → {words.get(status, status)}"
        for (name, language), status in after.items()
        if before.get((name, language)) != status
    ]
    return told if len(told) <= SHOWN else [*told[:SHOWN], f"… and {len(told) - SHOWN:,} more."]


def _lease(now: datetime) -> datetime:
    """Until when a page has come, though it was asked for three times."""
    return now + 3 * settings.WHATSAPP_TIMEOUT + PAUSES


def _open() -> QuerySet[TemplateSync]:
    return TemplateSync.objects.filter(finished_at=None)


def _ours(sync: TemplateSync) -> QuerySet[TemplateSync]:
    """The sync, as long as nobody has begun it anew since."""
    return _open().filter(pk=sync.pk, asked_at=sync.asked_at, attempts=sync.attempts)
