"""The short way for Meta's callbacks."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase

from kaanha.inbound import views

PLACE = "/callbacks/"


class ShortWay:
    """Middleware: callbacks go to their view from here, past sessions, accounts and forms, of which they have none.

    It stands behind what every answer goes through, and does for callbacks what the others would have done for them: an
    unknown host is refused, and the answer says its length.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        before, place, key = request.path_info.partition(PLACE)
        if before or not place or not key or "/" in key:
            return self.get_response(request)
        request.get_host()
        response = views.callback(request, key)
        response.headers["Content-Length"] = str(len(response.content))
        return response
