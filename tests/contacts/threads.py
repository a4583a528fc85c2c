"""Two threads at the same moment, each with a database connection of its own."""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import TypeVar

import pytest
from django.db import connection

T = TypeVar("T")


def at_once(*acts: Callable[[], T]) -> list[T]:
    """Run the acts together; their results in order."""
    barrier = threading.Barrier(len(acts))

    def start(act: Callable[[], T]) -> T:
        barrier.wait(10)
        try:
            return act()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(acts)) as pool:
        running = [pool.submit(start, act) for act in acts]
        return [act.result(30) for act in running]


def meet_after(monkeypatch: pytest.MonkeyPatch, *places: tuple[ModuleType, str]) -> None:
    """Both threads have come out of their first call of one of these functions before either goes on, if they can.

    They can't where the one waits for a lock that the other holds: then it gives up waiting after a second.
    """
    barrier, here = threading.Barrier(2), threading.local()

    def meeting(act: Callable[..., T]) -> Callable[..., T]:
        def meets(*args: object, **kwargs: object) -> T:
            done = act(*args, **kwargs)
            if not getattr(here, "met", False):
                here.met = True
                with contextlib.suppress(threading.BrokenBarrierError):
                    barrier.wait(1)
            return done

        return meets

    for module, name in places:
        monkeypatch.setattr(module, name, meeting(getattr(module, name)))
