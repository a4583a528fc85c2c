"""What the demo speaks with: the commands that people type, and the simulated WhatsApp, asked as by anybody outside."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from io import StringIO
from typing import Any

import requests
from django.core.management import call_command
from django.utils import timezone
from rich.console import Console

from kaanha.lib.errors import Refusal

PATIENCE = timedelta(minutes=5)
FUNNEL = ("total", "dispatched", "sent", "delivered", "read", "failed", "skipped", "unconfirmed")


class Talk:
    """The console, and the commands whose answers it shows."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def title(self, text: str) -> None:
        self.console.print(f"\n[bold]{text}[/bold]")

    def say(self, text: str) -> None:
        self.console.print(text)

    def tell(self, command: str, *arguments: str) -> None:
        """Run a command and show what it prints."""
        call_command(command, *arguments, stdout=self.console.file)

    def ask(self, command: str, *arguments: str) -> dict[str, Any]:
        """Run a command for its JSON."""
        printed = StringIO()
        call_command(command, *arguments, "--json", stdout=printed)
        answer: dict[str, Any] = json.loads(printed.getvalue())
        return answer


class Witness:
    """The simulated WhatsApp at `address`: what was received there, whatever Kaanha believes."""

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, what: str, **query: Any) -> dict[str, Any]:
        answer: dict[str, Any] = requests.get(f"{self.address}/simulator/{what}", params=query, timeout=30).json()
        return answer

    def received(self) -> Iterator[dict[str, Any]]:
        """Every accepted message, oldest first."""
        after: int | None = 0
        while after is not None:
            page = self.get("messages", after=after, limit=5000)
            yield from page["data"]
            after = page["next"]


def wait(done: Callable[[], object], *, else_say: str) -> None:
    """Return once `done()`. Refusal, in the words of `else_say`, when that takes too long."""
    deadline = timezone.now() + PATIENCE
    while not done():
        if timezone.now() > deadline:
            raise Refusal(f"{else_say} The logs tell why.")
        time.sleep(0.25)


def of_template(messages: Iterable[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    """Those of the received messages that were made from this template."""
    return [message for message in messages if (message["template"] or {}).get("name") == name]


def counted(messages: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The funnel as the receiving side tells it, from the statuses that it sent."""
    counts = {"dispatched": 0, "delivered": 0, "read": 0}
    for message in messages:
        statuses = {status["status"] for status in message["statuses"]}
        counts["dispatched"] += 1
        counts["delivered"] += bool(statuses & {"delivered", "read"})
        counts["read"] += "read" in statuses
    return counts


def differences(name: str, funnel: Mapping[str, Any], messages: Iterable[Mapping[str, Any]]) -> list[str]:
    """Where a funnel isn't the one that the receiving side tells."""
    return [
        f"{name}: {stage} is {funnel[stage]} here and {there} at the simulated WhatsApp"
        for stage, there in counted(messages).items()
        if funnel[stage] != there
    ]
