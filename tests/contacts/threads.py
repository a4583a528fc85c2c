"""Two threads at the same moment, each with a database connection of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

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
