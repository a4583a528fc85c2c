"""Parts of the product as real child processes: started, ended, killed, started again, and none left behind."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import requests
from django.contrib.auth import get_user_model
from django.core.management import call_command

from kaanha import embedded, processes
from kaanha.lib.errors import Refusal
from kaanha.processes import ProcessError, Processes, Program
from tests.running import begun, empty_folder, eventually, line, processes_in


@pytest.fixture
def place() -> Iterator[Path]:
    with empty_folder() as folder:
        yield folder


def part(name: str, code: str, *, patience: float = 5) -> Program:
    return Program(name, (sys.executable, "-c", code), lambda log: "up" in log, patience)


def steady(name: str, record: Path) -> Program:
    """A part that runs until SIGTERM and then writes its name to `record`."""
    end = f"lambda *_: (open({str(record)!r}, 'a').write('{name} '), sys.exit())"
    return part(
        name, f"import signal, sys; signal.signal(signal.SIGTERM, {end}); print('up', flush=True); signal.pause()"
    )


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_parts_are_up_when_start_returns_and_stop_in_reverse_order(tmp_path):
    record = tmp_path / "record"
    with Processes(tmp_path / "logs") as parts:
        parts.start(steady("web", record), steady("worker", record), steady("beat", record))
        parts.check()
        pids = [child.process.pid for child in parts.children.values()]
        assert (tmp_path / "logs/web.log").read_text() == "up\n"

    assert record.read_text() == "beat worker web "
    assert [pid for pid in pids if alive(pid)] == []


def test_a_part_that_ends_at_the_start_is_named_with_its_log_and_the_others_stop(tmp_path):
    with pytest.raises(ProcessError) as error, Processes(tmp_path) as parts:
        parts.start(steady("web", tmp_path / "record"), part("beat", "print('no clock'); raise SystemExit(4)"))

    assert str(error.value) == f"beat ended with exit code 4. Its log, {tmp_path / 'beat.log'}, ends:\n  no clock"
    assert parts.children == {}


def test_a_part_that_is_killed_later_is_found_by_check(tmp_path):
    with Processes(tmp_path) as parts:
        parts.start(steady("web", tmp_path / "record"))
        parts.children["web"].process.kill()
        parts.children["web"].process.wait()

        with pytest.raises(ProcessError, match=r"^web was ended by SIGKILL"):
            parts.check()


def test_a_part_that_ignores_sigterm_is_killed_with_its_children(tmp_path):
    stubborn = (
        "import signal, subprocess; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(subprocess.Popen(['sleep', '600']).pid, 'up', flush=True); signal.pause()"
    )
    with Processes(tmp_path) as parts:
        parts.start(part("web", stubborn, patience=0.1))
        child = int((tmp_path / "web.log").read_text().split()[0])
        assert alive(child)

    assert eventually(lambda: not alive(child) or b"sleep" not in Path(f"/proc/{child}/cmdline").read_bytes())


def test_a_part_that_ends_while_watched_is_started_again(tmp_path):
    lives = tmp_path / "lives"
    # The first life ends by itself; the second one interrupts us, as Ctrl-C does.
    code = (
        f"import os, signal, time; print('up', flush=True); again = os.path.exists({str(lives)!r});"
        f"open({str(lives)!r}, 'a').write('life ');"
        "(os.kill(os.getppid(), signal.SIGINT), signal.pause()) if again else os._exit(3)"
    )
    said: list[str] = []
    parts = Processes(tmp_path, say=said.append)

    parts.children["web"] = processes.Child(part("web", code), tmp_path / "web.log", os.environ)

    with pytest.raises(KeyboardInterrupt), parts:
        parts.watch()

    assert lives.read_text() == "life life "
    assert said == [
        f"web ended with exit code 3. Its log, {tmp_path / 'web.log'}, ends:\n  up\nStarting it again in 1 s."
    ]


def test_a_taken_port_is_refused_before_anything_starts(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(ProcessError, match=f"^Port {port}, for web, is in use by another program"),
            Processes(tmp_path) as parts,
        ):
            parts.start(steady("worker", tmp_path / "record"), processes.web(port))

    assert list(tmp_path.iterdir()) == []


def test_when_the_parent_is_killed_its_parts_end(place):
    code = f"""
