"""Environment variables as the settings want them. What can't be used is refused by its name, with what to set."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Any
from urllib.parse import SplitResult, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

env = environ.Env()

LONGEST = 10 * 365 * 86_400  # seconds; what is longer is a slip of the keyboard
DATABASE_SCHEMES = ("postgresql", "postgres", "pgsql", "psql")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def choice(name: str, choices: Collection[str], *, default: str) -> str:
    """One of `choices`."""
    value = env.str(name, default=default)
    if value not in choices:
        *most, last = choices
        raise ImproperlyConfigured(f"{name} is {value!r}: set it to {', '.join(most)} or {last}.")
    return str(value)


def whole(name: str, *, default: int, least: int = 0) -> int:
    """A whole number, `least` or more."""
    value = env.str(name, default="").strip() or str(default)
    if not value.isascii() or not value.isdigit() or not least <= int(value) < LONGEST:
        raise ImproperlyConfigured(f"{name} is {value!r}: set it to a whole number, {least} or more.")
    return int(value)


def seconds(name: str, *, default: float) -> float:
    """How long something takes: a number, 0 or more."""
    value = env.str(name, default="").strip() or str(default)
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number < LONGEST:  # so is no comparison with nan
        raise ImproperlyConfigured(f"{name} is {value!r}: set it to a number of seconds, such as {default}.")
    return number


def database(name: str, *, default: str) -> dict[str, Any]:
    """Django's settings of a PostgreSQL. The address isn't repeated when it is refused, for it holds a password."""
    url = env.str(name, default="") or default
    parts = _split(url)
    found: dict[str, Any] = env.db_url_config(url) if parts and parts.scheme in DATABASE_SCHEMES else {}
    if not found.get("NAME"):
        raise ImproperlyConfigured(
            f"{name} is no address of a PostgreSQL database: set it to postgresql://USER:PASSWORD@HOST:5432/NAME."
        )
    return {**found, "ENGINE": "django.db.backends.postgresql"}


def redis(name: str, *, default: str) -> str:
    """The address of a Redis."""
    url = str(env.str(name, default="") or default)
    parts = _split(url)
    if not parts or parts.scheme not in ("redis", "rediss") or not re.fullmatch(r"(/\d*)?", parts.path):
        raise ImproperlyConfigured(f"{name} is no address of a Redis: set it to redis://:PASSWORD@HOST:6379/0.")
    return url


def email(name: str, *, default: str) -> dict[str, Any]:
    """Django's settings of a mail server. The address isn't repeated when it is refused, for it holds a password."""
    url = str(env.str(name, default="") or default)
    parts = _split(url)
    if not parts or parts.scheme not in env.EMAIL_SCHEMES or (parts.scheme.startswith("smtp") and not parts.hostname):
        raise ImproperlyConfigured(
            f"{name} is no address of a mail server: set it to smtp+tls://USER:PASSWORD@HOST:587."
        )
    found: dict[str, Any] = env.email_url_config(url)
    return found


def web(name: str, *, default: str) -> str:
    """An address in the web, without a slash at its end."""
    url = str(env.str(name, default="") or default)
    parts = _split(url)
    if not parts or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ImproperlyConfigured(f"{name} is {url!r}: set it to an address such as {default}.")
    return url.rstrip("/")


def _split(url: str) -> SplitResult | None:
    """The parts of an address; None where it is none."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 — raises for what is no port
    except ValueError:
        return None
    return parts
