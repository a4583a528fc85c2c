"""What a request to a page may be, judged before anything reads it; and the pages that say so.

The API and Meta's callbacks bound their bodies themselves, with answers of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from django.conf import settings
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation, TooManyFieldsSent, TooManyFilesSent
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.template.loader import render_to_string

from contacts.import_admin import UPLOAD_MB
from kaanha.browser_rules import PROGRAMS

MEGABYTE = 1024 * 1024
UPLOADS = "/admin/contacts/import/add/"
AROUND_A_FILE = MEGABYTE  # bytes of an upload that aren't the file
TOO_MUCH = (RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent)


class RequestLimits:
    """Middleware: 413 for a body that is too large, by what the request says of it, and 400 for zero bytes.

    Without it whoever has no account could have a file of any size written to this machine's disk: Django reads a form
    before it knows who sends it. A body that doesn't say its length isn't read at all.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if "\0" in request.path_info and not request.path_info.startswith("/api"):
            raise Http404  # PostgreSQL keeps no such text: nothing has this name
        if request.path_info.startswith(PROGRAMS):
            return self.get_response(request)
        if "%00" in request.META.get("QUERY_STRING", ""):
            raise SuspiciousOperation("The address holds a zero byte.")
        if _length(request) > _most(request):
            return too_much(request)
        return self.get_response(request)


def too_much(request: HttpRequest) -> HttpResponse:
    """413: less of it may be sent."""
    most = _most(request) / MEGABYTE
    sentence = f"That was more than a page takes: {most:.1f} MB, or {settings.DATA_UPLOAD_MAX_NUMBER_FIELDS:,} fields."
    context = {"title": "Too much at once", "sentence": f"{sentence} Send less, or use a command or the API."}
    page = render_to_string("error.html", context, request)
    return HttpResponse(page, status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def _length(request: HttpRequest) -> int:
    said = request.META.get("CONTENT_LENGTH") or "0"
    return int(said) if said.isdecimal() else 0  # what Django itself makes of it


def _most(request: HttpRequest) -> int:
    if request.path_info == UPLOADS:
        return UPLOAD_MB * MEGABYTE + AROUND_A_FILE
    return int(settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0)
