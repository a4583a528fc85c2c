"""Acts on a selection of contacts: few at once, many in the background, portion by portion.

Whom a change concerns is written down when it is asked for: who joins a list later isn't in it, and who leaves it is.
A portion is one transaction with its counts. Whoever does it holds the change's row until the end, so that nobody else
does the same one, and what a killed worker leaves behind is whole portions.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from contacts import consent, tagging
from contacts.models import BulkChange, ConsentSource, Contact, Tag
from kaanha.lib.errors import Refusal
from kaanha.organizations import audit, closing
from kaanha.organizations.models import Organization, User

AT_ONCE = 1_000  # contacts that are changed within a request: half a second
PORTION = 5_000

STOPPED = "It was stopped by hand. Those who are counted here are changed, the others aren't."
BROKEN = (
    "It broke off by a fault of ours, which is in the log. Those who are counted here are changed, the others aren't: "
    "select them once more."
)
TAG_GONE = "The tag doesn't exist any more."

logger = logging.getLogger(__name__)
Act = BulkChange.Act


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be done to a selection, and on whose word."""

    act: str
    by: User | None
    tag: Tag | None = None
    proof: str = ""


def is_large(contacts: QuerySet[Contact]) -> bool:
    """Whether they are too many for one request."""
    return len(contacts.order_by("pk").values_list("pk", flat=True)[: AT_ONCE + 1]) > AT_ONCE


def apply(wish: Wish, organization: Organization, contacts: list[int], *, at: datetime, noted: bool = True) -> int:
    """Do it to these contacts; for how many of them it was news. With `noted`, opting out is in the audit log."""
    if wish.act == Act.OPT_OUT:
        source = ConsentSource.OPERATOR
        return len(consent.opt_out(contacts, source=source, proof=wish.proof, at=at, by=wish.by, noted=noted))
    if wish.tag is None:
        raise Refusal(TAG_GONE, code="tag_not_found")
    if wish.act == Act.ADD_TAG:
        return tagging.add(organization, contacts, [wish.tag.pk], source=ConsentSource.OPERATOR, at=at)
    return tagging.remove(organization, contacts, [wish.tag.pk], at=at)


def ask(wish: Wish, organization: Organization, contacts: QuerySet[Contact], *, at: datetime) -> BulkChange:
    """Have it done to these contacts of the organization in the background. One statement writes them down."""
    closing.require_open(organization.pk)
    own = contacts.filter(organization=organization).order_by().values_list("pk")
    chosen, parameters = own.query.sql_with_params()
    with transaction.atomic(), connection.cursor() as cursor:
        change = BulkChange.objects.create(
            organization=organization, act=wish.act, tag=wish.tag, proof=wish.proof, by=wish.by, asked_at=at
        )
        cursor.execute(_CHOOSE.format(chosen=chosen), [change.pk, PORTION, *parameters])
        change.total = sum(size for (size,) in cursor.fetchall())
        change.save(update_fields=["total"])
        audit.record("contacts.changed_in_bulk", change, contacts=change.total)
    return change


def stop(change: BulkChange, *, at: datetime) -> None:
    """Let nobody else be changed. Refusal once it has ended. Waits for the portion that is being done."""
    with transaction.atomic():
        held = BulkChange.objects.select_for_update().get(pk=change.pk)
        if held.finished_at is not None:
            raise Refusal("This change has ended already.", code="wrong_status")
        _end(held, at=at, problem=STOPPED)
        audit.record("contacts.bulk_change_stopped", held, done=held.done)


def work(*, until: datetime) -> int:
    """Do portions until nothing is left or it is `until`; how many. With nothing to do it costs one query."""
    portions = 0
    while timezone.now() < until and _carry_on():
        portions += 1
    return portions


def _carry_on() -> bool:
    """Do a portion of the change that has waited longest for one; False where none is free."""
    with transaction.atomic():
        free = BulkChange.objects.filter(finished_at=None).order_by(F("worked_at").asc(nulls_first=True), "pk")
        change = free.select_for_update(skip_locked=True).first()
        if change is None:
            return False
        try:
            with transaction.atomic():
                _do_portion(change)
        except (OperationalError, InterfaceError):
            raise  # PostgreSQL is away, or somebody was quicker: the portion waits as it was
        except Refusal as refusal:
            _end(change, at=timezone.now(), problem=str(refusal))
        except Exception:
            logger.exception("Bulk change %s broke off", change.pk)
            _end(change, at=timezone.now(), problem=BROKEN)
    return True


def _do_portion(change: BulkChange) -> None:
    closing.require_open(change.organization_id)
    now = timezone.now()
    portion = change.portions.order_by("pk").first()
    if portion is not None:
        wish = Wish(change.act, change.by, change.tag, change.proof)
        change.changed += apply(wish, change.organization, portion.contacts, at=now, noted=False)
        change.done += len(portion.contacts)
        portion.delete()
    if not change.portions.exists():
        change.finished_at = now
    change.worked_at = now
    change.save(update_fields=["changed", "done", "worked_at", "finished_at"])


def _end(change: BulkChange, *, at: datetime, problem: str) -> None:
    change.portions.all().delete()
    change.finished_at, change.problem = at, problem
    change.save(update_fields=["finished_at", "problem"])


_CHOOSE = """
INSERT INTO contacts_bulkportion (change_id, contacts)
SELECT %s, array_agg(id ORDER BY id)
FROM (SELECT id, (row_number() OVER (ORDER BY id) - 1) / %s AS portion FROM ({chosen}) AS chosen (id)) AS numbered
GROUP BY portion ORDER BY portion
RETURNING cardinality(contacts)
"""
