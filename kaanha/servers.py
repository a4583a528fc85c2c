"""The PostgreSQL and Redis of a machine that has none: for one run, or started and left running for this checkout.

`DATABASE_URL` and `REDIS_URL` name servers of yours; whichever is missing is started here. As a program,
`python -m kaanha.servers [--keep FOLDER] -- COMMAND…` runs a command with both in its environment and stops everything
after it. Standard library only, for the settings import this.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from kaanha.embedded import PostgreSQL, Redis, Server, ServerError, can_enter, server_user
from kaanha.tied import adopt_orphans, children, die_with_parent, end_children, leave_when_told

CHECKOUT = Path(__file__).resolve().parent.parent
VARIABLES = ("DATABASE_URL", "REDIS_URL")
MEMORY = Path("/dev/shm")  # noqa: S108
ROOM = 4 << 30  # bytes; PostgreSQL keeps up to max_wal_size beside its data


def data_folder() -> Path:
    """Where this checkout's servers keep their data: KAANHA_DATA_DIR, else `.data`."""
    return CHECKOUT / (os.environ.get("KAANHA_DATA_DIR") or ".data")


def local_urls() -> dict[str, str]:
    """The addresses of this checkout's servers; where none were started, addresses at which nothing answers."""
    folder = data_folder()
    # Port 1 is nobody's, so that a Redis of somebody else's isn't taken for ours.
    nowhere = {
        "DATABASE_URL": f"postgresql://kaanha@/kaanha?host={quote(str(folder / 'postgres'))}",
        "REDIS_URL": "redis://127.0.0.1:1/0",
    }
    return nowhere | {variable: server["url"] for variable, server in _noted(folder).items()}


@contextmanager
def running(keep: Path | None = None, *, in_memory: bool = False) -> Iterator[dict[str, str]]:
    """Both addresses, with what they lack started before and stopped after.

    Without `keep` on throwaway data, `in_memory` where there is room. With `keep` on the data in that folder; servers
    that `start` left running there are used and not stopped. Raises ServerError when another run has the folder, or a
    server can't be had.
    """
    missing = _missing()
    given = {variable: os.environ[variable] for variable in VARIABLES if variable not in missing}
    with _kept(keep, missing) if keep else throwaway(missing, in_memory=in_memory) as servers:
        yield given | {variable: server.url for variable, server in servers.items()}


@contextmanager
def throwaway(variables: Collection[str] = VARIABLES, *, in_memory: bool = False) -> Iterator[dict[str, Server]]:
    """New servers for these variables in a scratch folder, to be stopped, killed and started again as one likes."""
    if not variables:
        yield {}
        return
    sweep()
    with _scratch_folder(in_memory=in_memory) as folder, ExitStack() as stops:
        servers = _servers(folder)
        for variable in variables:
            stops.callback(servers[variable].stop)
            servers[variable].start()
        yield {variable: servers[variable] for variable in variables}


def start(*, redis_port: int | None = None) -> dict[str, str]:
    """Start what this checkout lacks and leave it running; the addresses. Servers that run already are left alone."""
    folder = data_folder()
    with _locked(folder), ExitStack() as undo:
        servers = _cleared(folder, detached=True, redis_port=redis_port)
        for variable in reversed(_missing()):  # Redis first: only its port can be refused, and it's quick
            if not servers[variable].pid:
                undo.callback(servers[variable].stop)
                servers[variable].start()
        undo.pop_all()
        _note(folder, servers)
    urls = {variable: server.url for variable, server in servers.items() if server.pid}
    port = urlsplit(urls.get("REDIS_URL", "")).port
    if redis_port is not None and port and redis_port != port:
        raise ServerError(f"Redis runs already, on port {port}: stop it first to give it another one.")
    return urls


def stop() -> list[str]:
    """Stop what `start` left running; the names of what was stopped."""
    folder = data_folder()
    if not folder.exists():
        return []
    with _locked(folder):
        up = [server for server in _servers(folder).values() if server.pids()]
        for server in reversed(up):
            server.stop()
        _note(folder, {})
        return [server.name for server in up]


