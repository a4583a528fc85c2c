"""A request that says which one it is: sent again, it is answered as the first time, and nothing is done twice.

The answer is kept in the transaction of the act: there is never one without the other, whatever dies in between. Of two
that come at once, the second waits at the row of the first.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import OperationalError, connection, transaction
from django.http import Http404
from django.utils import timezone
from psycopg.errors import LockNotAvailable
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from kaanha.lib.api_json import Renderer
from kaanha.lib.errors import Refusal
from kaanha.organizations.models import KeptAnswer, Organization

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
WELL_FORMED = re.compile(r"[!-~]{1,255}")
KEPT = timedelta(hours=24)
PATIENCE = "10s"  # for the first of two that come at once
KEPT_HEADERS = ("ETag", "Location")

Handler = Callable[..., Response]


def once(
    request: Request, organization: Organization, handler: Handler, refused: Callable[[Exception], Response]
) -> Handler:
    """The handler, done once for the key that the request names; itself where it names none.

    `refused` makes an answer of an exception that is one; of any other nothing is kept. Refusal with 409 for a key
    that came with another request before, and where the first is still under way after ten seconds.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return handler
    if not WELL_FORMED.fullmatch(key):
        raise Refusal(
            f"{HEADER} has 1 to 255 visible ASCII letters, such as those of a UUID.", code="idempotency_key_malformed"
        )

    def guarded(request: Request, *args: Any, **kwargs: Any) -> Response:
        with transaction.atomic():
            kept, is_new = _claim(organization, key, digest(request))
            if not is_new:
                return _replay(kept)
            try:
                with transaction.atomic():
                    answer = handler(request, *args, **kwargs)
            except (Refusal, APIException, Http404, PermissionDenied) as error:
                answer = refused(error)
            if answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
                _keep(kept, answer)
            else:
                transaction.set_rollback(True)  # trouble that may be over the next time
        return answer

    return guarded


def drop_old(*, now: datetime) -> int:
    """Forget answers after 24 hours; how many."""
    return KeptAnswer.objects.filter(created_at__lt=now - KEPT).delete()[0]


def digest(request: Request) -> str:
    """What is the same for the same request: its method, address and what its body says, however it is written."""
    said = [request.method, request.get_full_path().rstrip("/"), request.data]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _claim(organization: Organization, key: str, digest: str) -> tuple[KeptAnswer, bool]:
    """The row of the key, and whether it is new."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [PATIENCE])
        try:
            cursor.execute(_CLAIM, [organization.pk, key, digest, timezone.now()])
        except OperationalError as error:
            if isinstance(error.__cause__, LockNotAvailable):
                raise Refusal(
                    "A request with this key is still under way. Send it again in a moment.",
                    code="idempotency_key_busy",
                ) from error
            raise
        is_new = cursor.rowcount == 1
        cursor.execute("SET LOCAL lock_timeout TO DEFAULT")
    kept: KeptAnswer = KeptAnswer.objects.of(organization).get(key=key)
    if kept.digest != digest:
        raise Refusal(
            "This key came with another request before. Use a new key for each request, the same only to repeat it.",
            code="idempotency_key_reused",
        )
    return kept, is_new


def _keep(kept: KeptAnswer, answer: Response) -> None:
    kept.status = answer.status_code
    kept.headers = {name: answer.headers[name] for name in KEPT_HEADERS if name in answer.headers}
    kept.body = "" if answer.data is None else Renderer().render(answer.data).decode()
    kept.save(update_fields=["status", "headers", "body"])


def _replay(kept: KeptAnswer) -> Response:
    body = json.loads(kept.body) if kept.body else None
    return Response(body, status=kept.status or HTTPStatus.OK, headers={**kept.headers, REPLAYED: "true"})


_CLAIM = """
INSERT INTO organizations_keptanswer (organization_id, key, digest, headers, body, created_at)
VALUES (%s, %s, %s, '{}', '', %s)
ON CONFLICT (organization_id, key) DO NOTHING
"""
