"""Imports in the background: an uploaded file is kept in the database until a worker has taken its rows.

Its rows are taken in the chunks of `importing`, each a transaction with its counts and with the mark of who takes them:
what a killed worker leaves behind is whole chunks, after which another one goes on.
"""

from __future__ import annotations

import logging
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from django.db import Error as DatabaseTrouble
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from contacts import importing
from contacts.csv_files import open_csv
from contacts.import_rows import WHY, Columns
from contacts.models import Import, ImportFile, ImportPiece, ImportRemark
from kaanha.lib.errors import Refusal
from kaanha.organizations import audit, closing
from kaanha.organizations.models import Organization, User

PIECE = 1024 * 1024
NAME_BYTES = 200  # of a file's name
LEASE = timedelta(seconds=30)  # renewed with every chunk, which takes a second or two
TRIES = 3
KEPT = timedelta(hours=24)  # the file of a check, from which the import itself may be made
AT_ONCE = 2_000  # rejected rows in memory while they are written

STOPPED = "It was stopped by hand. The rows that are counted here are taken, the rest isn't."
BROKEN = (
    "It broke off by a fault of ours. The rows that are counted here are taken; upload the file again for the rest."
)

logger = logging.getLogger(__name__)


class Taken(Exception):
    """Somebody else takes these rows now, or nobody is to take them any more."""


def keep(
    organization: Organization,
    name: str,
    content: Iterable[bytes],
    *,
    by: User | None,
    at: datetime,
    default_country: str | None = None,
    dry_run: bool = False,
) -> Import:
    """An import whose rows wait for a worker. Refusal for a file that can't be read to its end."""
    closing.require_open(organization.pk)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _file_name(name)
        with path.open("wb") as copy:
            copy.writelines(content)
        file = open_csv(path, column="phone")
        Columns.of(file.header, {})
        with transaction.atomic():
            upload = importing.begin(organization, file, at=at, by=by, dry_run=dry_run)
            kept = ImportFile.objects.create(upload=upload, default_country=default_country or "", size=file.size)
            with path.open("rb") as stream:
                for position, piece in enumerate(iter(lambda: stream.read(PIECE), b"")):
                    ImportPiece.objects.create(file=kept, position=position, content=piece)
    return upload


def again(check: Import, *, by: User | None, at: datetime) -> Import:
    """Import what was only checked: the same file, under a row of its own. Refusal once the file is gone."""
    file = ImportFile.objects.filter(upload=check).first()
    if not check.dry_run or check.finished_at is None or check.problem or file is None:
        raise Refusal("The file of this check is not kept any more. Upload it once more.", code="import_gone")
    content = file.pieces.order_by("position").values_list("content", flat=True).iterator(chunk_size=1)
    pieces = (bytes(piece) for piece in content)
    return keep(check.organization, check.file_name, pieces, by=by, at=at, default_country=file.default_country or None)


def stop(upload: Import, *, at: datetime) -> None:
    """Let no more rows be taken; those that are taken stay. Refusal once it has ended."""
    with transaction.atomic():
        ImportFile.objects.filter(upload=upload).update(token=None, lease_until=None)
        stopped = Import.objects.filter(pk=upload.pk, finished_at=None)
        if not stopped.update(finished_at=at, problem=STOPPED):
            raise Refusal("This import has ended already.", code="wrong_status")
        audit.record("contacts.import_stopped", upload)


def waiting(*, now: datetime) -> list[int]:
    """Keys of the imports whose rows nobody takes at the moment, the oldest first."""
    free = Q(file__lease_until=None) | Q(file__lease_until__lt=now)
    rows = Import.objects.filter(free, finished_at=None, file__isnull=False).order_by("pk")
    return list(rows.values_list("pk", flat=True))


