"""CSV for spreadsheets: no cell is taken for a formula, and a million rows leave as they are read."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence

from django.http import StreamingHttpResponse

MARK = "\ufeff"  # by which Excel knows UTF-8
_FORMULA_SIGNS = frozenset("=+-@\t\r")
_PHONE = re.compile(r"\+[0-9 ().\-]+")


def harmless(cell: str) -> str:
    """The cell as a spreadsheet shows it without taking it for a formula: an apostrophe in front of what begins so.

    A phone number keeps its plus: of digits and punctuation alone nothing worse than a sum can come, and people want
    to use the column. The import reads past the apostrophe of a number.
    """
    begins_so = cell[:1] in _FORMULA_SIGNS and cell != ""
    return f"'{cell}" if begins_so and not _PHONE.fullmatch(cell) else cell


def lines(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """The lines of a CSV file, each as soon as its row is there."""
    writer = csv.writer(_Echo())
    yield MARK + str(writer.writerow(header))
    for row in rows:
        yield str(writer.writerow([harmless(str(cell)) for cell in row]))


def download(name: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> StreamingHttpResponse:
    """The answer that lets a browser save the file."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingHttpResponse(lines(header, rows), content_type="text/csv; charset=utf-8", headers=headers)


class _Echo:
    """A file that hands back what is written to it."""

    def write(self, line: str) -> str:
        return line
