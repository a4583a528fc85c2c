"""What browsers are told about each answer: what may run in it, who may frame it, what may be kept of it."""

from __future__ import annotations

from typing import Any

from csp.constants import HEADER, NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from csp.middleware import CSPMiddleware, PolicyParts
from django.http import HttpRequest, HttpResponseBase

# Answers for programs: nothing in them ever runs, or is shown.
PROGRAMS = ("/api", "/callbacks/", "/health")
DOCS = "/api/docs"

Policy = dict[str, Any]

NOTHING: Policy = {
    "default-src": [NONE],
    "base-uri": [NONE],
    "form-action": [NONE],
    "frame-ancestors": [NONE],
}
_NOTHING_TEXT = "; ".join(f"{directive} {NONE}" for directive in NOTHING)
# Scripts come from files of ours alone, so that nobody's name or message ever becomes one.
READING: Policy = {
    **NOTHING,
    "script-src": [SELF],
    "style-src": [SELF, UNSAFE_INLINE],
    "img-src": [SELF, "data:"],
    "font-src": [SELF],
    "connect-src": [SELF],
    "object-src": [NONE],
}
PAGES: Policy = {
    **READING,
    "script-src": [SELF, UNSAFE_EVAL],  # Alpine, with which the admin's theme is written, evaluates its attributes
    "base-uri": [SELF],
    "form-action": [SELF],
    "manifest-src": [SELF],
}
# Nothing of these is used by any page.
PERMISSIONS = ", ".join(
    f"{feature}=()"
    for feature in (
        "accelerometer", "autoplay", "camera", "display-capture", "encrypted-media", "geolocation", "gyroscope",
        "magnetometer", "microphone", "midi", "payment", "picture-in-picture", "screen-wake-lock", "usb",
        "xr-spatial-tracking",
    )
)  # fmt: skip


class BrowserRules(CSPMiddleware):
    """Middleware: a Content-Security-Policy by the address, and the headers that go with it.

    A view that needs another policy says so with the decorators of django-csp.
    """

    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        if parts.config is None and not report_only:
            parts.config = policy(request.path_info)
        return parts

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if request.path_info.startswith(PROGRAMS) and not request.path_info.startswith(DOCS):
            # The same each time: django-csp would copy it and put it together anew for each of Meta's callbacks.
            response.headers.setdefault(HEADER, _NOTHING_TEXT)
        else:
            response = super().process_response(request, response)
        response.headers.setdefault("Permissions-Policy", PERMISSIONS)
        response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        if request.path_info.startswith(PROGRAMS):
            response.headers.setdefault("Cache-Control", "no-store")
        return response


def policy(path: str) -> Policy:
    """What may run in the answer at this path."""
    if path.startswith(DOCS):
        return READING
    return NOTHING if path.startswith(PROGRAMS) else PAGES
