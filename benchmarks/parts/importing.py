"""Importing a file of new contacts, with their consent and its history, against COPY of the contacts alone."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from django.db import connection
from django.utils import timezone

from benchmarks.measuring import Cost, cost, in_turns, peak_memory
from benchmarks.reporting import Bound, Row, bounded, compared
from benchmarks.scale import Scale
from benchmarks.store import execute, opened
from contacts import importing
from contacts.csv_files import open_csv
from contacts.import_rows import Columns
from contacts.models import Contact
from kaanha.organizations.models import Organization

MOST, MEMORY = 10, Bound("<", 300, "MB")
FILE_COLUMNS = ["phone", "name", "email", "city", "optedIn"]
COPIED = (
    "organization_id", "phone", "country", "name", "email", "attributes", "opted_in", "opted_in_at", "opt_in_source",
    "opt_in_proof", "opt_out_source", "created_at", "updated_at",
)  # fmt: skip
PIECE = 1 << 20  # bytes


def measure(scale: Scale) -> Iterator[Row]:
    """A tenth of the rows in several rounds, all of them in one; what our process has had in memory by the end."""
    owner = opened(0).owner
    for rows, rounds in ((scale.people // 10, scale.rounds), (scale.people, 1)):
        with tempfile.TemporaryDirectory() as folder:
            ours, theirs = in_turns(rounds, *_acts(owner, Path(folder), rows))
        yield compared(f"{rows:,} rows", ours, theirs, most=MOST, units=rows)
    yield bounded("most memory", [peak_memory()], MEMORY, costs=ours, units=rows)


def _acts(owner: Organization, folder: Path, rows: int) -> tuple[Callable[[], Cost], Callable[[], Cost]]:
    """The same rows in two files: as people have them, and as they stand in the table."""
    file, table, at = folder / "contacts.csv", folder / "table.csv", timezone.now()
    with file.open("w", newline="") as plain, table.open("w", newline="") as bare:
        people, contacts = csv.writer(plain), csv.writer(bare)
        people.writerow(FILE_COLUMNS)
        for n in range(rows):
            phone, name, email = f"+9190{n:08}", f"Sample {n}", f"sample{n}@example.com"
            people.writerow([phone, name, email, "Pune", "yes"])
            proof = f"import contacts.csv line {n + 2}"
            attributes = '{"city": "Pune"}'
            contacts.writerow([owner.pk, phone, "IN", name, email, attributes, "t", at, "import", proof, "", at, at])
    return partial(_import, owner, file, rows), partial(_copy, table, rows)


def _import(owner: Organization, path: Path, rows: int) -> Cost:
    _emptied()
    file = open_csv(path, column="phone")
    took = cost(lambda: importing.run(owner, file, at=timezone.now(), columns=Columns.of(file.header, {})))
    _require(rows)
    return took


def _copy(path: Path, rows: int) -> Cost:
    _emptied()
    took = cost(lambda: _copied(path))
    _require(rows)
    return took


def _copied(path: Path) -> None:
    # Empty is an empty text here, for which CSV has quotes: COPY would take it for NULL.
    statement = f"COPY contacts_contact ({', '.join(COPIED)}) FROM STDIN (FORMAT csv, NULL 'NULL')"
    with connection.cursor() as cursor, path.open("rb") as stream, cursor.copy(statement) as copy:
        while piece := stream.read(PIECE):
            copy.write(piece)


def _require(rows: int) -> None:
    found = Contact.objects.filter(opted_in=True).count()
    if found != rows:
        raise SystemExit(f"{found:,} contacts are there instead of {rows:,}.")


def _emptied() -> None:
    execute("TRUNCATE contacts_contact CASCADE")
    execute("CHECKPOINT")
