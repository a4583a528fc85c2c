"""Where a benchmark runs: the machine, the versions of what takes part, and the commit."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.db import connection
from redis import Redis

CHECKOUT = Path(__file__).resolve().parent.parent


def machine() -> dict[str, Any]:
    """Cores that we may use, the processor's name, memory in gigabytes."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu": names[0] if names else platform.processor(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
    }


def versions() -> dict[str, str]:
    """Of the servers and libraries, and whether PostgreSQL waits for the disk."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('server_version'), current_setting('fsync')")
        postgres, fsync = cursor.fetchone()
    told: dict[str, Any] = Redis.from_url(settings.REDIS_URL).info("server")
    name = "Valkey" if "valkey_version" in told else "Redis"
    return {
        "Python": platform.python_version(),
        "Django": django.get_version(),
        "PostgreSQL": f"{postgres}, fsync {fsync}",
        "Redis": f"{name} {told.get('valkey_version', told['redis_version'])}",
    }


def commit() -> str:
    """The commit that is checked out, with a + where files were changed since; empty outside of a repository."""
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],  # noqa: S607
            cwd=CHECKOUT, check=True, capture_output=True, text=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return ""
    return told.stdout.strip()


def load() -> float:
    """How many processes have wanted to run, on average over the last minute: what others did meanwhile, too."""
    return round(os.getloadavg()[0], 2)
