"""`manage.py replay_callbacks`: apply stored callbacks again."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from kaanha.inbound import replaying
from kaanha.inbound.models import Callback
from kaanha.lib.commands import KaanhaCommand
from kaanha.lib.errors import Refusal


class Command(KaanhaCommand):
    help = (
        "Apply stored callbacks of Meta again: those of which something could not be used, or those chosen here. Safe "
        "to repeat. Callbacks without problems are kept for seven days, the others for thirty."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--id", type=int, nargs="+", default=[], help="these, as numbered in the admin")
        parser.add_argument("--since", help="all received since then, in UTC, such as 2026-12-24 or 2026-12-24T09:30")
        parser.add_argument("--problems", action="store_true", help="of these only those with problems; the default")

    def perform(self, *, id: list[int], since: str | None, problems: bool, **_: Any) -> dict[str, Any]:  # noqa: A002
        chosen = Callback.objects.all()
        if id:
            chosen = chosen.filter(pk__in=id)
            if missing := set(id) - set(chosen.values_list("pk", flat=True)):
                raise Refusal(f"There is no callback {min(missing)}: applied ones are dropped after seven days.")
        if since:
            chosen = chosen.filter(received_at__gte=_moment(since))
        if problems or not (id or since):
            chosen = chosen.filter(problems__isnull=False)
        return asdict(replaying.replay(chosen, now=timezone.now()))

    def tell(self, result: dict[str, Any]) -> None:
        for key, problems in result["troubled"].items():
            first = problems[0]
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            self.stdout.write(f"Callback {key}: {first['where']}: {first['reason']}{more}")
        applied, cleared, troubled = result["applied"], len(result["cleared"]), len(result["troubled"])
        self.stdout.write(f"Applied again: {applied:,}. Cleared: {cleared:,}. Still with problems: {troubled:,}.")


def _moment(text: str) -> datetime:
    try:
        found = parse_datetime(text) if not parse_date(text) else datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None:
        raise Refusal(f"{text!r} is no date or time: use 2026-12-24 or 2026-12-24T09:30.")
    return found if found.tzinfo else found.replace(tzinfo=timezone.get_default_timezone())
