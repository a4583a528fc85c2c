"""A simulator for each test, and somebody for it to call back."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from kaanha.simulator import Simulator

PHONE_ID = "200000000000001"
WABA_ID = "300000000000001"
VERIFY_TOKEN = "sample-verify-token"


class Receiver(ThreadingHTTPServer):
    """Takes callbacks. `answers`: the HTTP statuses of the next ones, 200 when used up."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Taking)
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.handshakes: list[dict[str, list[str]]] = []
        self.wrong_challenge: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(raw) for _, raw in self.posts]

    def changes(self, field: str) -> list[dict[str, Any]]:
        return [
            change["value"]
            for body in self.bodies
            for entry in body["entry"]
            for change in entry["changes"]
            if change["field"] == field
        ]

    def statuses(self) -> list[dict[str, Any]]:
        return [status for value in self.changes("messages") for status in value.get("statuses", ())]

    def inbound(self) -> list[dict[str, Any]]:
        return [message for value in self.changes("messages") for message in value.get("messages", ())]


class _Taking(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        self.server.handshakes.append(query)
        right = query["hub.verify_token"] == [VERIFY_TOKEN]
        body = (self.server.wrong_challenge or query["hub.challenge"][0]) if right else "no"
        self._answer(200 if right else 403, body.encode())

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts.append((dict(self.headers), raw))
        self._answer(self.server.answers.pop(0) if self.server.answers else 200, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Not in the output of the tests."""


class Client:
    """Somebody who sends through the simulator as through Meta."""

    def __init__(self, meta: Simulator, token: str) -> None:
        self.meta = meta
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {token}"

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        return self.session.request(method, f"{self.meta.url}/{path}", timeout=20, **more)

    def post(self, body: Any, *, phone_id: str = PHONE_ID, **more: Any) -> requests.Response:
        return self.call("POST", f"{phone_id}/messages", json=body, **more)

    def send(self, to: str, template: str = "autumn_sale", *parameters: Any, **more: Any) -> requests.Response:
        """Send a template; without `parameters` or `components` the autumn sale gets its two texts."""
        if not parameters and template == "autumn_sale":
            parameters = ("Asha", "30 November")
        return self.post(template_message(to, template, *parameters, **more))

    def error(self, answer: requests.Response) -> tuple[int, int, str | None]:
        """HTTP status, code and details of a refusal."""
        error = answer.json()["error"]
        return answer.status_code, error["code"], error.get("error_data", {}).get("details")


def template_message(
    to: str,
    name: str = "autumn_sale",
    *parameters: Any,
    language: str = "en_US",
    components: list[dict[str, Any]] | None = None,
    opaque: Any = None,
) -> dict[str, Any]:
    """A template message with body parameters: texts, or whole parameter objects."""
    if components is None:
        whole = [each if isinstance(each, dict) else {"type": "text", "text": each} for each in parameters]
        components = [{"type": "body", "parameters": whole}] if whole else []
    template: dict[str, Any] = {"name": name, "language": {"code": language}, "components": components}
    body = {"messaging_product": "whatsapp", "to": to, "type": "template", "template": template}
    return body | ({} if opaque is None else {"biz_opaque_callback_data": opaque})


@pytest.fixture
def meta() -> Iterator[Simulator]:
    # One callback at a time: with several on their way even one message's statuses overtake each other.
    with Simulator(speed=100, concurrency=1) as simulator:
        yield simulator


@pytest.fixture
def client(meta: Simulator) -> Iterator[Client]:
    client = Client(meta, "sim-access-token")
    yield client
    client.session.close()


@contextmanager
def serving(port: int) -> Iterator[Receiver]:
    """A receiver on this port, 0 for any."""
    receiver = Receiver(port)
    thread = threading.Thread(target=receiver.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.shutdown()
        receiver.server_close()
        thread.join(5)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with serving(0) as receiver:
        yield receiver


@pytest.fixture
def subscribed(meta: Simulator, receiver: Receiver) -> Receiver:
    """The receiver, once it has subscribed."""
    meta.subscribe(receiver.url, VERIFY_TOKEN)
    return receiver
