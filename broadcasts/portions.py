"""An organization's contacts in ranges of their ids, for PostgreSQL to count a large audience in several processes.

Left to itself it counts in one process, going along two indexes in the order of ids, or in several by hashing a million
contacts, which takes longer. Statements for one range each, put together by UNION ALL, it gives to several processes of
which each goes along the indexes: docs/decisions/large-audiences-are-counted-in-portions.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from django.db import connection
from django.db.models import Q

PORTIONS = 6  # even shares for two and for three processes, which are as many as PostgreSQL takes unless told otherwise
SAMPLED = 0.2  # percent of the pages of contacts, which say where the bounds are


@dataclass(frozen=True)
class Portion:
    """Contacts with ids from `since` on and below `before`; None: without a bound."""

    since: int | None = None
    before: int | None = None

    def of(self, field: str) -> Q:
        """That a contact's id, in this field, is in the range. Joins need it said of each table: PostgreSQL infers
        from `a = b` what equals `b`, but not what is above or below it."""
        bounds = {f"{field}__gte": self.since, f"{field}__lt": self.before}
        return Q(**{name: bound for name, bound in bounds.items() if bound is not None})


EVERYBODY = Portion()


def of_organization(organization: int) -> list[Portion]:
    """Ranges that together have every id once, by a sample with about as many of the organization's each. One query."""
    shares = [place / PORTIONS for place in range(1, PORTIONS)]
    with connection.cursor() as cursor:
        cursor.execute(_BOUNDS, [shares, SAMPLED, organization])
        (found,) = cursor.fetchone()
    bounds = sorted(set(found or []))
    return [Portion(since, before) for since, before in pairwise([None, *bounds, None])]


_BOUNDS = """
SELECT percentile_disc(%s::float[]) WITHIN GROUP (ORDER BY id)
FROM contacts_contact TABLESAMPLE SYSTEM (%s) WHERE organization_id = %s
"""
