"""One machine for all scenarios: it takes ten seconds to start. A scenario that fails leaves the next one a new one."""

from collections.abc import Iterator

import pytest

from tests.scenarios.machine import Machine

FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call":
        item.stash[FAILED] = report.failed
    return report


class Kept:
    """The machine that the scenarios share."""

    def __init__(self) -> None:
        self._machine: Machine | None = None

    def given(self) -> Machine:
        if self._machine is None:
            self._machine = Machine().__enter__()
        return self._machine

    def throw_away(self) -> None:
        if self._machine is not None:
            machine, self._machine = self._machine, None
            machine.__exit__(None, None, None)


@pytest.fixture(scope="session")
def _kept() -> Iterator[Kept]:
    kept = Kept()
    yield kept
    kept.throw_away()


@pytest.fixture
def machine(_kept, request) -> Iterator[Machine]:
    """A whole Kaanha in its own processes, everything up and at rest; its database is not the tests' own."""
    machine = _kept.given()
    machine.until(lambda: all(machine.is_up(name) for name in machine.parts), "every part is up")
    machine.begin()
    yield machine
    if request.node.stash.get(FAILED, True):
        print(machine.last_words())  # noqa: T201 — pytest shows it with the failure
        _kept.throw_away()
