"""The short way for Meta's callbacks: from the web server to the database, past all that Django does for a page.

It only takes what is fine: a signed body for an app that is remembered. All else (handshakes, unknown addresses, a bad
signature, a database in trouble) goes the long way to the view, which takes it or says what is wrong with it.
"""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import Error, connection
from django.utils import timezone

from kaanha.inbound import addresses, waking
from kaanha.inbound.models import Callback
from kaanha.whatsapp.cloud_api import signature

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]

PLACE = "/callbacks/"
PATIENCE = 1.0  # seconds that a body waits for others, whose app may be locked
HEADERS = (("Content-Type", "text/plain"), ("Content-Length", "0"))


class ShortWay:
    """A WSGI application before another, which gets what this one doesn't take."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.storing = Storing()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if environ["REQUEST_METHOD"] == "POST" and path.startswith(PLACE) and self._take(path[len(PLACE) :], environ):
            start_response("200 OK", list(HEADERS))
            return []
        return self.application(environ, start_response)

    def _take(self, callback_key: str, environ: dict[str, Any]) -> bool:
        """Store the body, if it is what it should be. If not, it can be read once more."""
        app = addresses.remembered(callback_key)
        length = environ.get("CONTENT_LENGTH") or ""
        if app is None or not length.isdecimal() or int(length) > settings.CALLBACK_MAX_BYTES:
            return False
        body = environ["wsgi.input"].read(int(length))
        signed = environ.get("HTTP_X_HUB_SIGNATURE_256")
        if signature.valid(signed, body, app.secrets) and self.storing.store(app.app, body):
            waking.wake()
            return True
        environ["wsgi.input"] = io.BytesIO(body)
        return False


@dataclass(slots=True)
class _Waiting:
    app: int
    body: bytes
    at: datetime
    stored: bool | None = None  # None: not tried yet
    withdrawn: bool = False


class Storing:
    """Bodies on their way to the database. Those that come while others are written are written together.

    A commit costs hardly more for eight than for one, and one connection of the pool does for all threads.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()
        self._writing = threading.Lock()

    def store(self, app: int, body: bytes) -> bool:
        """Whether the body is committed. Where one of those written together can't be, none of them is."""
        own = _Waiting(app, body, timezone.now())
        self._waiting.append(own)
        if not self._writing.acquire(timeout=PATIENCE):
            own.withdrawn = True  # should it be written this way all the same, it is stored twice: no harm
            return False
        try:
            if own.stored is None:
                together = [self._waiting.popleft() for _ in range(len(self._waiting))]
                self._write([one for one in together if not one.withdrawn])
        finally:
            self._writing.release()
        return bool(own.stored)

    def _write(self, together: list[_Waiting]) -> None:
        stored = False
        try:
            Callback.store_many([(one.app, one.body, one.at) for one in together])
            stored = True
        except Error:
            pass  # by the long way each is tried by itself
        finally:
            for one in together:
                one.stored = stored
            connection.close_if_unusable_or_obsolete()
