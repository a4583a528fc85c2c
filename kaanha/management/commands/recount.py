"""`manage.py recount`: the funnel's numbers, counted anew from the messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandParser

from broadcasts.models import Broadcast
from kaanha.lib.commands import KaanhaCommand
from kaanha.lib.errors import Refusal
from kaanha.messaging import counting
from kaanha.messaging.models import Dispatch


class Command(KaanhaCommand):
    help = "Set counters to what the ledger says and tell which had drifted. Exact also while messages are being sent."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("ids", nargs="*", metavar="BROADCAST_ID", help="the broadcasts' ids (bc_…)")
        parser.add_argument("--all", action="store_true", help="everything that ever asked for messages")

    def perform(self, *, ids: list[str], all: bool, **_: Any) -> dict[str, Any]:  # noqa: A002
        if bool(ids) == all:
            raise Refusal("Name the broadcasts to recount, or say --all.")
        counted, drifted = 0, []
        for name, dispatch in _everything() if all else [(public_id, _dispatch(public_id)) for public_id in ids]:
            counted += 1
            if counting.recount(dispatch):
                drifted.append(name)
        return {"counted": counted, "drifted": drifted}

    def tell(self, result: dict[str, Any]) -> None:
        for name in result["drifted"]:
            self.stdout.write(f"{name} had drifted and is right again.")
        self.stdout.write(f"Counted: {result['counted']:,}. Drifted: {len(result['drifted']):,}.")


def _dispatch(public_id: str) -> int:
    broadcast = Broadcast.objects.all().by_public_id(public_id).first()
    if broadcast is None:
        raise Refusal(f"There is no broadcast {public_id!r}.", code="broadcast_not_found")
    if broadcast.dispatch_id is None:
        raise Refusal(f"Broadcast {public_id} has not begun: it has no messages to count.", code="not_begun")
    return int(broadcast.dispatch_id)


def _everything() -> Iterator[tuple[str, int]]:
    for dispatch in Dispatch.objects.select_related("broadcast").order_by("pk").iterator():
        broadcast = getattr(dispatch, "broadcast", None)
        yield (broadcast or dispatch).public_id, dispatch.pk
