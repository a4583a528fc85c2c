"""The web process: admin, API and Meta's callbacks."""

import os

from django.core.wsgi import get_wsgi_application

from kaanha.lib import garbage

SETTLED = 200  # requests

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kaanha.settings")

application = get_wsgi_application()
garbage.spare_what_is_loaded()
garbage.spare_again_after(SETTLED)
