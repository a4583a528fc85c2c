"""`manage.py servers start|stop|status`: this checkout's PostgreSQL and Redis, left running until stopped."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from kaanha import servers


class Command(BaseCommand):
    help = (
        "Start, stop or look at the PostgreSQL and Redis of this checkout. Their data lies in .data, or where "
        "KAANHA_DATA_DIR says. What DATABASE_URL or REDIS_URL names is yours and left alone."
    )
    requires_system_checks: tuple[str, ...] = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("act", choices=["start", "stop", "status"], help="status ends with 3 if one is missing")
        parser.add_argument(
            "--redis-port", type=int, help="start Redis on this port; else on a free one, always the same"
        )
        parser.add_argument("--json", action="store_true", help="print status as JSON")

    def handle(self, *, act: str, redis_port: int | None, json: bool, **_: Any) -> None:
        try:
            if act == "start":
                servers.start(redis_port=redis_port)
            if act == "stop":
                self.stdout.write(_stopped(servers.stop()))
            else:
                self._report(servers.status(), as_json=json)
        except servers.ServerError as error:
            raise CommandError(str(error), returncode=2) from None

    def _report(self, status: dict[str, dict[str, Any]], *, as_json: bool) -> None:
        self.stdout.write(json.dumps(status, indent=2) if as_json else "\n".join(_lines(status)))
        if any(server["state"] == "stopped" for server in status.values()):
            raise SystemExit(3)


def _lines(status: dict[str, dict[str, Any]]) -> list[str]:
    return [_line(variable, server) for variable, server in status.items()]


def _line(variable: str, server: dict[str, Any]) -> str:
    match server["state"]:
        case "given":
            return f"{server['name']} is yours: {variable} is set."
        case "running":
            return f"{server['name']} runs as process {server['pid']}: {variable}={server['url']}"
        case _:
            return f"{server['name']} is stopped. Start it with: manage.py servers start"


def _stopped(names: list[str]) -> str:
    return f"Stopped {' and '.join(names)}." if names else "Nothing was running."
