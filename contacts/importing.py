"""Importing contacts from a CSV file: every row gets an outcome, and a file imported twice changes nothing more.

Rows go through a temporary table in chunks, each chunk one transaction: a million rows need the memory of one chunk,
and a crash leaves whole chunks behind, so that importing the file again carries on.

Of rows with the same number the first wins and the later ones are rejected. Were it the last, each would undo the one
before, and importing the file again would change every such contact twice.
"""

from __future__ import annotations

import csv
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from django.db import connection, transaction
from django.utils import timezone

from contacts import consent, customer_news, import_rows, tagging
from contacts.csv_files import CsvFile
from contacts.import_rows import Columns, Line
from contacts.models import ConsentSource, Import, ImportRemark
from kaanha.lib.errors import Refusal
from kaanha.lib.spreadsheets import harmless
from kaanha.organizations import audit
from kaanha.organizations.models import Organization, User
from kaanha.webhooks.models import Kind

CHUNK = 5_000  # rows in a transaction
OUTCOMES = ("created", "updated", "unchanged", "rejected")
SHOWN = 100  # rejections in the summary
REASON = 300  # letters of a remark that are kept
FILE_NAME = 200  # letters of the file's name that go into proofs

Progress = Callable[[int], None]


class Writer(Protocol):
    def writerow(self, row: Sequence[object], /) -> object: ...


@dataclass
class Summary:
    """What became of the rows of a file. `tags` counts, by name, what was newly put on."""

    file: str
    dry_run: bool
    total: int = 0
    warnings: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    tags: Counter[str] = field(default_factory=Counter)
    rejections: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, upload: Import | None, file: str, *, dry_run: bool) -> Summary:
        """What an import has counted so far; nothing for one that begins."""
        summary = cls(file=file, dry_run=dry_run)
        if upload:
            summary.total, summary.warnings = upload.total, upload.warnings
            for name in OUTCOMES:
                summary.outcomes[name] = getattr(upload, name)
        return summary

    def add(self, lines: Sequence[Line], tags: Counter[str]) -> None:
        self.total += len(lines)
        self.tags.update(tags)
        self.outcomes.update(line.outcome for line in lines)
        self.warnings += sum(1 for line in lines if line.entry and line.entry.warnings)
        for line in lines:
            if line.entry is None and len(self.rejections) < SHOWN:
                row = import_rows.storable(line.cells)
                self.rejections.append({"line": line.number, "reason": line.reason, "row": row})

    def counts(self) -> dict[str, int]:
        """Rows by outcome, with those that came with a warning; these count in their outcome, too."""
        outcomes = {name: self.outcomes[name] for name in OUTCOMES}
        return {"total": self.total, **outcomes, "warnings": self.warnings}

    def as_json(self) -> dict[str, Any]:
        return {
            "file": self.file,
            **self.counts(),
            "rejections": self.rejections,
            "tags": dict(sorted(self.tags.items())),
            "dryRun": self.dry_run,
        }


def run(
    organization: Organization,
    file: CsvFile,
    *,
    at: datetime,
    columns: Columns,
    by: User | None = None,
    dry_run: bool = False,
    default_country: str | None = None,
    report: Path | None = None,
    progress: Progress | None = None,
    upload: Import | None = None,
    mark: Progress | None = None,
) -> Summary:
    """Import the file into the organization, or with `dry_run` only find out what would become of its rows.

    Existing contacts are found by phone; empty cells change nothing, tags are added and never taken off, deleted
    contacts come back. `report` is a CSV file to write with the outcome of every row; `progress` is told the bytes
    read so far, and `mark` the same in the transaction of each chunk: what it raises undoes the chunk. An `upload` that
    was begun before goes on after the rows that it counts. Cost: about a dozen statements for every 5,000 rows.
    """
    summary = Summary.of(upload, file.name, dry_run=dry_run)
    behind = summary.total
    with _report_writer(report, file) as writer, _temporary_tables():
        if upload is None and not dry_run:
            upload = begin(organization, file, at=at, by=by)
        chunk = _Chunk(organization, proof=f"import {file.name[:FILE_NAME]}", at=at, moment=at, by=by, dry_run=dry_run)
        started = time.monotonic()
        if behind:  # it began in another process
            started -= (timezone.now() - at).total_seconds()
        for read, position in _chunks(file, columns, default_country):
            lines = read[behind:]
            behind -= len(read) - len(lines)
            if len(lines) < len(read):
                _pass_over(read[: len(read) - len(lines)])
            if not lines:
                continue
            with transaction.atomic():
                added = replace(chunk, moment=at + _since(started)).take(lines)
                summary.add(lines, added)
                _note(upload, summary, lines)
                if mark:
                    mark(position)
            _report(writer, lines)
            if progress:
                progress(position)
    if upload:
        Import.objects.filter(pk=upload.pk).update(finished_at=timezone.now())
    return summary


