"""What production refuses to start with. Each case is a process of its own, for settings are read once."""

import os
import subprocess
import sys

import pytest

GOOD = {
    "KAANHA_ENV": "production",
    "SECRET_KEY": "a-long-and-varied-text-0123456789-for-tests-only-abcdefgh",
    "ENCRYPTION_KEYS": "y" * 60,
    "PUBLIC_ID_KEY": "z" * 60,
    "ALLOWED_HOSTS": "kaanha.example",
    "PUBLIC_URL": "https://kaanha.example",
}


def check(*options, **changed):
    environment = {key: value for key, value in os.environ.items() if key not in GOOD} | GOOD | changed
    wanted = {key: value for key, value in environment.items() if value is not None}
    command = [sys.executable, "manage.py", "check", *options]
    return subprocess.run(command, env=wanted, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["SECRET_KEY", "ENCRYPTION_KEYS", "PUBLIC_ID_KEY", "ALLOWED_HOSTS"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_secret_is_named(name, value):
    done = check(**{name: value})

    assert done.returncode != 0
    assert f"{name} is missing" in done.stderr


def test_the_development_default_is_no_secret():
    done = check(SECRET_KEY="development-only-secret-key-of-kaanha-never-for-production")

    assert done.returncode != 0
    assert "SECRET_KEY is missing or still the development default" in done.stderr


def test_a_timeout_longer_than_the_lease_is_refused():
    done = check(WHATSAPP_TIMEOUT_SECONDS="60")

    assert "WHATSAPP_TIMEOUT_SECONDS must be at least 2 s shorter than SEND_LEASE_SECONDS" in done.stderr


def test_an_unknown_mode_is_refused():
    assert "set it to development or production" in check(KAANHA_ENV="staging").stderr


def test_with_every_secret_production_starts_and_is_fit_to_deploy():
    done = check("--deploy", "--fail-level", "WARNING")

    assert (done.returncode, done.stderr) == (0, "")
