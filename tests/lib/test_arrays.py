"""Lists come to PostgreSQL as they are, whatever stands in them."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from django.db import DataError, connection
from psycopg import adapters
from psycopg.adapt import PyFormat
from psycopg.types.array import ListDumper

from kaanha.lib.arrays import Columns
from kaanha.messaging.models import Status

INDIA = timezone(timedelta(hours=5, minutes=30))
LISTS = [
    ("bigint", [1, -2, None, 2**62]),
    ("bigint", []),
    ("text", ["", "NULL", "null", None, " a ", "a,b", "{}", 'say "yes"', "back\\slash", "'quoted'", "%s", "é😀\u2003"]),
    ("text", [None, None]),
    ("bool", [True, None, False]),
    ("float8", [0.1, -1e300, float("inf")]),
    ("timestamptz", [datetime(2026, 11, 29, 4, 5, 6, 789, tzinfo=UTC), None, datetime(1, 1, 1, 23, tzinfo=INDIA)]),
    ("numeric", [Decimal("1.10"), None]),
    ("bigint[]", [[1, 2], [3, 4]]),
]


def read_back(kind, values):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT %s::{kind}[]", [values])
        return cursor.fetchone()[0]


def test_our_connections_write_lists_by_columns():
    assert adapters.get_dumper(list, PyFormat.TEXT) is Columns


@pytest.mark.django_db
def test_every_list_comes_back_as_it_was():
    assert [read_back(kind.removesuffix("[]"), values) for kind, values in LISTS] == [values for _, values in LISTS]


@pytest.mark.django_db
def test_statuses_and_words_may_stand_in_one_list():
    assert read_back("text", [Status.SENT, "failed", None]) == ["sent", "failed", None]


@pytest.mark.django_db
@pytest.mark.parametrize("values", [["a\0b"], ["a", 1]], ids=["NUL", "words and numbers"])
def test_what_no_list_may_hold_is_refused_as_before(values):
    with pytest.raises((DataError, ValueError)):
        read_back("text", values)


def test_what_is_written_is_what_psycopg_writes_but_for_quotes():
    values = [3, None, -7]
    ours, theirs = (kind(list).upgrade(values, PyFormat.TEXT).dump(values) for kind in (Columns, ListDumper))

    assert bytes(ours) == bytes(theirs) == b"{3,NULL,-7}"
