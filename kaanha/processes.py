"""The parts of the product as child processes: started together, watched, stopped in order, none left behind."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from kaanha.embedded import port_is_free, tail
from kaanha.lib.errors import Refusal
from kaanha.servers import CHECKOUT
from kaanha.tied import die_with_parent

SENDING_THREADS = 32  # each waits for a number's slice; the work is done by one event loop
STARTING = 180  # seconds until every part must be up, also on a busy machine
LONGEST_PAUSE = 30  # seconds before a part that keeps failing is started again
STABLE = 60  # seconds after which a part that ended counts as failing for the first time


class ProcessError(Refusal):
    """A part can't be started or has ended; the message says which, and how its log ends."""


@dataclass(frozen=True)
class Program:
    """A part of the product. `ready` gets what it has logged; `patience` is the time from SIGTERM to SIGKILL."""

    name: str
    command: tuple[str, ...]
    ready: Callable[[str], bool]
    patience: float = 5
    port: int | None = None


def web(port: int, *, workers: int = 2, threads: int = 8) -> Program:
    """Admin, API and Meta's callbacks on 127.0.0.1."""
    command = ("granian", "kaanha.web_worker:application", "--interface", "wsgi", "--http", "1", "--no-ws")
    place = ("--host", "127.0.0.1", "--port", str(port), "--log-level", "warning")
    sizes = ("--workers", str(workers), "--blocking-threads", str(threads), "--workers-kill-timeout", "3")
    again = ("--respawn-failed-workers", "--respawn-interval", "0.5")
    return Program("web", _python("-m", *command, *place, *sizes, *again), lambda _: answers_http(port), port=port)


def worker(name: str, *queues: str, concurrency: int = 4) -> Program:
    """A Celery worker for these lanes. A slice of sending takes about ten seconds, so it has fifteen to end."""
    options = ("-Q", ",".join(queues), "-P", "threads", "-c", str(concurrency), "-n", f"{name}@%h", "-l", "INFO")
    # Workers here have nothing to say to each other, and waiting for answers costs a second at the start.
    quiet = ("--without-gossip", "--without-mingle")
    return Program(
        f"worker-{name}", _celery("worker", *options, *quiet), lambda log: f"{name}@" in log and " ready." in log, 15
    )


def workers() -> tuple[Program, Program]:
    """One worker for sending, one for all else: STOP and timers never wait behind a blast."""
    return worker("work", "callbacks", "default"), worker("send", "send", concurrency=SENDING_THREADS)


def beat() -> Program:
    """The clock. Its schedule is in the database, so it keeps no file; with Redis away it sends, too."""
    return Program("beat", _celery("beat", "-l", "INFO", "--pidfile="), lambda log: "beat: Starting" in log, 15)


def simulator(port: int, *options: str) -> Program:
    """The stand-in for Meta on 127.0.0.1, with the options of `manage.py simulate_cloud_api`."""
    command = _manage("simulate_cloud_api", "--port", str(port), *options)
    return Program("simulator", command, lambda _: answers_http(port), port=port)


def everything(*, port: int, simulator_port: int) -> tuple[Program, ...]:
    """All parts. Stopped in reverse: first nothing new is due, then nothing is sent, then nothing comes back."""
    work, send = workers()
    return (work, web(port), simulator(simulator_port), send, beat())


def _python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, *arguments)


def _celery(*arguments: str) -> tuple[str, ...]:
    return _python("-m", "celery", "-A", "kaanha.celery", *arguments)


def _manage(*arguments: str) -> tuple[str, ...]:
    return _python("manage.py", *arguments)


def manage(*arguments: str, environment: Mapping[str, str]) -> str:
    """What a command of manage.py printed, run to its end. Raises ProcessError with its message when it fails."""
    done = subprocess.run(  # noqa: S603
        _manage(*arguments),
        env=os.environ | environment,
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        preexec_fn=die_with_parent(signal.SIGKILL),
    )
    if done.returncode:
        raise ProcessError(f"manage.py {arguments[0]} failed:\n{done.stderr.strip()}")
    return done.stdout


def answers_http(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status > 0
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Child:
    """One part and its log, over all its lives."""

    def __init__(self, program: Program, log: Path, environment: Mapping[str, str]) -> None:
        self.program = program
        self.log = log
        self.environment = environment
        self.failures = 0
        self.due = 0.0  # when it may be started again; monotonic
        self.log.write_bytes(b"")
        self.start()

    def start(self) -> None:
        self.started = time.monotonic()
        with self.log.open("ab") as log:
            # A group of its own: Ctrl-C on the terminal reaches us alone, and we stop the parts in order.
            # When we are killed the part is too: all of them bear that, and none may go on alone.
            self.process = subprocess.Popen(  # noqa: S603
                self.program.command,
                env=self.environment,
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    @property
    def ready(self) -> bool:
        return self.program.ready(self.log.read_text(errors="replace"))

    @property
    def obituary(self) -> str:
        code = self.process.returncode
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"{self.program.name} {how}. Its log, {self.log}, ends:\n{tail(self.log)}"

    def stop(self) -> None:
        """SIGTERM, SIGKILL when its patience is over."""
        if not self.ended:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(self.program.patience)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to it and what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Processes:
    """The parts that run together. Leaving the context stops them: the last one started goes first."""

    def __init__(
        self, logs: Path, *, environment: Mapping[str, str] | None = None, say: Callable[[str], None] = print
    ) -> None:
        self.logs = logs
        self.environment = os.environ | {"PYTHONUNBUFFERED": "1"} | dict(environment or {})
        self.say = say
        self.children: dict[str, Child] = {}

    def start(self, *programs: Program) -> None:
        """Start these and return when all are up. Raises ProcessError when one ends or a port is taken."""
        for program in programs:
            if program.port and not port_is_free(program.port):
                raise ProcessError(f"Port {program.port}, for {program.name}, is in use by another program.")
        self.logs.mkdir(parents=True, exist_ok=True)
        for program in programs:
            self.children[program.name] = Child(program, self.logs / f"{program.name}.log", self.environment)
        self._wait_until_ready([self.children[program.name] for program in programs])

    def check(self) -> None:
        """Raises ProcessError when a part has ended. For whoever waits for what the parts do."""
        for child in self.children.values():
            if child.ended:
                raise ProcessError(child.obituary)

    def watch(self) -> None:
        """Start again whatever ends, with a growing pause, until we are interrupted."""
        while True:
            for child in self.children.values():
                self._revive(child)
            time.sleep(0.2)

    def stop(self) -> None:
        """Stop all, the last one started first. Interrupted, kill them."""
        try:
            for child in reversed(self.children.values()):
                child.stop()
        finally:
            for child in self.children.values():
                child.kill()
            self.children.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _wait_until_ready(self, children: list[Child]) -> None:
        deadline = time.monotonic() + STARTING
        while waiting := [child for child in children if not child.ready]:
            self.check()
            if time.monotonic() > deadline:
                raise ProcessError(
                    f"{waiting[0].program.name} isn't up after {STARTING} seconds. "
                    f"Its log, {waiting[0].log}, ends:\n{tail(waiting[0].log)}"
                )
            time.sleep(0.05)

    def _revive(self, child: Child) -> None:
        now = time.monotonic()
        if child.due and now >= child.due:
            child.due = 0.0
            child.start()
        elif not child.due and child.ended:
            child.failures = child.failures + 1 if now - child.started < STABLE else 1
            pause = min(2 ** (child.failures - 1), LONGEST_PAUSE)
            child.kill()  # what it left behind may hold its port
            child.due = now + pause
            self.say(f"{child.obituary}\nStarting it again in {pause} s.")
