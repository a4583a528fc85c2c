"""Pages of a list in the API: by number, as published, or by a cursor that stays in its place.

    asked = pagination.asked(request.query_params, ContactsQuery)
    pagination.paged(contacts, asked, by=("-pk",), shown=as_json)
    {"data": […], "page": 1, "limit": 20, "total": 42, "nextCursor": "…"}

A page by number has the exact total: whoever computes the last page from a capped one would leave rows out without a
word. A page by cursor has neither number nor total, and costs the same however far on it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet, Subquery
from django.http import QueryDict
from drf_spectacular.drainage import set_override
from drf_spectacular.utils import extend_schema_field
from rest_framework.serializers import Field, ValidationError

from kaanha.lib import secrets
from kaanha.lib.api_json import Body
from kaanha.lib.errors import Refusal

LIMIT, MOST = 20, 100
LAST_PAGE = 10**9
WHOLE = re.compile("[0-9]{1,10}")
CURSOR_LETTERS = 1_000
NO_CURSOR = "It is no cursor of this list. Send the nextCursor of an answer as it is, or leave it out to begin anew."

Key = tuple[Any, ...]


class Whole(Field[int, Any, Any, Any]):
    """A whole number from 1 to `most`, in plain digits."""

    default_error_messages = {"invalid": "Write a whole number from 1 to {most:,}."}

    def __init__(self, *, most: int, **options: Any) -> None:
        super().__init__(**options)
        self.most = most
        set_override(self, "field", {"type": "integer", "minimum": 1, "maximum": most})

    def to_internal_value(self, data: Any) -> int:
        number = int(data) if isinstance(data, str) and WHOLE.fullmatch(data) else 0
        if not 1 <= number <= self.most:
            self.fail("invalid", most=self.most)
        return number


@extend_schema_field({"type": "string", "minLength": 1, "maxLength": CURSOR_LETTERS})
class Cursor(Field[Key, Any, Any, Any]):
    """The place in a list that an earlier answer named."""

    default_error_messages = {"invalid": NO_CURSOR}

    def to_internal_value(self, data: Any) -> Key:
        try:
            return opened(data)
        except ValueError:
            self.fail("invalid")


class CursorQuery(Body):
    """What the address of a list that has cursors alone may ask for."""

    limit = Whole(most=MOST, default=LIMIT)
    cursor = Cursor(required=False)


class PageQuery(CursorQuery):
    """What the address of every other list may ask for."""

    page = Whole(most=LAST_PAGE, required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "page" in attrs and "cursor" in attrs:
            raise ValidationError({"cursor": ["Send either a page or a cursor."]})
        return attrs


def asked(query: QueryDict, known: type[Body]) -> dict[str, Any]:
    """What the address asks for. ValidationError (422) for what can't be understood, is unknown or comes twice."""
    if twice := [name for name, values in query.lists() if len(values) > 1]:
        raise ValidationError({name: ["It comes more than once. Keep one of them."] for name in twice})
    serializer = known(data=query.dict())
    serializer.is_valid(raise_exception=True)
    understood: dict[str, Any] = serializer.validated_data
    return understood


def paged(
    rows: QuerySet[Any],
    asked: dict[str, Any],
    *,
    by: Sequence[str],
    shown: Callable[[list[Any]], list[dict[str, Any]]],
    total: int | None = None,
) -> dict[str, Any]:
    """The page that was asked for, as it is answered. Two queries, one with a cursor, besides those of `shown`.

    `by` is the order: columns that together are unique and never change place, all of them falling or all rising.
    Who knows how many rows there are says so with `total`: counting a million takes its time.
    """
    rows, limit = rows.order_by(*by), asked["limit"]
    if "cursor" in asked:
        found = list(rows.filter(_beyond(by, asked["cursor"]))[: limit + 1])
        told: dict[str, Any] = {"limit": limit}
    else:
        page, total = asked.get("page", 1), rows.count() if total is None else total
        start = (page - 1) * limit
        found = list(_from(rows, by, start, total)[: limit + 1]) if start < total else []
        told = {"page": page, "limit": limit, "total": total}
    keys = [tuple(getattr(row, column.lstrip("-")) for column in by) for row in found[:limit]]
    return {"data": shown(found[:limit]), **told, "nextCursor": sealed(keys[-1]) if len(found) > limit else None}


def along(
    rows: QuerySet[Any],
    asked: dict[str, Any],
    *,
    by: Sequence[str],
    shown: Callable[[list[Any]], list[dict[str, Any]]],
) -> dict[str, Any]:
    """The same of a list that has cursors alone, since nobody counts a million rows for a page. One query."""
    beyond = rows.filter(_beyond(by, asked["cursor"])) if "cursor" in asked else rows
    found, limit = list(beyond.order_by(*by)[: asked["limit"] + 1]), asked["limit"]
    keys = [tuple(getattr(row, column.lstrip("-")) for column in by) for row in found[:limit]]
    return {
        "data": shown(found[:limit]),
        "limit": limit,
        "nextCursor": sealed(keys[-1]) if len(found) > limit else None,
    }


def sealed(key: Key) -> str:
    """The cursor behind the row of this key. Encrypted: the key would tell how many rows there are."""
    return secrets.encrypt(json.dumps(["cursor", *key], default=datetime.isoformat)).rstrip("=")


def opened(cursor: str) -> Key:
    """The key in a cursor. ValueError for everything that isn't one of ours."""
    if len(cursor) > CURSOR_LETTERS or not cursor.isascii():
        raise ValueError(NO_CURSOR)
    try:
        purpose, *key = json.loads(secrets.decrypt(cursor + "=" * (-len(cursor) % 4)))
    except Refusal as refusal:
        raise ValueError(NO_CURSOR) from refusal
    if purpose != "cursor":
        raise ValueError(NO_CURSOR)
    return tuple(key)


def _from(rows: QuerySet[Any], by: Sequence[str], start: int, total: int) -> QuerySet[Any]:
    """The ordered rows from that place on.

    Where one column is the order, an index alone tells its value at that place, counted from the nearer end: the rows
    before it aren't read.
    """
    if not start or len(by) > 1:
        return rows[start:]
    column = by[0].lstrip("-")
    side = "lte" if by[0].startswith("-") else "gte"
    from_end = total - 1 - start
    counted, place = (rows.reverse(), from_end) if from_end < start else (rows, start)
    return rows.filter(**{f"{column}__{side}": Subquery(counted.values(column)[place : place + 1])})


def _beyond(by: Sequence[str], key: Key) -> Q:
    """Rows that come after that of the key. ValidationError for a cursor of another list."""
    if len(by) != len(key) or isinstance(key[-1], str):
        raise ValidationError({"cursor": [NO_CURSOR]})
    after, same = Q(), Q()
    for column, value in zip(by, key, strict=True):
        name, side = column.lstrip("-"), "lt" if column.startswith("-") else "gt"
        after |= same & Q(**{f"{name}__{side}": value})
        same &= Q(**{name: value})
    return after
