"""`manage.py servers start|stop|status`: this checkout's PostgreSQL and Redis, left running until stopped."""

from typing import Any

from django.core.management.base import CommandParser

from kaanha import servers
from kaanha.lib.commands import KaanhaCommand

MISSING = 3  # exit code of `status` when a server is stopped; as pg_ctl's


class Command(KaanhaCommand):
    help = (
        "Start, stop or look at the PostgreSQL and Redis of this checkout. Their data lies in .data, or where "
        "KAANHA_DATA_DIR says. What DATABASE_URL or REDIS_URL names is yours and left alone."
    )
    requires_system_checks: tuple[str, ...] = ()

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True)
        start = acts.add_parser("start", help="start what is missing and leave it running")
        start.add_argument("--redis-port", type=int, help="the port of Redis; by default a free one, always the same")
        acts.add_parser("stop", help="stop what `start` started; the data stays")
        acts.add_parser("status", help=f"say what runs and where; exit code {MISSING} when a server is stopped")

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        if options["act"] == "status" and any(server["state"] == "stopped" for server in servers.status().values()):
            raise SystemExit(MISSING)

    def perform(self, *, act: str, redis_port: int | None = None, **_: Any) -> dict[str, dict[str, Any]]:
        if act == "start":
            servers.start(redis_port=redis_port)
        if act == "stop":
            servers.stop()
        return servers.status()

    def tell(self, result: dict[str, dict[str, Any]]) -> None:
        for variable, server in result.items():
            self.stdout.write(_sentence(variable, server))


def _sentence(variable: str, server: dict[str, Any]) -> str:
    match server["state"]:
        case "given":
            return f"{server['name']} is yours: {variable} is set."
        case "running":
            return f"{server['name']} runs as process {server['pid']}: {variable}={server['url']}"
        case _:
            return f"{server['name']} is stopped. Start it with: python manage.py servers start"
