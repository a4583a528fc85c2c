"""Cursors for statements that bring many rows, or take much."""

from __future__ import annotations

from typing import Any

import psycopg
from django.db import connection
from django.db.backends.utils import CursorWrapper
from psycopg.types.datetime import TimestamptzLoader


def for_many() -> CursorWrapper:
    """Django's cursor, whose moments (in UTC, as always) are read by psycopg in C; Django reads them in Python."""
    cursor = connection.cursor()
    cursor.adapters.register_loader("timestamptz", TimestamptzLoader)
    return cursor


def for_bytes() -> CursorWrapper:
    """A cursor as Django's, whose parameters PostgreSQL binds: for `%b` bytes go as they are, not in hexadecimal."""
    connection.ensure_connection()
    cursor: Any = psycopg.Cursor(connection.connection)
    return connection.make_debug_cursor(cursor) if connection.queries_logged else connection.make_cursor(cursor)