def take(key: int, *, now: datetime) -> bool:
    """Take the rows of an import that waits, to its end; False where somebody else does, or it has ended."""
    token = secrets.randbits(62)
    free = Q(lease_until=None) | Q(lease_until__lt=now)
    mine = ImportFile.objects.filter(free, upload=key, upload__finished_at=None)
    if not mine.update(token=token, lease_until=now + LEASE, tries=F("tries") + 1):
        return False
    upload = Import.objects.select_related("organization", "by", "file").get(pk=key)
    problem = ""
    try:
        _take(upload, token)
    except Taken:
        return False
    except Refusal as refusal:
        problem = str(refusal)
    except DatabaseTrouble:
        raise  # it goes on when the lease has ended
    except Exception:
        logger.exception("Import %s broke off", key)
        if upload.file.tries < TRIES:
            return False  # once more when the lease has ended
        problem = BROKEN
    _end(upload, token, problem)
    return True


def take_waiting(*, now: datetime) -> int:
    """Take all that wait, one after another; how many."""
    return sum(take(key, now=now) for key in waiting(now=now))


def drop_files(*, now: datetime) -> None:
    """Forget the files of what has ended, of checks after a day."""
    ended = Q(upload__dry_run=False) | ~Q(upload__problem="") | Q(upload__finished_at__lt=now - KEPT)
    ImportFile.objects.filter(ended, upload__finished_at__isnull=False).delete()


def rejected(upload: Import) -> Iterator[list[object]]:
    """The rejected rows as they came, each with the reason behind it. One query for every 2,000."""
    rows = ImportRemark.objects.filter(upload=upload, rejected=True).order_by("line", "pk")
    width, columns, line = len(upload.header), len(rejected_header(upload)), -1
    while chunk := list(rows.filter(line__gt=line)[:AT_ONCE]):
        for remark in chunk:
            cells = [*remark.row, *[""] * (width - len(remark.row))]
            yield [*cells[:width], remark.reason][:columns]
        line = chunk[-1].line


def rejected_header(upload: Import) -> list[str]:
    """The file's own columns, and one for the reason where it hasn't come back with it."""
    return [*upload.header, *([WHY] if WHY not in upload.header else [])]


def _take(upload: Import, token: int) -> None:
    """Take the rows, each chunk as long as the token is ours."""
    closing.require_open(upload.organization_id)
    with _as_file(upload) as path:
        file = open_csv(path, column="phone")

        def mark(position: int) -> None:
            held = ImportFile.objects.filter(upload=upload.pk, token=token)
            if not held.update(read=position, lease_until=timezone.now() + LEASE, tries=1):
                raise Taken

        importing.run(
            upload.organization,
            file,
            at=upload.started_at,
            columns=Columns.of(file.header, {}),
            by=upload.by,
            dry_run=upload.dry_run,
            default_country=upload.file.default_country or None,
            upload=upload,
            mark=mark,
        )


@contextmanager
def _as_file(upload: Import) -> Iterator[Path]:
    """The file on this machine's disk for a while: it is read more than once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _file_name(upload.file_name)
        pieces = upload.file.pieces.order_by("position").values_list("pk", flat=True)
        with path.open("wb") as copy:
            for piece in list(pieces):
                copy.write(ImportPiece.objects.values_list("content", flat=True).get(pk=piece))
        yield path


def _end(upload: Import, token: int, problem: str) -> None:
    """Write its end down; not where somebody else takes the rows now, or it was stopped."""
    with transaction.atomic():
        held = ImportFile.objects.filter(upload=upload, token=token)
        if not held.update(token=None, lease_until=None):
            return
        Import.objects.filter(pk=upload.pk).update(finished_at=timezone.now(), problem=problem)
        if not upload.dry_run or problem:
            ImportFile.objects.filter(upload=upload).delete()


def _file_name(name: str) -> str:
    """The last part of the name, as long as file systems take it: its end, with the extension."""
    return Path(name).name.encode()[-NAME_BYTES:].decode(errors="ignore") or "contacts.csv"
