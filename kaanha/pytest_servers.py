"""A pytest plugin: tests run on real PostgreSQL and Redis, started for the run where the machine has none.

Workers of pytest-xdist share the servers, and nothing in them: each has its own database in either.
"""

import os
from collections.abc import Generator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from kaanha import servers

_stops = ExitStack()


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before pytest-django reads the settings in its own wrapper
def pytest_load_initial_conftests() -> Generator[None, object, object]:
    try:
        # The workers of pytest-xdist inherit it.
        os.environ.update(_stops.enter_context(servers.running(in_memory=True)))
        if worker := os.environ.get("PYTEST_XDIST_WORKER"):  # gw0, gw1, …; pytest-django sees to PostgreSQL
            os.environ["REDIS_URL"] = redis_of(int(worker.removeprefix("gw")), os.environ["REDIS_URL"])
    except servers.ServerError as error:
        raise pytest.UsageError(str(error)) from None
    with ExitStack() as stops:
        stops.push(_stops)  # when pytest can't begin, it doesn't say goodbye either
        outcome = yield
        stops.pop_all()
    return outcome


def redis_of(worker: int, url: str) -> str:
    """The address of the worker's own Redis database, behind the one of the run: Redis has sixteen."""
    parts = urlsplit(url)
    return parts._replace(path=f"/{int(parts.path.strip('/') or 0) + 1 + worker}").geturl()


def pytest_unconfigure() -> None:
    _stops.close()
