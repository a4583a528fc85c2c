"""Where Meta posts. The body is on disk before the answer: Meta never tells the same thing to somebody who said 200."""

from __future__ import annotations

import hmac
import logging

from django.conf import settings
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from kaanha.inbound import addresses, waking
from kaanha.inbound.models import Callback
from kaanha.whatsapp.cloud_api import signature
from kaanha.whatsapp.models import MetaApp

logger = logging.getLogger(__name__)


@csrf_exempt
@require_http_methods(["GET", "POST"])
def callback(request: HttpRequest, callback_key: str) -> HttpResponse:
    """Meta's handshake (GET) and its callbacks (POST) for one app.

    GET: 200 with the bare challenge, 403 for a wrong verify token. POST: 200 once the body is committed, 401 for a bad
    signature, 413 beyond Meta's 3 MB. 404 for an unknown address. Source: Webhooks, "Getting started".
    """
    return _verify(request, callback_key) if request.method == "GET" else _store(request, callback_key)


def _verify(request: HttpRequest, callback_key: str) -> HttpResponse:
    app = MetaApp.objects.filter(callback_key=callback_key).first()
    if app is None:
        return _nobody()
    asked = request.GET.get("hub.verify_token", "")
    if request.GET.get("hub.mode") != "subscribe" or not hmac.compare_digest(asked.encode(), app.verify_token.encode()):
        return HttpResponse("The verify token is not ours.", status=403, content_type="text/plain")
    return HttpResponse(request.GET.get("hub.challenge", ""), content_type="text/plain")


def _store(request: HttpRequest, callback_key: str) -> HttpResponse:
    app = addresses.known(callback_key)
    if app is None:
        return _nobody()
    length = request.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > settings.CALLBACK_MAX_BYTES:
        return _too_large()
    # Read from the stream: request.body would refuse at Django's own, smaller limit.
    body = request.read(settings.CALLBACK_MAX_BYTES + 1)
    if len(body) > settings.CALLBACK_MAX_BYTES:
        return _too_large()
    signed = request.headers.get("X-Hub-Signature-256")
    if not signature.valid(signed, body, app.secrets):
        app = addresses.look_up(callback_key)
        if app is None:
            return _nobody()
        if not signature.valid(signed, body, app.secrets):
            logger.warning("A callback for %s came with a bad signature and was refused", app.name)
            return HttpResponse("The signature does not match.", status=401, content_type="text/plain")
    try:
        Callback.store(app.app, body, at=timezone.now())
    except IntegrityError:  # deleted within the seconds that it was remembered
        return _nobody()
    waking.wake()
    return HttpResponse("", content_type="text/plain")


def _nobody() -> HttpResponse:
    return HttpResponse("No app has this callback address.", status=404, content_type="text/plain")


def _too_large() -> HttpResponse:
    return HttpResponse("The body is larger than 3 MB.", status=413, content_type="text/plain")
