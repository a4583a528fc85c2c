"""The web process: admin, API and Meta's callbacks."""

import os

from django.core.wsgi import get_wsgi_application

import kaanha.celery  # noqa: F401 — pages poke workers
from kaanha.lib import garbage

SETTLED = 200  # requests

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kaanha.settings")

django = get_wsgi_application()

from kaanha.inbound.short_way import ShortWay  # noqa: E402 — it reads models, which Django has loaded now

application = ShortWay(django)
garbage.spare_what_is_loaded()
garbage.spare_again_after(SETTLED)
