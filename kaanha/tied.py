"""Processes tied to ours: the kernel ends them when we end, even by kill -9, and none of them is lost from sight."""

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Set
from functools import partial
from pathlib import Path
from types import FrameType

LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_libc = ctypes.CDLL(None) if LINUX else None


def die_with_parent(number: signal.Signals) -> Callable[[], None]:
    """A `preexec_fn`: when we die, whatever killed us, the kernel sends the child signal `number`.

    Start such a child from the main thread: the kernel watches the thread, not the process.
    Elsewhere than on Linux it does nothing, and only a regular end of ours ends the child.
    """
    return partial(tie, os.getpid(), number)


def tie(parent: int, number: signal.Signals) -> None:
    """Have the kernel send us signal `number` when `parent`, which started us, ends. On Linux, as above."""
    if _libc:
        _libc.prctl(PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:
            os._exit(1)  # it died before we were tied


def leave_when_told() -> None:
    """Make SIGTERM and SIGHUP raise SystemExit, so that what is open gets closed. Ctrl-C does so by itself."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)


def _leave(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def adopt_orphans() -> None:
    """Become the parent of descendants that lose theirs, so that `end_children` finds them."""
    if _libc:
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)


def children() -> set[int]:
    """Our children, those that have ended and were not waited for included."""
    return {pid for pid in every_process() if _parent(pid) == os.getpid()}


def end_children(*, spare: Set[int], seconds: float = 5) -> None:
    """End every child of ours but `spare`, adopted ones included: SIGTERM, after `seconds` SIGKILL."""
    deadline = time.monotonic() + seconds
    told: set[int] = set()
    while left := children() - spare:
        late = time.monotonic() > deadline
        for pid in left if late else left - told:
            os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        told |= left
        for pid in left:
            os.waitpid(pid, os.WNOHANG)
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def every_process() -> Iterator[int]:
    """The numbers of all processes; none where there is no /proc."""
    with contextlib.suppress(FileNotFoundError):
        yield from (int(entry) for entry in os.listdir("/proc") if entry.isdigit())  # noqa: PTH208


def _parent(pid: int) -> int | None:
    try:
        # The name may hold spaces and parentheses; the parent is the second field after the last one.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None
