"""A database of its own for a benchmark, so that no benchmark ever touches anybody's data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

NAME = "kaanha_benchmark"
ASKED = "BENCHMARK_SERVER_URL"  # the address that we were given, kept for the next round


@contextmanager
def of_its_own(*, keep: bool = False) -> Iterator[bool]:
    """Django set up on a new, migrated database beside the one of DATABASE_URL; dropped at the end.

    With `keep` it stays, and the next round that keeps it finds it: yields whether it is new.
    """
    address = os.environ[ASKED] = os.environ.get(ASKED, os.environ["DATABASE_URL"])
    new = not (keep and _exists(address))
    if new:
        _recreate(address, wanted=True)
    os.environ["DATABASE_URL"] = urlsplit(address)._replace(path=f"/{NAME}").geturl()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kaanha.settings")
    import django
    from django.core.management import call_command
    from django.db import connection

    django.setup()
    from kaanha.lib.commands import without_pool

    without_pool()
    try:
        call_command("migrate", verbosity=0)
        yield new
    finally:
        connection.close()
        if not keep:
            _recreate(address, wanted=False)


def _exists(address: str) -> bool:
    with psycopg.connect(address, autocommit=True) as server:
        return server.execute("SELECT FROM pg_database WHERE datname = %s", [NAME]).rowcount > 0


def _recreate(address: str, *, wanted: bool) -> None:
    with psycopg.connect(address, autocommit=True) as server:
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(NAME)))
        if wanted:
            server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(NAME)))
