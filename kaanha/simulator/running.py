"""A simulator for tests and programs: it serves from a thread of this process."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from typing import Any, Self
from urllib.parse import urlencode

from kaanha.simulator.options import Options
from kaanha.simulator.server import Server
from kaanha.simulator.switches import camel

VERSION = "v25.0"
START_WITHIN = 20.0  # seconds


class Simulator:
    """Meta on a free port, from entering the `with` (or `start`) to leaving it (or `stop`).

    Takes the options of `Options` (`access_token=…`, `waba_id=…`, `templates=[…]`) and, as further keywords, any switch
    (`speed=50`, `latency=0.2`, `throughput=80`):

        with Simulator(speed=50) as meta:
            ...  # WHATSAPP_API_URL = meta.url
            meta.subscribe(callback_url, verify_token)
            assert meta.wait_idle() and meta.summary()["twice"] == 0
    """

    def __init__(self, *, port: int = 0, settings: dict[str, Any] | None = None, **more: Any) -> None:
        known = {name: more.pop(name) for name in list(more) if name in Options.__slots__}
        self.options = Options(port=port, settings={**(settings or {}), **more}, **known)
        self._server = Server(self.options)
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Serve; on return requests are answered. Raises CannotStart."""
        self._thread = threading.Thread(target=self._run, name="simulated-cloud-api", daemon=True)
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(self._server.start(), self._loop)
        try:
            starting.result(START_WITHIN)
        except BaseException:
            self._end_loop()
            raise
        return self

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def stop(self) -> None:
        """Stop serving; callbacks that have not gone out are lost."""
        if self._thread is not None:
            asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result(START_WITHIN)
            self._end_loop()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread is not None:
            self._thread.join(START_WITHIN)
            self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def base(self) -> str:
        """http://host:port without a path."""
        return f"http://{self.options.host}:{self.port}"

    @property
    def url(self) -> str:
        """Meta's address with its version: the value of WHATSAPP_API_URL."""
        return f"{self.base}/{VERSION}"

    @property
    def control(self) -> str:
        """The address of the control endpoints."""
        return f"{self.base}/simulator"

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Ask a control endpoint such as "/summary". Raises ValueError with the sentence of a refusal."""
        connection = http.client.HTTPConnection(self.options.host, self.port, timeout=60)
        given = {camel(name): value for name, value in query.items() if value is not None}
        try:
            connection.request(
                method,
                f"/simulator{path}" + (f"?{urlencode(given)}" if given else ""),
                body=None if body is None else json.dumps(body),
                headers={"Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            found = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != 200:
            raise ValueError(found["error"])
        return found

    def summary(self) -> dict[str, Any]:
        """Counts of everything accepted, refused and told."""
        return dict(self.call("GET", "/summary"))

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Turn switches, in either spelling, and answer them all."""
        return dict(self.call("POST", "/settings", changes) if changes else self.call("GET", "/settings"))

    def messages(
        self, *, to: str | None = None, template: str | None = None, limit: int = 100_000
    ) -> list[dict[str, Any]]:
        """The accepted messages, oldest first."""
        return list(self.call("GET", "/messages", to=to, template=template, limit=limit)["data"])

    def recipients(self, *, wa_id: str | None = None, limit: int = 100_000) -> list[dict[str, Any]]:
        """Counts per person."""
        return list(self.call("GET", "/recipients", wa_id=wa_id, limit=limit)["data"])

    def requests(self, limit: int = 100) -> list[dict[str, Any]]:
        """The last requests to Graph, newest first."""
        return list(self.call("GET", "/requests", limit=limit)["data"])

    def subscribe(self, callback_url: str, verify_token: str) -> None:
        """Do the handshake and send callbacks there. Raises ValueError with what went wrong."""
        self.call("POST", "/subscription", {"callbackUrl": callback_url, "verifyToken": verify_token})

    def unsubscribe(self) -> None:
        """Send no more callbacks; what is being posted still goes out."""
        self.call("POST", "/subscription", {"callbackUrl": None})

    def inbound(self, sender: str, text: str | None = None, **more: Any) -> str:
        """Make a person write (`text`, `button`, `message`; `quote`, `name`, `phone_number_id`, `without_number`).

        Answers the wamid.
        """
        body = {"from": sender, "text": text} | {camel(name): value for name, value in more.items()}
        return str(self.call("POST", "/inbound", body)["wamid"])

    def preference(self, wa_id: str, value: str) -> None:
        """Make a person turn WhatsApp's own marketing switch: stop or resume."""
        self.call("POST", "/preferences", {"waId": wa_id, "value": value})

    def template(self, name: str, language: str, **changes: Any) -> dict[str, Any]:
        """Change a template as Meta would (`status`, `category`, `quality`, `components`), with its callback."""
        return dict(self.call("POST", "/template", {"name": name, "language": language} | changes))

    def event(self, field: str, value: dict[str, Any]) -> None:
        """Send any other callback."""
        self.call("POST", "/event", {"field": field, "value": value})

    def wait_idle(self, seconds: float = 30) -> bool:
        """Wait until every event has been told; False if that took longer."""
        return bool(self.call("GET", "/idle", wait=seconds)["idle"])

    def reset(self) -> None:
        """Begin anew; the subscription stays."""
        self.call("POST", "/reset", {})
