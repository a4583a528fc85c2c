"""Programs of ours as real processes, and a search for whatever they leave behind."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kaanha import servers

PATIENCE = 20  # seconds that a program gets to end by itself before the test fails


@contextmanager
def empty_folder() -> Iterator[Path]:
    """A folder for all that a run writes. Whatever still runs in it at the end fails the test."""
    folder = Path(tempfile.mkdtemp(prefix="place-", dir=servers._scratch_parents(in_memory=True)[0]))
    folder.chmod(0o711)  # PostgreSQL's user passes through
    yield folder
    left = processes_in(folder)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder)
    assert left == set()


def processes_in(folder: Path) -> set[int]:
    """Processes that work in a folder or name it in their command or, as TMPDIR does, in their environment."""
    return {
        int(process.name)
        for process in Path("/proc").glob("[0-9]*")
        if os.fsencode(folder) in _read(process / "cmdline") + _read(process / "environ") + _target(process / "cwd")
        and process.name != str(os.getpid())
    }


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def _target(link: Path) -> bytes:
    try:
        return os.fsencode(link.readlink())
    except OSError:
        return b""


def eventually(happens: Callable[[], bool], seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while not happens() and time.monotonic() < deadline:
        time.sleep(0.02)
    return happens()


def environment(place: Path, **given: str) -> dict[str, str]:
    """Ours, with no server named but those in `given`, and scratch folders in `place`."""
    ours = {name: value for name, value in os.environ.items() if name not in servers.VARIABLES}
    return ours | {"TMPDIR": str(place)} | given


@contextmanager
def begun(place: Path, *command: str, **given: str) -> Iterator[subprocess.Popen[str]]:
    """A program of ours, running. The block ends with it; a block that fails kills it."""
    with subprocess.Popen(
        [sys.executable, *command], env=environment(place, **given), cwd=servers.CHECKOUT, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as program:  # fmt: skip
        try:
            yield program
            program.wait(PATIENCE)
        finally:
            program.kill()


def line(program: subprocess.Popen[str]) -> str:
    """The next line that it prints; "" when it has ended."""
    assert program.stdout
    return program.stdout.readline()
