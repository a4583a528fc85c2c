"""What a load balancer hears, and what a superuser sees."""

from datetime import timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone

from kaanha import diagnosis
from kaanha.diagnosis import Diagnosis, Finding
from kaanha.operations import heartbeats
from tests.factories import OrganizationFactory
from tests.people import signed_in, superuser

pytestmark = pytest.mark.django_db


def test_health_is_one_word_for_anybody(client, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"  # pages are served without it
    settings.SECURE_SSL_REDIRECT = True

    answer = client.get("/health")

    assert (answer.status_code, answer.content) == (200, b"ok")
    assert "no-store" in answer["Cache-Control"]


def test_without_postgresql_it_is_unavailable(client, monkeypatch):
    def away():
        raise OperationalError("gone")

    monkeypatch.setattr("kaanha.health.connection.cursor", away)

    assert client.get("/health").status_code == 503


def test_a_superuser_sees_findings_and_processes(monkeypatch):
    now = timezone.now()
    finding = Finding("x", "error", 3, "Three <things> stand still.", "Push them.")
    monkeypatch.setattr(diagnosis, "examine", lambda **_: Diagnosis([finding]))
    heartbeats.beat("worker", "send@here", started_at=now, now=now, lanes=["send"])
    heartbeats.beat("worker", "gone@here", started_at=now, now=now - timedelta(minutes=5))

    page = superuser().get("/admin/system/").content.decode()

    assert "Three &lt;things&gt; stand still." in page
    assert "Push them." in page
    assert "Something needs a person" in page
    assert "Worker send@here" in page
    assert page.count("silent") == 1


def test_nobody_else_sees_it(client):
    assert client.get("/admin/system/").status_code == 302
    assert signed_in(OrganizationFactory()).get("/admin/system/").status_code == 403
