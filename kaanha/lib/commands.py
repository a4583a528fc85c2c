"""What management commands have in common: one sentence on refusal, exit code 2; ours also `--json`."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.core.management.base import BaseCommand, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DatabaseError, InterfaceError, OperationalError, ProgrammingError, connection

from kaanha.lib import doors
from kaanha.lib.errors import Refusal

REFUSED = 2
INTERRUPTED = 130  # what shells report for Ctrl-C
UNDEFINED_TABLE = "42P01"
# Classes of SQLSTATE that speak of the connection; an error without one never got as far as the server.
# Source: PostgreSQL, "PostgreSQL Error Codes": connection exception, invalid authorization, invalid catalog name,
# operator intervention.
UNREACHABLE = ("08", "28", "3D000", "57P")
_HALVES = re.compile("[\ud800-\udfff]")


class KaanhaCommand(BaseCommand):
    """A command that answers with data: printed for people, or as one line of JSON with `--json`.

    Subclasses override `add_arguments`, `perform` and, where the plain listing isn't enough, `tell`. A Refusal ends the
    program with its sentence on stderr and exit code 2, as a usage error does; `call_command` raises it.
    """

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        _add_json(parser, default=False)
        return parser

    def handle(self, *args: Any, **options: Any) -> None:
        as_json = options.pop("json")
        _check_text(options)
        try:
            with doors.command(self.__module__.rpartition(".")[2]):
                result = self.perform(*args, **options)
        except (DatabaseError, InterfaceError) as error:
            if refusal := refusal_for(error):
                raise refusal from error
            raise
        if as_json:
            self.stdout.write(json.dumps(result, cls=DjangoJSONEncoder))
        else:
            self.tell(result)

    def perform(self, *args: Any, **options: Any) -> dict[str, Any] | list[Any]:
        """Do the work and answer with what `--json` prints."""
        raise NotImplementedError

    def tell(self, result: Any) -> None:
        """Print the result for people: a line for each member."""
        rows = result.items() if isinstance(result, dict) else enumerate(result, start=1)
        for name, value in rows:
            self.stdout.write(f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}")

    def run_from_argv(self, argv: list[str]) -> None:
        try:
            super().run_from_argv(argv)
        except Refusal as refusal:
            if "--traceback" in argv:
                raise
            self.stderr.write(str(refusal))
            sys.exit(REFUSED)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)


def from_shell(argv: list[str]) -> None:
    """Run a command of ours or of Django's as the shell does, refusing settings and databases that can't be used."""
    try:
        without_pool()
        execute_from_command_line(argv)
    except (ImproperlyConfigured, DatabaseError, InterfaceError) as error:
        refusal = refusal_for(error)
        if refusal is None or "--traceback" in argv:
            raise
        print(refusal, file=sys.stderr)  # noqa: T201
        sys.exit(REFUSED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def text_of(file: Path, *, limit: int) -> str:
    """What the file holds, or standard input where it is called -.

    Refusal for what can't be read as UTF-8, or has more than `limit` bytes.
    """
    try:
        if str(file) == "-":
            raw = sys.stdin.buffer.read(limit + 1)
        else:
            with file.open("rb") as stream:
                raw = stream.read(limit + 1)
        if len(raw) > limit:
            raise Refusal(f"{file} is larger than {limit // 1000:,} kB. Divide it.", code="file_too_large")
        return raw.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise Refusal(f"{file} can't be read as text: {error}", code="file_unreadable") from error


def without_pool() -> None:
    """Have this process connect without a pool, which waits ten seconds for a database that is away and hides why."""
    connection.settings_dict.get("OPTIONS", {}).pop("pool", None)


def _add_json(parser: argparse.ArgumentParser, *, default: Any) -> None:
    """Accept `--json` here and after every subcommand, where its absence must not undo what stood in front."""
    parser.add_argument("--json", action="store_true", default=default, help="print the result as one line of JSON")
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                _add_json(subparser, default=argparse.SUPPRESS)


def _check_text(options: Mapping[str, Any]) -> None:
    """Refuse what isn't text: the shell hands bytes through as halves of letters, which no database takes.

    The names of files may hold any byte; they come as paths.
    """
    for name, given in options.items():
        for word in given if isinstance(given, list) else [given]:
            if isinstance(word, str) and _HALVES.search(word):
                raise Refusal(f"The {name.replace('_', ' ')} {word!r} holds bytes that are not UTF-8. Type it again.")


def refusal_for(error: Exception) -> Refusal | None:
    """A sentence for settings and databases that can't be used; None for any other error, for it is a fault of ours."""
    if isinstance(error, ImproperlyConfigured):
        return Refusal(str(error), code="settings_invalid")
    state = getattr(error.__cause__, "sqlstate", None)
    if isinstance(error, ProgrammingError) and state == UNDEFINED_TABLE:
        return Refusal(
            "The database has no tables yet; create them with: python manage.py migrate", code="not_migrated"
        )
    if not isinstance(error, OperationalError | InterfaceError) or (state and not state.startswith(UNREACHABLE)):
        return None
    reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
    return Refusal(
        f"PostgreSQL can't be reached at {_address()}; start it with: python manage.py servers start ({reason})",
        code="database_unreachable",
    )


def _address() -> str:
    """Where the default database is, without its password."""
    settings = connection.settings_dict
    host = settings.get("HOST") or settings.get("OPTIONS", {}).get("host") or "localhost"
    return host if host.startswith("/") else f"{host}:{settings.get('PORT') or 5432}"