def _since(started: float) -> timedelta:
    return timedelta(seconds=int(time.monotonic() - started))


def begin(organization: Organization, file: CsvFile, *, at: datetime, by: User | None, dry_run: bool = False) -> Import:
    """The row of an import whose rows are still to be taken."""
    with transaction.atomic():
        told = {"file_name": file.name[:255], "by": by, "started_at": at, "dry_run": dry_run}
        header = import_rows.storable(file.header)
        upload: Import = Import.objects.create(organization=organization, header=header, **told)
        if not dry_run:
            audit.record("contacts.imported", upload)
    return upload


def _chunks(file: CsvFile, columns: Columns, default_country: str | None) -> Iterator[tuple[list[Line], int]]:
    """The file's rows, read and judged each for itself, with the bytes read so far."""
    rows = file.rows()
    while chunk := list(islice(rows, CHUNK)):
        yield [import_rows.read(row, columns, default_country=default_country) for row, _ in chunk], chunk[-1][1]


def _note(upload: Import | None, summary: Summary, lines: Sequence[Line]) -> None:
    """Keep the counts so far and the remarks of these rows, in the transaction of the rows themselves."""
    if upload is None:
        return
    Import.objects.filter(pk=upload.pk).update(**summary.counts())
    remarks = [
        ImportRemark(
            upload=upload,
            line=line.number,
            rejected=line.entry is None,
            reason=line.remark[:REASON],
            row=import_rows.storable(line.cells),
        )
        for line in lines
        if line.remark
    ]
    ImportRemark.objects.bulk_create(remarks, batch_size=1_000)


# --- the report --------------------------------------------------------------------------------------------------


@contextmanager
def _report_writer(report: Path | None, file: CsvFile) -> Iterator[Writer | None]:
    """A writer for the report, with its header written; None when nobody asked for it."""
    if report is None:
        yield None
        return
    if report.exists() and report.samefile(file.path):
        raise Refusal(f"The report would overwrite {report}, which is being imported. Give it another name.")
    try:
        stream = report.open("w", encoding="utf-8-sig", errors="replace", newline="")  # Excel wants the mark
    except OSError as error:
        raise Refusal(f"The report can't be written to {report}: {error.strerror}.") from error
    try:
        with stream:
            writer = csv.writer(stream)
            writer.writerow(["line", "outcome", "remark", *map(harmless, file.header)])
            yield writer
    except OSError as error:
        raise Refusal(
            f"The report can't be written to {report}: {error.strerror}. What was imported stays; "
            "importing the file again tells the rest."
        ) from error


def _report(writer: Writer | None, lines: Sequence[Line]) -> None:
    if writer:
        for line in lines:
            writer.writerow([line.number, line.outcome, harmless(line.remark), *map(harmless, line.cells)])


# --- a chunk -----------------------------------------------------------------------------------------------------


class _Held(NamedTuple):
    """A contact that was there before, locked, beside the row that speaks of it."""

    line: int
    contact: int
    deleted: bool
    differs: bool
    opted_in: bool
    opted_out_at: datetime | None
    opt_out_source: str

    def would_change(self, opted_in: bool) -> bool:
        """Whether that is news: also for somebody who was never asked and is now out."""
        return not self.opted_in if opted_in else self.opted_in or self.opted_out_at is None


