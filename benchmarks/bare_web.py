"""The least that takes a callback: Django without middleware, and a view that stores the body and nothing else.

DJANGO_SETTINGS_MODULE=benchmarks.bare_web granian kaanha.wsgi:application --interface wsgi
"""

from __future__ import annotations

from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import path

from kaanha.settings import *  # noqa: F403 — the product's own but for the three below

MIDDLEWARE = []
ROOT_URLCONF = "benchmarks.bare_web"
ALLOWED_HOSTS = ["127.0.0.1"]


def store(request: HttpRequest, app: int) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute(_STORE, [app, request.read()])
    return HttpResponse("", headers={"Content-Length": "0"})


_STORE = "INSERT INTO inbound_callback (app_id, body, received_at, applied_at) VALUES (%s, %s, now(), now())"
urlpatterns = [path("callbacks/<int:app>", store)]
