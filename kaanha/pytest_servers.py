"""A pytest plugin: tests run on real PostgreSQL and Redis, started for the run where the machine has none."""

import os
from collections.abc import Generator
from contextlib import ExitStack

import pytest

from kaanha import servers

_stops = ExitStack()


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before pytest-django reads the settings in its own wrapper
def pytest_load_initial_conftests() -> Generator[None, object, object]:
    try:
        # The workers of pytest-xdist inherit it.
        os.environ.update(_stops.enter_context(servers.running(in_memory=True)))
    except servers.ServerError as error:
        raise pytest.UsageError(str(error)) from None
    with ExitStack() as stops:
        stops.push(_stops)  # when pytest can't begin, it doesn't say goodbye either
        outcome = yield
        stops.pop_all()
    return outcome


def pytest_unconfigure() -> None:
    _stops.close()
