"""The web process: admin, API and Meta's callbacks."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kaanha.settings")

application = get_wsgi_application()
