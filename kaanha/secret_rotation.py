"""Secrets moved under the first of ENCRYPTION_KEYS, while the system works and as often as one likes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from django.apps import apps
from django.db import connection, models
from django.db.models.functions import Cast

from kaanha.lib.errors import Refusal
from kaanha.lib.secrets import SecretField, decrypt, encrypt, under_first_key

BATCH = 500  # rows read, and written in one statement for each column
NAMED = 100  # rows of a model that are named where no key opens them

Stored = tuple[int, str]  # the key of a row, and what stands encrypted in one of its columns


@dataclass(slots=True)
class Count:
    """The rows of a model that hold secrets: all, those that stand under an old key, those moved, those no key opens.

    What was old and wasn't moved has just been written by somebody else, and is looked at in the next run.
    """

    model: str
    rows: int = 0
    old: int = 0
    moved: int = 0
    unreadable: int = 0
    named: list[str] = field(default_factory=list)


def rotate(*, write: bool = True, limit: int | None = None) -> list[Count]:
    """Encrypt under the first key what stands under another; without `write` only count. Of each model `limit` rows.

    Each batch commits by itself, so that a run that was ended goes on where the next one finds work. A secret is
    replaced only while it is the one that was read: what somebody writes meanwhile stays.
    """
    return [_rotate(model, columns, write=write, limit=limit) for model, columns in secret_columns()]


def secret_columns() -> list[tuple[type[models.Model], list[SecretField]]]:
    """Every model that keeps secrets, with its columns for them."""
    found = ((one, [c for c in one._meta.local_concrete_fields if isinstance(c, SecretField)]) for one in _tables())
    return [(model, columns) for model, columns in found if columns]


def _tables() -> list[type[models.Model]]:
    return [one for one in apps.get_models(include_auto_created=True) if one._meta.managed and not one._meta.proxy]


def _rotate(model: type[models.Model], columns: list[SecretField], *, write: bool, limit: int | None) -> Count:
    count = Count(model._meta.label)
    for batch in _batches(model, columns, limit=limit):
        old: set[int] = set()
        moved: set[int] = set()
        lost: set[int] = set()
        for place, column in enumerate(columns):
            stored = [(key, texts[place]) for key, texts in batch if texts[place]]
            stale = [(key, text) for key, text in stored if not under_first_key(text)]
            readable = [(key, text, fresh) for key, text in stale if (fresh := _under_first(text))]
            old |= {key for key, *_ in readable}
            lost |= {key for key, _ in stale} - {key for key, *_ in readable}
            moved |= _replace(model, column, readable) if write else set()
        count.rows += len(batch)
        count.old += len(old)
        count.moved += len(moved)
        count.unreadable += len(lost)
        count.named += [f"{count.model} {key}" for key in sorted(lost)][: NAMED - len(count.named)]
    return count


def _batches(
    model: type[models.Model], columns: list[SecretField], *, limit: int | None
) -> Iterator[list[tuple[int, list[str]]]]:
    """The rows' keys with what stands in these columns, by key. One statement a batch."""
    texts = {f"stored_{column.name}": Cast(column.name, models.TextField()) for column in columns}
    rows = model._base_manager.annotate(**texts).order_by("pk").values_list("pk", *texts)
    last, left = None, limit
    while batch := list((rows if last is None else rows.filter(pk__gt=last))[: min(BATCH, left or BATCH)]):
        yield [(key, list(stored)) for key, *stored in batch]
        last = batch[-1][0]
        if left is not None and (left := left - len(batch)) <= 0:
            return


def _under_first(text: str) -> str:
    """The same secret under the first key; empty where no key opens it."""
    try:
        return encrypt(decrypt(text))
    except Refusal:
        return ""


def _replace(model: type[models.Model], column: SecretField, fresh: list[tuple[int, str, str]]) -> set[int]:
    """Write what stands in the place of what was read, and is still there; the keys of those rows."""
    if not fresh:
        return set()
    keys, read, written = zip(*fresh, strict=True)
    quoted = {
        "table": connection.ops.quote_name(model._meta.db_table),
        "key": connection.ops.quote_name(str(model._meta.pk.column)),
        "column": connection.ops.quote_name(str(column.column)),
    }
    with connection.cursor() as cursor:
        cursor.execute(_REPLACE.format(**quoted), [list(keys), list(read), list(written)])
        return {key for (key,) in cursor.fetchall()}


# Locked in the order of their keys, and looked at again by then: who has written since the batch was read has won.
_REPLACE = """
WITH held AS (
  SELECT row.{key} AS key, fresh.written
  FROM {table} AS row JOIN unnest(%s::bigint[], %s::text[], %s::text[]) AS fresh (key, read, written)
    ON row.{key} = fresh.key AND row.{column} = fresh.read
  ORDER BY row.{key} FOR NO KEY UPDATE OF row
)
UPDATE {table} AS row SET {column} = held.written FROM held WHERE row.{key} = held.key RETURNING held.key
"""
