"""The Celery application: three lanes (send, callbacks, default) over one broker."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kaanha.settings")

app = Celery("kaanha")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.set_default()  # for the threads of a web process too: pokes go to our broker
