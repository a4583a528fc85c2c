"""`python -m kaanha.demo`, what `manage.py demo` runs: servers, processes and the simulated WhatsApp around the story.

A program of its own because the addresses of what it starts must be in the environment before Django is set up.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import django
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, InterfaceError
from rich.console import Console

from kaanha import embedded, processes, servers
from kaanha.embedded import ServerError
from kaanha.lib.commands import REFUSED, refusal_for, without_pool
from kaanha.lib.errors import Refusal
from kaanha.tied import leave_when_told

OFF = 1
PRINTED_WIDTH = 120  # where no terminal tells


def main() -> int:
    """Show the main job and check it; the last line printed is one JSON object. 0 when every number is right."""
    leave_when_told()
    started = time.monotonic()
    console = Console() if sys.stdout.isatty() else Console(width=PRINTED_WIDTH)
    try:
        with servers.running() as urls:
            result = _show(console, urls)
    except (Refusal, ServerError) as refusal:
        result = _refused(refusal)
    except (ImproperlyConfigured, DatabaseError, InterfaceError) as error:
        if not (unusable := refusal_for(error)):
            raise
        result = _refused(unusable)
    print(json.dumps(result | {"seconds": round(time.monotonic() - started, 1)}))  # noqa: T201
    return 0 if result["ok"] else REFUSED if "error" in result else OFF


def _refused(refusal: Exception) -> dict[str, Any]:
    print(refusal, file=sys.stderr)  # noqa: T201
    return {"ok": False, "error": str(refusal)}


def _show(console: Console, urls: Mapping[str, str]) -> dict[str, Any]:
    port, simulator_port = embedded.free_port(), embedded.free_port()
    os.environ |= dict(urls) | {
        "DJANGO_SETTINGS_MODULE": "kaanha.settings",
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        "WHATSAPP_API_URL": f"http://127.0.0.1:{simulator_port}/v25.0",
        # The simulated WhatsApp leaves some requests unanswered on purpose: don't wait long for them.
        "WHATSAPP_TIMEOUT_SECONDS": "5",
        # The sequence waits for seconds, not for hours.
        "SEQUENCE_MIN_DELAY_SECONDS": "1",
    }
    django.setup()
    without_pool()
    from django.core.management import call_command

    from kaanha.demo_story import Demo, Identity

    console.print("Starting web, workers, beat and the simulated WhatsApp …")
    call_command("migrate", verbosity=0)
    identity = Identity()
    simulator = processes.simulator(simulator_port, *identity.simulator_options())
    parts = (*processes.workers(), processes.web(port), simulator, processes.beat())
    with processes.Processes(servers.data_folder() / "demo-logs", say=console.print) as running:
        running.start(*parts)
        demo = Demo(f"http://127.0.0.1:{simulator_port}", identity, console)
        result = demo.run()
        running.check()
    return result


if __name__ == "__main__":
    sys.exit(main())
