"""The same application for an ASGI server; no view is async, so WSGI is the usual choice."""

import os

from django.core.asgi import get_asgi_application

import kaanha.celery  # noqa: F401 — pages poke workers

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kaanha.settings")

application = get_asgi_application()