@dataclass(frozen=True)
class _Chunk:
    """Takes the rows of one import, a chunk at a time.

    `at` is when the import began, which is what its consent is worth; `moment` is when these rows are taken, from which
    whatever they start counts.
    """

    organization: Organization
    proof: str
    at: datetime
    moment: datetime
    by: User | None
    dry_run: bool

    def take(self, lines: Sequence[Line]) -> Counter[str]:
        """Judge and write these rows, setting their outcomes; how often each tag was newly put on.

        A dry run does all of it and rolls it back: it can't report anything else than the import would.
        """
        _copy(lines)
        _reject_repeated(lines)
        entries = {line.number: line for line in lines if line.entry}
        if not entries:
            return Counter()
        with transaction.atomic():
            added = self._write(entries)
            transaction.set_rollback(self.dry_run)
        return added

    def _write(self, lines: Mapping[int, Line]) -> Counter[str]:
        """In the order of locks: new contacts by phone, existing ones by id, their consent, then tags."""
        created = dict(self._run(_CREATE))
        held = [_Held(*row) for row in self._run(_HOLD)]
        changed = {one.contact for one in held if one.deleted or one.differs}
        self._run(_UPDATE, contacts=list(changed))
        written = set(changed)
        changed |= self._settle_consent(held, lines)
        contacts = created | {one.line: one.contact for one in held}
        added, tagged = self._tag(contacts, lines)
        changed |= tagged
        customer_news.tell(Kind.CONTACT_CREATED, created.values(), at=self.at)
        customer_news.tell(Kind.CONTACT_UPDATED, (written | tagged) - set(created.values()), at=self.at)
        for number, contact in contacts.items():
            news = "updated" if contact in changed else "unchanged"
            lines[number].outcome = "created" if number in created else news
        return added

    def _settle_consent(self, held: Sequence[_Held], lines: Mapping[int, Line]) -> set[int]:
        """Opt existing contacts in and out as their rows say; who opted out themselves stays out, with a warning."""
        asked: dict[bool, dict[int, str]] = {True: {}, False: {}}
        for one in held:
            entry = lines[one.line].entry
            if entry is None or entry.opted_in is None or not one.would_change(entry.opted_in):
                continue
            if entry.opted_in and one.opt_out_source == ConsentSource.INBOUND:
                entry.warnings.append("The contact stays opted out: they said so themselves.")
            else:
                asked[entry.opted_in][one.contact] = f"{self.proof} line {one.line}"
        told: dict[str, Any] = {"source": ConsentSource.IMPORT, "at": self.at, "by": self.by}
        opted_in = consent.opt_in(asked[True], proof=asked[True], **told) if asked[True] else []
        opted_out = consent.opt_out(asked[False], proof=asked[False], **told) if asked[False] else []
        return {*opted_in, *opted_out}

    def _tag(self, contacts: Mapping[int, int], lines: Mapping[int, Line]) -> tuple[Counter[str], set[int]]:
        """Put the tags of these rows on; how often each was newly put on, and the contacts it was put on."""
        names = {name for number in contacts if (entry := lines[number].entry) for name in entry.tags}
        tags = tagging.named(self.organization, sorted(names)) if names else {}
        pairs = [
            (contact, tags[name].pk)
            for number, contact in contacts.items()
            if (entry := lines[number].entry)
            for name in entry.tags
            if name in tags
        ]
        added = tagging.add_pairs(self.organization, pairs, source=ConsentSource.IMPORT, at=self.moment, told=False)
        called = {tag.pk: tag.name for tag in tags.values()}
        return Counter(called[tag] for _, tag in added), {contact for contact, _ in added}

    def _run(self, statement: str, **values: Any) -> list[Any]:
        common: dict[str, Any] = {"organization": self.organization.pk, "at": self.at, "moment": self.moment}
        common["by"] = self.by and self.by.pk
        with connection.cursor() as cursor:
            cursor.execute(statement, {**common, "proof": f"{self.proof} line ", **values})
            return cursor.fetchall() if cursor.description else []


def _pass_over(lines: Sequence[Line]) -> None:
    """Remember the numbers of rows that were taken before."""
    _copy(lines)
    with connection.cursor() as cursor:
        cursor.execute(_REMEMBER)


def _copy(lines: Sequence[Line]) -> None:
    """Put the entries into the temporary table."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE import_row")
        with cursor.copy(_COPY) as copy:
            for line in lines:
                if entry := line.entry:
                    attributes = json.dumps(entry.attributes)
                    consented = {True: "t", False: "f", None: None}[entry.opted_in]
                    row = (line.number, entry.phone, entry.country, entry.name, entry.email, attributes, consented)
                    copy.write_row(row)
        cursor.execute("ANALYZE import_row")


def _reject_repeated(lines: Sequence[Line]) -> None:
    """Reject rows whose number an earlier row of the file had."""
    with connection.cursor() as cursor:
        cursor.execute(_REMEMBER)
        cursor.execute(_REPEATED)
        repeated = dict(cursor.fetchall())
    for line in lines:
        if line.number in repeated:
            line.reject(f"The same number as in line {repeated[line.number]}, which was taken.")


@contextmanager
def _temporary_tables() -> Iterator[None]:
    """The chunk's rows, and the numbers of the whole file, each of which would take 100 bytes in Python."""
    with connection.cursor() as cursor:
        cursor.execute(_NO_TABLES)  # left by an import that broke off in this session
        cursor.execute(_TABLES)
    yield
    with connection.cursor() as cursor:
        cursor.execute(_NO_TABLES)


