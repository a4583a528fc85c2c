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
        os.environ.update(_stops.enter_context(servers.running(in_memory=True)))  # the workers of pytest-xdist inherit it
    except servers.ServerError as error:
        raise pytest.UsageError(str(error)) from None
    return (yield)


def pytest_unconfigure() -> None:
    _stops.close()
