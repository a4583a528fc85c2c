"""What production refuses to start with. Each case is a process of its own, for settings are read once."""

import json
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
AWAY = "postgresql://127.0.0.1:1/kaanha"


def check(*options, **changed):
    environment = {key: value for key, value in os.environ.items() if key not in GOOD} | GOOD | changed
    return manage("check", *options, environment=environment)


def manage(*arguments, environment, program=("manage.py",)):
    wanted = {key: value for key, value in environment.items() if value is not None}
    command = [sys.executable, *program, *arguments]
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


def test_no_webhook_reaches_this_machine_in_production():
    assert "WEBHOOKS_ALLOW_LOOPBACK is for development" in check(WEBHOOKS_ALLOW_LOOPBACK="true").stderr


def test_an_unknown_mode_is_refused():
    assert "set it to development or production" in check(KAANHA_ENV="staging").stderr


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("DATABASE_URL", "foo", "DATABASE_URL is no address of a PostgreSQL database"),
        ("DATABASE_URL", "postgresql://127.0.0.1:notaport/x", "DATABASE_URL is no address of a PostgreSQL database"),
        ("DATABASE_URL", "postgresql://user:hush@127.0.0.1", "DATABASE_URL is no address of a PostgreSQL database"),
        ("DATABASE_URL", "mysql://user:hush@127.0.0.1/x", "DATABASE_URL is no address of a PostgreSQL database"),
        ("REDIS_URL", "foo", "REDIS_URL is no address of a Redis"),
        ("REDIS_URL", "redis://:hush@127.0.0.1:x/0", "REDIS_URL is no address of a Redis"),
        ("REDIS_URL", "redis://127.0.0.1:6379/zero", "REDIS_URL is no address of a Redis"),
        ("EMAIL_URL", "mail.example.test", "EMAIL_URL is no address of a mail server"),
        ("EMAIL_URL", "smtp+tls://me:hush@:587", "EMAIL_URL is no address of a mail server"),
        ("KAANHA_ENV", "prodd", "KAANHA_ENV is 'prodd': set it to development or production."),
        ("PUBLIC_URL", "kaanha.example", "PUBLIC_URL is 'kaanha.example': set it to an address such as http://"),
        ("WHATSAPP_API_URL", "https:///v25.0", "WHATSAPP_API_URL is 'https:///v25.0': set it to an address such as"),
        ("SEND_SLOTS", "0", "SEND_SLOTS is '0': set it to a whole number, 1 or more."),
        ("DATABASE_POOL_SIZE", "-1", "DATABASE_POOL_SIZE is '-1': set it to a whole number, 0 or more."),
        ("SECURE_HSTS_SECONDS", "1 year", "SECURE_HSTS_SECONDS is '1 year': set it to a whole number, 0 or more."),
        ("SEND_LEASE_SECONDS", "long", "SEND_LEASE_SECONDS is 'long': set it to a number of seconds, such as 60."),
        (
            "CALLBACK_LEASE_SECONDS",
            "nan",
            "CALLBACK_LEASE_SECONDS is 'nan': set it to a number of seconds",
        ),
        ("WHATSAPP_TIMEOUT_SECONDS", "inf", "WHATSAPP_TIMEOUT_SECONDS is 'inf': set it to a number of seconds"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL is 'loud': set it to DEBUG, INFO, WARNING, ERROR or CRITICAL."),
        ("SECRET_KEY", None, "SECRET_KEY is missing"),
    ],
)
def test_what_can_not_be_used_is_one_sentence_without_passwords(name, value, sentence):
    done = check(**{name: value})

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") == 1
    assert "hush" not in done.stderr


def test_an_empty_address_counts_as_none():
    assert check(REDIS_URL="", DATABASE_URL="", WHATSAPP_API_URL="", SEND_SLOTS="").returncode == 0


@pytest.mark.parametrize("command", ["migrate", "createsuperuser", "list_organizations"])
def test_a_database_that_is_away_is_one_sentence(command):
    done = manage(command, environment=os.environ | {"DATABASE_URL": AWAY})

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("PostgreSQL can't be reached at 127.0.0.1:1; start it with: ")
    assert done.stderr.count("\n") == 1


def test_with_traceback_a_command_tells_everything():
    done = manage("migrate", "--traceback", environment=os.environ | {"DATABASE_URL": AWAY})

    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [("KAANHA_ENV", "prodd", "KAANHA_ENV is"), ("DATABASE_URL", AWAY, "PostgreSQL can't")],
)
def test_the_demo_says_it_in_its_json_too(name, value, sentence):
    done = manage(environment=os.environ | {name: value}, program=("-m", "kaanha.demo"))

    result = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, result["ok"]) == (2, False)
    assert result["error"].startswith(sentence)
    assert done.stderr == result["error"] + "\n"


def test_with_every_secret_production_starts_and_is_fit_to_deploy():
    done = check("--deploy", "--fail-level", "WARNING")

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("keys", ["y" * 60 + ",", ",", "y" * 60 + ",,old"])
def test_an_empty_key_is_no_key(keys):
    assert check(ENCRYPTION_KEYS=keys).stderr.startswith("ENCRYPTION_KEYS holds an empty key")


def test_the_first_key_is_no_guess():
    assert check(ENCRYPTION_KEYS="y" * 31).stderr.startswith("The first of ENCRYPTION_KEYS is")
    assert check(ENCRYPTION_KEYS="development-only-encryption-key,y").returncode == 2
    # it may be there to be rotated away from
    assert check(ENCRYPTION_KEYS="y" * 32 + " , development-only-encryption-key").returncode == 0