_NO_TABLES = "DROP TABLE IF EXISTS pg_temp.import_row, pg_temp.import_seen"

_TABLES = """
CREATE TEMPORARY TABLE import_row (
    line integer NOT NULL, phone text NOT NULL, country text NOT NULL, name text NOT NULL, email text NOT NULL,
    attributes jsonb NOT NULL, opted_in boolean
);
CREATE TEMPORARY TABLE import_seen (phone bigint PRIMARY KEY, line integer NOT NULL)
"""

_COPY = "COPY import_row (line, phone, country, name, email, attributes, opted_in) FROM STDIN"

_REMEMBER = """
INSERT INTO import_seen (phone, line)
SELECT DISTINCT ON (phone) phone::bigint, line FROM import_row ORDER BY phone, line
ON CONFLICT DO NOTHING
"""

_REPEATED = """
DELETE FROM import_row AS again USING import_seen AS seen
WHERE seen.phone = again.phone::bigint AND seen.line <> again.line
RETURNING again.line, seen.line
"""

# Leaves in the temporary table the rows whose contacts were there before.
_CREATE = """
WITH created AS (
    INSERT INTO contacts_contact (
        organization_id, phone, country, name, email, attributes, opted_in, opted_in_at, opt_in_source, opt_in_proof,
        opted_out_at, opt_out_source, created_at, updated_at
    )
    SELECT
        %(organization)s, phone, country, name, email, attributes, opted_in IS TRUE,
        CASE WHEN opted_in THEN %(at)s::timestamptz END,
        CASE WHEN opted_in THEN 'import' ELSE '' END,
        CASE WHEN opted_in THEN %(proof)s || line ELSE '' END,
        CASE WHEN NOT opted_in THEN %(at)s::timestamptz END,
        CASE WHEN NOT opted_in THEN 'import' ELSE '' END,
        %(at)s, %(at)s
    FROM import_row ORDER BY phone
    ON CONFLICT (organization_id, phone) DO NOTHING
    RETURNING id, phone
), newcomers AS (
    SELECT created.id, line, opted_in FROM created JOIN import_row USING (phone)
), history AS (
    INSERT INTO contacts_consentchange (organization_id, contact_id, opted_in, source, proof, by_id, at)
    SELECT %(organization)s, id, opted_in, 'import', %(proof)s || line, %(by)s, %(at)s
    FROM newcomers WHERE opted_in IS NOT NULL ORDER BY line
), settled AS (
    DELETE FROM import_row USING newcomers WHERE import_row.line = newcomers.line
), events AS (
    INSERT INTO contacts_contactevent (organization_id, kind, contact_id, source, at)
    SELECT %(organization)s, 'created', id, 'import', %(moment)s FROM newcomers ORDER BY line
)
SELECT line, id FROM newcomers
"""

_HOLD = """
SELECT
    row.line, contact.id, contact.deleted_at IS NOT NULL,
    (row.name <> '' AND row.name <> contact.name)
        OR (row.email <> '' AND row.email <> contact.email)
        OR contact.attributes || row.attributes <> contact.attributes,
    contact.opted_in, contact.opted_out_at, contact.opt_out_source
FROM import_row AS row
JOIN contacts_contact AS contact ON contact.organization_id = %(organization)s AND contact.phone = row.phone
ORDER BY contact.id
FOR NO KEY UPDATE OF contact
"""

_UPDATE = """
UPDATE contacts_contact AS contact
SET name = CASE WHEN row.name <> '' THEN row.name ELSE contact.name END,
    email = CASE WHEN row.email <> '' THEN row.email ELSE contact.email END,
    attributes = contact.attributes || row.attributes, deleted_at = NULL, updated_at = %(at)s
FROM import_row AS row
WHERE contact.id = ANY(%(contacts)s) AND contact.organization_id = %(organization)s AND contact.phone = row.phone
"""
