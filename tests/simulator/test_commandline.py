"""The simulator as a program of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-W", "error", "-m", "kaanha.simulator"]
# Neither settings nor a database may be needed.
BARE = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}


def start(*options):
    return subprocess.Popen(
        [*PROGRAM, "--port", "0", *options],
        cwd=ROOT,
        env=BARE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def address(running):
    """The address in the first line that the program prints, once it serves."""
    return running.stdout.readline().split()[-1]


def run(*options):
    return subprocess.run([*PROGRAM, *options], cwd=ROOT, env=BARE, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_without_django_and_ends_quietly(ending):
    with start() as running:
        url = address(running)
        headers = {"Authorization": "Bearer sim-access-token"}
        assert requests.get(f"{url}/300000000000001", headers=headers, timeout=5).json()["name"] == "Sample Business"

        running.send_signal(ending)

        assert running.wait(10) == 0
        assert running.stderr.read() == ""


def test_options_choose_identity_and_switches():
    options = ["--access-token", "t", "--waba-id", "7", "--phone-number-id", "8", "--phone-number-id", "9"]
    with start(*options, "--throughput", "80", "--no-cards", "--latency", "0.01-0.02") as running:
        url = address(running)
        control = url.replace("/v25.0", "/simulator")
        numbers = requests.get(f"{url}/7/phone_numbers?access_token=t", timeout=5).json()["data"]
        settings = requests.get(f"{control}/settings", timeout=5).json()
        running.terminate()

    assert [(number["id"], number["throughput"]["level"]) for number in numbers] == [
        ("8", "STANDARD"),
        ("9", "STANDARD"),
    ]
    assert (settings["throughput"], settings["cards"], settings["latency"]) == (80, False, [0.01, 0.02])


def test_a_busy_port_is_one_sentence_and_exit_code_2():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = run("--port", str(port))

    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr == (f"Port {port} on 127.0.0.1 is in use by another program; choose another with --port.\n")


def test_a_callback_url_that_does_not_answer_is_one_sentence_and_exit_code_2():
    ended = run("--port", "0", "--callback-url", "http://127.0.0.1:9/hook", "--verify-token", "t")

    assert ended.returncode == 2
    assert ended.stderr.startswith("The callback URL http://127.0.0.1:9/hook could not be reached: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "can't be read: No such file or directory."),
        ("{", "is not JSON in UTF-8: "),
        ("{}", "must hold a list of templates."),
        ('[{"name": "a"}]', "lacks language, category, components."),
        (
            '[{"name": "a", "language": "hi", "category": "UTILITY", "components": [1]}]',
            "is not written as Meta lists it.",
        ),
    ],
)
def test_a_template_file_that_cannot_be_used_is_one_sentence(tmp_path, content, sentence):
    path = tmp_path / "templates.json"
    if content is not None:
        path.write_text(content)

    ended = run("--port", "0", "--templates", str(path))

    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--speed", "0"], "The simulator can't start: speed: a number above 0.\n"),
        (["--port", "70000"], "There is no port 70000; choose one from 1 to 65535 with --port.\n"),
        (["--log", "/no/such/folder/log"], "No such file or directory: '/no/such/folder/log'"),
        (["--log", str(ROOT / "pyproject.toml")], "is not a log of the simulator"),
    ],
)
def test_an_option_that_cannot_be_used_is_one_sentence(options, sentence):
    before = (ROOT / "pyproject.toml").read_bytes()

    ended = run("--port", "0", *options)

    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert (ROOT / "pyproject.toml").read_bytes() == before


def test_templates_come_from_a_file(tmp_path):
    path = tmp_path / "templates.json"
    own = {"name": "ours", "language": "hi", "category": "UTILITY", "components": [{"type": "BODY", "text": "नमस्ते"}]}
    path.write_text(json.dumps({"data": [own]}))
    with start("--templates", str(path)) as running:
        listing = f"{address(running)}/300000000000001/message_templates?name=ours&access_token=sim-access-token"
        found = requests.get(listing, timeout=5).json()["data"]
        running.terminate()

    assert [(template["name"], template["status"]) for template in found] == [("ours", "APPROVED")]


def test_what_was_accepted_survives_a_kill(tmp_path):
    log = ["--log", str(tmp_path / "log")]
    body = {
        "messaging_product": "whatsapp",
        "to": "+44 7700 900001",
        "type": "template",
        "template": {"name": "season_greetings", "language": {"code": "en_US"}},
    }
    with start(*log) as running:
        url = f"{address(running)}/200000000000001/messages?access_token=sim-access-token"
        assert requests.post(url, json=body, timeout=5).status_code == 200
        running.kill()
    with start(*log) as running:
        summary = requests.get(address(running).replace("/v25.0", "/simulator/summary"), timeout=5).json()
        running.terminate()

    assert (summary["accepted"], summary["recipients"], summary["twice"]) == (1, 1, 0)


def test_manage_py_starts_it_without_a_database():
    environment = BARE | {"DATABASE_URL": "postgres://nobody@127.0.0.1:9/none", "REDIS_URL": "redis://127.0.0.1:9/0"}
    program = [sys.executable, "manage.py", "simulate_cloud_api", "--port", "0", "--waba-id", "7"]
    with subprocess.Popen(program, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as running:
        found = requests.get(f"{address(running)}/7?access_token=sim-access-token", timeout=5).json()
        running.terminate()
        assert running.wait(10) == 0

    assert found["id"] == "7"


def test_it_ends_while_somebody_waits_for_an_answer():
    body = (
        '{"messaging_product":"whatsapp","to":"+447700900078","type":"template",'
        '"template":{"name":"season_greetings","language":{"code":"en_US"}}}'
    )
    with start() as running:
        url = address(running)
        host, port = url.split("/")[2].split(":")
        request = (
            f"POST /v25.0/200000000000001/messages HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer sim-access-token\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        )
        with socket.create_connection((host, int(port))) as waiting:
            waiting.sendall(request.encode())
            while requests.get(url.replace("/v25.0", "/simulator/summary"), timeout=5).json()["accepted"] == 0:
                pass

            running.terminate()

            assert running.wait(10) == 0
            assert running.stderr.read() == ""