import signal
from pathlib import Path
from tests.test_processes import Processes, steady
parts = Processes(Path({str(place)!r}))
parts.start(steady("web", Path({str(place / "record")!r})))
print("up", flush=True)
signal.pause()
"""
    with begun(place, "-c", code) as runner:
        assert line(runner) == "up\n"
        assert len(processes_in(place)) == 2
        runner.kill()

    assert eventually(lambda: processes_in(place) == set())
    assert not (place / "record").exists()


@pytest.fixture
def ports() -> tuple[str, ...]:
    return ("--port", str(embedded.free_port()), "--simulator-port", str(embedded.free_port()))


def run(place: Path, *options: str) -> AbstractContextManager[subprocess.Popen[str]]:
    return begun(place, "manage.py", "run", *options, KAANHA_DATA_DIR=str(place / "data"))


def welcome(runner: subprocess.Popen[str]) -> dict[str, list[str]]:
    """What `run` prints once everything is up, by its first word."""
    words: dict[str, list[str]] = {}
    while not words.get("Logs"):
        printed = line(runner)
        assert printed, runner.communicate()
        words |= {first: rest for first, *rest in [printed.split()] if first} if printed.split() else {}
    return words


def status(url: str) -> int:
    return requests.get(url, timeout=10).status_code


def test_everything_runs_until_interrupted_and_nothing_is_left(place, ports):
    with run(place, *ports) as runner:
        words = welcome(runner)
        assert status(words["Admin"][0] + "login/") == 200
        assert status(words["Simulated"][1]) == 200
        runner.send_signal(signal.SIGINT)
        printed, errors = runner.communicate(timeout=20)

    assert (printed.split("\n")[-3:], errors, runner.returncode) == (["Stopping …", "Stopped.", ""], "", 0)
    assert processes_in(place) == set()
    login = (place / "data" / "login").read_text().strip()
    assert words["Login"] == ["admin@kaanha.test", login]
    assert json.loads((place / "data" / "servers.json").read_text()) == {}


def test_when_the_parent_is_killed_web_and_workers_end_with_all_their_children(place):
    code = f"""
import signal
from pathlib import Path
from kaanha import embedded, processes
parts = processes.Processes(Path({str(place)!r}))
parts.start(processes.web(embedded.free_port()), *processes.workers())
print("up", flush=True)
signal.pause()
"""
    with begun(place, "-c", code, REDIS_URL=os.environ["REDIS_URL"]) as runner:
        assert line(runner) == "up\n"
        assert len(processes_in(place)) == 6  # the parent, the web server with two workers, two Celery workers
        runner.kill()

    assert eventually(lambda: processes_in(place) == set())


@pytest.mark.django_db
def test_the_development_login_stays_the_same_and_always_works(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KAANHA_DATA_DIR", str(tmp_path))
    call_command("development_login", json=True)
    made = json.loads(capsys.readouterr().out)
    user = get_user_model().objects.get(email=made["email"])
    assert (user.is_superuser, user.check_password(made["password"])) == (True, True)
    user.set_password("changed and forgotten")
    user.save()

    call_command("development_login", json=True)

    assert json.loads(capsys.readouterr().out) == made
    user.refresh_from_db()
    assert user.check_password(made["password"])
    assert stat.S_IMODE((tmp_path / "login").stat().st_mode) == 0o600


def test_in_production_there_is_no_development_login(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("KAANHA_DATA_DIR", str(tmp_path))
    settings.PRODUCTION = True

    with pytest.raises(Refusal, match=r"In production use: python manage\.py createsuperuser"):
        call_command("development_login")

    assert list(tmp_path.iterdir()) == []


def test_a_busy_port_is_one_sentence_that_names_the_option(place):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        with run(place, "--port", port) as runner:
            _, errors = runner.communicate(timeout=20)

    assert errors == f"Port {port} is in use by another program: stop it, or choose another port with --port.\n"
    assert runner.returncode == 2
    assert list(place.iterdir()) == []
