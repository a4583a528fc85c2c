"""Cursors for statements that bring many rows."""

from __future__ import annotations

from django.db import connection
from django.db.backends.utils import CursorWrapper
from psycopg.types.datetime import TimestamptzLoader


def for_many() -> CursorWrapper:
    """Django's cursor, whose moments (in UTC, as always) are read by psycopg in C; Django reads them in Python."""
    cursor = connection.cursor()
    cursor.adapters.register_loader("timestamptz", TimestamptzLoader)
    return cursor