def status() -> dict[str, dict[str, Any]]:
    """For each variable: {"name", "state": "given" | "running" | "stopped", "url", "pid"}."""
    return {variable: _status(server) for variable, server in _servers(data_folder()).items()}


def remove() -> None:
    """Stop this checkout's servers and remove their data and all else that `manage.py run` keeps with it."""
    stop()
    folder = data_folder()
    if (folder / "postgres").is_symlink():
        elsewhere = (folder / "postgres").resolve().parent
        shutil.rmtree(elsewhere)
        (folder / "postgres").unlink()
        with contextlib.suppress(OSError):
            elsewhere.parent.rmdir()  # only if no other checkout has data there
    for name in ("postgres", "redis", "logs"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("login", "servers.json", "lock"):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()  # only if nothing else is in it


def sweep() -> None:
    """Remove the scratch folders of runs that were killed, with whatever still runs in them."""
    for parent in {*_scratch_parents(), MEMORY}:
        for folder in parent.glob("kaanha-*"):
            if folder.lstat().st_uid != os.geteuid():
                continue
            with contextlib.suppress(OSError, ServerError), _locked(folder, make=False):
                for server in _servers(folder).values():
                    server.kill()
                shutil.rmtree(folder)


def _missing() -> list[str]:
    return [variable for variable in VARIABLES if not os.environ.get(variable)]


def _servers(
    folder: Path, *, durable: bool = False, detached: bool = False, redis_port: int | None = None
) -> dict[str, Server]:
    return {
        "DATABASE_URL": PostgreSQL(folder / "postgres", durable=durable, detached=detached),
        "REDIS_URL": Redis(folder / "redis", durable=durable, detached=detached, port=redis_port),
    }


def _status(server: Server) -> dict[str, Any]:
    if given := os.environ.get(server.variable):
        return {"name": server.name, "state": "given", "url": given, "pid": None}
    if (pid := server.pid) and server.answers():
        return {"name": server.name, "state": "running", "url": server.url, "pid": pid}
    return {"name": server.name, "state": "stopped", "url": None, "pid": None}


@contextmanager
def _kept(folder: Path, variables: Collection[str]) -> Iterator[dict[str, Server]]:
    folder = folder.resolve()
    with ExitStack() as stops:
        stops.enter_context(_locked(folder))
        servers = _cleared(folder)
        mine = [variable for variable in variables if not servers[variable].pid]
        if mine:
            stops.callback(_note, folder, {variable: server for variable, server in servers.items() if server.pid})
        for variable in mine:
            stops.callback(servers[variable].stop)
            servers[variable].start()
        if mine:
            _note(folder, servers)
        else:
            stops.close()  # they run without us: others may join them too
        yield {variable: servers[variable] for variable in variables}


def _cleared(folder: Path, *, detached: bool = False, redis_port: int | None = None) -> dict[str, Server]:
    """The servers of a folder, after ending those that a killed run left on their way down."""
    _prepare_for_postgres(folder)
    servers = _servers(folder, durable=True, detached=detached, redis_port=redis_port)
    noted = _noted(folder)
    for variable, server in servers.items():
        if noted.get(variable, {}).get("detached"):
            server.detached = detached or server.pid is not None
        else:
            server.stop()
    return servers


def _prepare_for_postgres(folder: Path) -> None:
    """Where PostgreSQL's user can't enter `folder`, as below root's home, put its data under /var/lib instead."""
    home, user = folder / "postgres", server_user()
    if home.is_symlink() or home.exists() or can_enter(folder, user):
        return
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    elsewhere = Path("/var/lib/kaanha", digest, "postgres")
    elsewhere.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not can_enter(elsewhere.parent, user):
        raise ServerError(
            f"PostgreSQL runs as another user than root, and that user can enter neither {folder} nor "
            f"{elsewhere.parent}. Set KAANHA_DATA_DIR to a folder that everybody may enter."
        )
    home.symlink_to(elsewhere)


def _noted(folder: Path) -> dict[str, dict[str, Any]]:
    """What `servers.json` says, {variable: {"url", "pid", "detached"}}; {} when it isn't there or not readable."""
    try:
        noted = json.loads((folder / "servers.json").read_text())
        return {variable: noted[variable] for variable in VARIABLES if "url" in noted.get(variable, {})}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _note(folder: Path, servers: dict[str, Server]) -> None:
    """Write to `servers.json` which of these run."""
    noted = {
        variable: {"url": server.url, "pid": server.pid, "detached": server.detached}
        for variable, server in servers.items()
        if server.pid
    }
    half_written = folder / "servers.json.new"
    half_written.unlink(missing_ok=True)
    half_written.touch(mode=0o600)  # it holds Redis's password
    half_written.write_text(json.dumps(noted, indent=2) + "\n")
    half_written.rename(folder / "servers.json")


@contextmanager
def _locked(folder: Path, *, make: bool = True) -> Iterator[None]:
    """Keep every other run off this folder. Raises ServerError when another has it. Any end of ours frees it."""
    if make and not folder.is_dir():
        _make(folder)
    with _open_lock(folder / "lock", make=make) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise ServerError(
                f"Process {lock.read() or '?'} uses the servers in {folder}; they stop with it."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
        folder.chmod(0o711)  # PostgreSQL's user passes through, whatever the umask
    except OSError as error:
        raise ServerError(
            f"The folder {folder} can't be made ({error.strerror}). Set KAANHA_DATA_DIR to another one."
        ) from error


def _open_lock(path: Path, *, make: bool) -> Any:
    try:
        return path.open("a+" if make else "r+")
    except PermissionError:
        raise ServerError(
            f"{path.parent} belongs to another user. Run as that user, or set KAANHA_DATA_DIR to a folder of yours."
        ) from None


def _scratch_parents(*, in_memory: bool = False) -> list[Path]:
    """Where a scratch folder may lie, the best first: PostgreSQL's user must get there and run programs there."""
    roomy = in_memory and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
    on_disk = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108
    parents = dict.fromkeys([MEMORY, *on_disk] if roomy else on_disk)
    open_to_it = [parent for parent in parents if parent.is_dir() and can_enter(parent, server_user())]
    return sorted(open_to_it, key=lambda parent: bool(os.statvfs(parent).f_flag & os.ST_NOEXEC))


@contextmanager
def _scratch_folder(*, in_memory: bool) -> Iterator[Path]:
    # It gets its name once it is locked, so that no sweep takes it for a forgotten one.
    new = Path(tempfile.mkdtemp(prefix="new-kaanha-", dir=_scratch_parents(in_memory=in_memory)[0]))
    new.chmod(0o711)
    with _locked(new):
        folder = new.rename(new.with_name(new.name.removeprefix("new-")))
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def main(arguments: list[str]) -> int:
    """`python -m kaanha.servers`: its exit code is the command's."""
    own, command = _split(arguments)
    parser = argparse.ArgumentParser(
        prog="python -m kaanha.servers",
        usage="%(prog)s [--keep FOLDER] -- COMMAND… | --remove",
        description="Run a command with PostgreSQL and Redis, whose addresses it finds in its environment.",
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep their data there; else it is thrown away")
    parser.add_argument("--remove", action="store_true", help="stop this checkout's servers and remove their data")
    options = parser.parse_args(own)
    if not command and not options.remove:
        parser.error("a command is missing")
    leave_when_told()
    try:
        if options.remove:
            remove()
            return 0
        return _run(command, options.keep)
    except ServerError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


def _run(command: list[str], keep: Path | None) -> int:
    """Run a command to its end with servers, and end whatever it leaves behind."""
    with running(keep) as urls:
        servers = children()
        adopt_orphans()
        try:
            job = subprocess.Popen(command, env=os.environ | urls, preexec_fn=die_with_parent(signal.SIGTERM))  # noqa: S603
            code = _wait_for(job)
        except OSError as error:
            raise ServerError(f"{command[0]} can't be run: {error.strerror}.") from None
        finally:
            end_children(spare=servers)
    return code if code >= 0 else 128 - code


def _wait_for(job: subprocess.Popen[bytes]) -> int:
    try:
        return job.wait()
    except KeyboardInterrupt:
        if not os.isatty(0):  # a terminal has told the job itself
            job.send_signal(signal.SIGINT)
        return job.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
