"""Who may move the people of a sequence, and who may change what holds for all of them.

Whoever enrolls or advances shares a sequence, an act such as a pause has it alone. Not by locks on its row: there a
newcomer overtakes whoever waits to have it alone, and a pause would come after the last of a hundred thousand steps.
Held until the end of the transaction, and taken before any row.
"""

from __future__ import annotations

from collections.abc import Collection

from django.db import connection

SPACE = 0x5E9 << 48  # of the numbers of advisory locks; a sequence's own is this and its key


def share_free(sequences: Collection[int]) -> list[int]:
    """Share those that nobody has alone or waits for; their keys."""
    return _each("pg_try_advisory_xact_lock_shared", sequences)


def share(sequences: Collection[int]) -> None:
    """Share these, after whoever has or wants one alone."""
    _each("pg_advisory_xact_lock_shared", sequences)


def have_alone(sequence: int) -> None:
    """Wait until nobody else moves or changes the sequence."""
    _each("pg_advisory_xact_lock", [sequence])


def _each(function: str, sequences: Collection[int]) -> list[int]:
    if not sequences:
        return []
    with connection.cursor() as cursor:
        # One after the other, in the order of their keys: the list is sorted here.
        cursor.execute(
            f"SELECT key, {function}(%s + key)::text FROM unnest(%s::bigint[]) AS key", [SPACE, sorted(sequences)]
        )
        return [key for key, granted in cursor.fetchall() if granted != "false"]
