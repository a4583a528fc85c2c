"""`manage.py run`: the whole product on this machine, against the simulated WhatsApp, until Ctrl-C."""

import json
import os
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from kaanha import processes, sample, servers
from kaanha.lib.commands import REFUSED
from kaanha.lib.errors import Refusal
from kaanha.tied import leave_when_told


class Command(BaseCommand):
    help = "Run everything on this machine until Ctrl-C: servers, web, workers, beat and the simulated WhatsApp."
    requires_system_checks: tuple[str, ...] = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="the port of the admin and the API")
        parser.add_argument("--simulator-port", type=int, default=9100, help="the port of the simulated WhatsApp")

    def handle(self, *, port: int, simulator_port: int, **_: Any) -> None:
        leave_when_told()
        try:
            if settings.PRODUCTION:
                raise Refusal("`run` is for development; in production each process runs by itself.")
            _refuse_if_taken(port, "--port")
            _refuse_if_taken(simulator_port, "--simulator-port")
            self._run(port=port, simulator_port=simulator_port)
        except Refusal as refusal:
            self.stderr.write(str(refusal))
            raise SystemExit(REFUSED) from None
        except KeyboardInterrupt:
            self._say("Stopped.")

    def _run(self, *, port: int, simulator_port: int) -> None:
        folder = servers.data_folder()
        self._say("Starting PostgreSQL and Redis …")
        with servers.running(folder) as urls:
            environment = _addresses(port, simulator_port) | urls
            self._say("Bringing the database up to date …")
            processes.manage("migrate", environment=environment)
            login = json.loads(processes.manage("development_login", "--json", environment=environment))
            self._say("Starting web, workers, beat and the simulated WhatsApp …")
            with processes.Processes(folder / "logs", environment=environment, say=self._say) as parts:
                parts.start(*processes.everything(port=port, simulator_port=simulator_port))
                self._prepare_sample(simulator_port, environment)
                self._say(_welcome(port, simulator_port, login))
                try:
                    parts.watch()
                finally:
                    self._say("\nStopping …")

    def _prepare_sample(self, simulator_port: int, environment: Mapping[str, str]) -> None:
        """The sample organization, where there is none at all yet; its callbacks, where it still is."""
        if environment["WHATSAPP_API_URL"] != _simulated(simulator_port):
            return  # connected to Meta itself
        known = json.loads(processes.manage("list_organizations", "--json", environment=environment))
        if not known:
            self._say("Making a sample organization …")
            sample.make(environment)
        if not known or sample.SLUG in [organization["organization"] for organization in known]:
            sample.subscribe(f"http://127.0.0.1:{simulator_port}", environment)

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()


def _refuse_if_taken(port: int, option: str) -> None:
    if not processes.port_is_free(port):
        raise Refusal(f"Port {port} is in use by another program: stop it, or choose another port with {option}.")


def _addresses(port: int, simulator_port: int) -> dict[str, str]:
    """Where the parts find each other, unless the environment says otherwise."""
    ours = {
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        "WHATSAPP_API_URL": _simulated(simulator_port),
    }
    return {name: os.environ.get(name) or value for name, value in ours.items()}


def _simulated(port: int) -> str:
    return f"http://127.0.0.1:{port}/v25.0"


def _welcome(port: int, simulator_port: int, login: Mapping[str, str]) -> str:
    return (
        f"\nKaanha runs. Ctrl-C stops it.\n"
        f"  Admin                http://127.0.0.1:{port}/admin/\n"
        f"  Login                {login['email']}  {login['password']}\n"
        f"  Simulated WhatsApp   http://127.0.0.1:{simulator_port}/simulator\n"
        f"  Logs                 {servers.data_folder() / 'logs'}"
    )
