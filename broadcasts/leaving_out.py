"""Who holds a tag of a broadcast and doesn't get it, and why: said in SQL for a whole audience at once.

The same law as a claim's, which judges one contact after another: `messaging.policy.objection` and the variables in
`templates_app.rendering`. A test launches what is counted here and compares.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Case, Count, FilteredRelation, Q, Value, When
from django.db.models.functions import Coalesce, Length, NullIf
from django.db.models.lookups import GreaterThan, LessThanOrEqual, Regex

from broadcasts.models import Broadcast
from broadcasts.portions import EVERYBODY, Portion
from contacts import values
from contacts.models import ContactQuerySet
from kaanha.lib.errors import Refusal
from kaanha.messaging import policy
from kaanha.messaging.models import Dispatch
from templates_app import rendering
from templates_app.rendering import Need

# Longer than any column that a variable can be filled with; attributes have no limit.
COLUMNS = {"name": 200, "first_name": 200, "email": 254, "phone": 16}


class LeftOut(models.TextChoices):
    """Why somebody who holds a tag stays out. Each person counts once, for the first of these that holds."""

    EXCLUDED_TAG = "excluded_tag", "hold a tag that is excluded"
    OPTED_OUT = "opted_out", "not opted in, or opted out"
    WITHOUT_PHONE = "without_phone", "without a phone number"
    MARKETING_OPTED_OUT = "marketing_opted_out", "stopped your marketing at WhatsApp"
    COUNTRY_BLOCKED = "country_blocked", "in a country to which Meta delivers no marketing"
    FREQUENCY_CAP = "frequency_cap", "had a marketing message in the 24 hours before"
    MISSING_VARIABLE = "missing_variable", "without a value for a variable, or with one that is too long"


@dataclass(frozen=True)
class Reasons:
    """Why contacts who hold no excluded tag stay out, in the order in which a reason counts; no condition is ever null.

    They judge the contacts that `judged` gives back.
    """

    at: datetime
    conditions: dict[LeftOut, Any]

    def judged(self, contacts: ContactQuerySet, portion: Portion = EVERYBODY) -> ContactQuerySet:
        """Those of the portion who aren't deleted, each with the cap that holds at the time."""
        holds = Q(marketing_cap__until__gt=self.at) & portion.of("marketing_cap__pk")
        return contacts.active().filter(portion.of("pk")).alias(cap=FilteredRelation("marketing_cap", condition=holds))

    def counts(self) -> dict[str, Count]:
        """For each reason how many it keeps away, who each count for the first that holds."""
        before, counts = Q(), {}
        for key, condition in self.conditions.items():
            # Where a cheap condition doesn't hold, as for most, PostgreSQL looks no further.
            first = before & condition if key is LeftOut.MISSING_VARIABLE else condition & before
            counts[key.value] = Count("pk", filter=first)
            before &= ~condition
        return counts

    def none(self) -> list[Any]:
        """Filters that leave whoever gets it, in terms for which PostgreSQL has indexes and statistics."""
        return [~condition for condition in self.conditions.values()]


def reasons(broadcast: Broadcast, *, at: datetime) -> Reasons:
    """Why a contact who holds a tag and no excluded one doesn't get it at `at`."""
    return Reasons(at, dict(_conditions(broadcast)))


def _conditions(broadcast: Broadcast) -> Iterator[tuple[LeftOut, Any]]:
    yield LeftOut.OPTED_OUT, Q(opted_in=False)
    yield LeftOut.WITHOUT_PHONE, Q(phone=None)
    yield from _marketing(broadcast.template.category)
    if unfilled := _unfilled(broadcast):
        # What is computed from values may come out as null, which is no reason.
        told = (When(condition, then=Value(True)) for condition in unfilled)
        yield LeftOut.MISSING_VARIABLE, Case(*told, default=Value(False))


def _marketing(category: str) -> Iterator[tuple[LeftOut, Any]]:
    """What keeps marketing away, and nothing else."""
    if not policy.is_marketing(category):
        return
    yield LeftOut.MARKETING_OPTED_OUT, Q(marketing_opted_out_at__isnull=False)
    yield LeftOut.COUNTRY_BLOCKED, Q(country__in=sorted(settings.MARKETING_BLOCKED_COUNTRIES))
    if policy.is_capped(category, Dispatch.Kind.BROADCAST):
        yield LeftOut.FREQUENCY_CAP, Q(cap__isnull=False)


def _unfilled(broadcast: Broadcast) -> list[Any]:
    """Conditions of which any keeps the template from being filled; none where nobody gets it before it is repaired."""
    template = broadcast.template
    try:
        filler = rendering.prepare(template.components, template.parameter_format, broadcast.variables)
    except Refusal:
        return []
    needs = filler.needs()
    found = [condition for need in needs for condition in _wanting(need)]
    in_body = [need for need in needs if need.uses]
    if sum(_most(need) * need.uses for need in in_body) > filler.room:
        found.append(_too_long(in_body, filler.room))
    return found


def _wanting(need: Need) -> list[Any]:
    found = []
    if not need.otherwise:
        found.append(~_link(need.field) if need.link else values.empty(need.field))
    if need.limit:
        found.append(GreaterThan(Length(values.tidied(need.field)), need.limit))
    return found


def _link(field: str) -> Any:
    link = values.trimmed(field)
    return Q(Regex(link, Value(values.LINK))) & Q(GreaterThan(Length(link), values.LINK_LENGTH))


def _most(need: Need) -> float:
    return max(COLUMNS.get(need.field, float("inf")), len(need.otherwise))


def _too_long(needs: list[Need], room: int) -> Any:
    """Whether the body exceeds Meta's limit. What the raw values can be at most is cheaper to tell than the tidied."""
    raw: Any = Value(0)
    exact: Any = Value(0)
    for need in needs:
        spare = Value(need.otherwise)
        raw += (values.length_bound(need.field) + len(need.otherwise)) * need.uses
        exact += Length(Coalesce(NullIf(values.tidied(need.field), Value("")), spare)) * need.uses
    return Case(When(LessThanOrEqual(raw, room), then=Value(False)), default=GreaterThan(exact, room))
