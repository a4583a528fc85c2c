from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from contacts import importing
from contacts.csv_files import CsvFile, open_csv
from contacts.import_rows import FIELDS, Columns
from kaanha.lib import phone
from kaanha.lib.commands import KaanhaCommand
from kaanha.lib.errors import Refusal
from kaanha.organizations.models import Organization

TOLD = 10  # rejections shown to people; the report has all
DELIMITERS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "bar": "|"}


class Command(KaanhaCommand):
    help = (
        "Import contacts from a CSV file with the columns phone, name, email, tags and optedIn; others are attributes."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", help="the organization's slug")
        parser.add_argument("file", type=Path, help="the CSV file")
        parser.add_argument("--dry-run", action="store_true", help="tell the outcome of every row, write nothing")
        parser.add_argument("--delimiter", help="what separates the columns; found out by itself if left out")
        parser.add_argument("--encoding", help="how the file is written; found out by itself if left out")
        parser.add_argument("--default-country", metavar="CC", help="the country of numbers without plus, such as IN")
        parser.add_argument("--map", nargs="+", default=[], metavar="FIELD=COLUMN", action="extend")
        parser.add_argument("--report", type=Path, metavar="FILE", help="write a CSV with the outcome of every row")

    def perform(self, *args: Any, **options: Any) -> dict[str, Any]:
        organization = Organization.named(options["organization"])
        country = _country(options["default_country"])
        mapping = _mapping(options["map"])
        file = open_csv(
            options["file"],
            column=mapping.get("phone", "phone"),
            delimiter=_delimiter(options["delimiter"]),
            encoding=options["encoding"],
        )
        columns = Columns.of(file.header, mapping)
        with _bar(file) as (bar, task):
            summary = importing.run(
                organization,
                file,
                at=timezone.now(),
                columns=columns,
                dry_run=options["dry_run"],
                default_country=country,
                report=options["report"],
                progress=lambda position: bar.update(task, completed=position),
            )
        return {**summary.as_json(), "encoding": file.encoding, "delimiter": file.delimiter}

    def tell(self, result: Any) -> None:
        text = StringIO()
        console = Console(file=text, width=None if self.stdout.isatty() else 100, force_terminal=self.stdout.isatty())
        title = f"{result['file']}: dry run, nothing was written" if result["dryRun"] else f"{result['file']} imported"
        console.print(Text(title))
        console.print(_table(result))
        for rejection in result["rejections"][:TOLD]:
            console.print(Text(f"line {rejection['line']}: {rejection['reason']}"), soft_wrap=True)
        if (more := result["rejected"] - TOLD) > 0:
            console.print(Text(f"… and {more} more; --report FILE writes them all."))
        if not result["total"]:
            console.print(Text("The file has a header but no rows, so there was nothing to import."))
        self.stdout.write(text.getvalue())


def _country(given: str | None) -> str | None:
    country = given and given.strip().upper()
    if country and not phone.is_country(country):
        raise Refusal(f"There is no country {given!r}. Give its two letters, such as IN for India.")
    return country or None


def _delimiter(given: str | None) -> str | None:
    delimiter = DELIMITERS.get(given or "", given)
    if delimiter is not None and len(delimiter) != 1:
        raise Refusal(f"The delimiter {given!r} is not one character. Give one such as ';' or the word tab.")
    return delimiter


def _mapping(given: list[str]) -> dict[str, str]:
    """The pairs FIELD=COLUMN, by field."""
    fields = {field.casefold(): field for field in FIELDS}
    mapping = {}
    for pair in given:
        field, equals, column = pair.partition("=")
        if not equals or field.strip().casefold() not in fields:
            listed = ", ".join(FIELDS)
            raise Refusal(f'--map {pair} is not FIELD="COLUMN" with a field of these: {listed}.')
        mapping[fields[field.strip().casefold()]] = column
    return mapping


@contextmanager
def _bar(file: CsvFile) -> Iterator[tuple[Progress, TaskID]]:
    """A progress bar by bytes, on a terminal; nothing elsewhere, so that the output stays readable by programs."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield bar, bar.add_task(Text(file.name).markup, total=file.size)


def _table(result: dict[str, Any]) -> Table:
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name in ("created", "updated", "unchanged", "rejected", "total"):
        table.add_row(name, f"{result[name]:,}")
    table.add_row("with a warning", f"{result['warnings']:,}")
    for tag, count in result["tags"].items():
        table.add_row(Text(f"tag {tag}"), f"{count:,}")
    return table
