"""CSV files as people have them: encodings, delimiters and quotes found out, rows streamed with their line numbers."""

from __future__ import annotations

import codecs
import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, NoReturn

import charset_normalizer

from kaanha.lib.errors import Refusal

DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
SAMPLE = 64 * 1024  # bytes that tell what kind of file it is
ROW_LINES = 50  # a quoted cell longer than this is a forgotten quote
ROW_LETTERS = 100_000
UTF_8 = ("utf-8", "utf-8-sig")
# How files begin that aren't text. Source: "List of file signatures", and the formats' own specifications.
NO_TEXT = {
    b"PK\x03\x04": "an Excel workbook or a zip archive",
    b"PK\x05\x06": "an empty zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF": "a PDF",
    b"{\\rtf": "a Word document",
    b"\x1f\x8b": "a gzip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"\x7fELF": "a program",
    b"#!/": "a program",
    b"SQLite format 3": "a database",
    b"PAR1": "a Parquet file",
}
# Beginnings that a header may have too: what they begin is no text where a zero byte follows.
NO_TEXT_WITH_ZEROS = {b"MZ": "a program", b"BZh": "a bzip2 archive", b"RIFF": "a picture or a recording"}
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Letters beyond ASCII in Western European text: a file of these, in single bytes, is Windows-1252.
_WESTERN = frozenset("àâäáãåæçéèêëíìîïñóòôöõøœúùûüýÿßÀÂÄÁÃÅÆÇÉÈÊËÍÌÎÏÑÓÒÔÖÕØŒÚÙÛÜÝŸ€£°’‘“”–—¿¡ªº«»´")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the file, starting in physical line `line`. With a `problem`, the cells are what could be read."""

    line: int
    cells: list[str]
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class CsvFile:
    """A file that can be read: how it is written, and its header."""

    path: Path
    size: int
    encoding: str
    delimiter: str
    header: list[str]
    header_line: int

    @property
    def name(self) -> str:
        """The file's name, without its folder and without bytes that no database stores."""
        return self.path.name.encode("utf-8", "replace").decode()

    def rows(self) -> Iterator[tuple[Row, int]]:
        """Every row below the header with the bytes read so far; blank ones are left out. Memory stays constant."""
        with self.path.open("rb") as raw, _text(raw, self.encoding) as stream:
            lines = _lines(stream)
            for _ in range(self.header_line):
                next(lines)
            for row in _rows(lines, self.header_line, self.delimiter, len(self.header)):
                if row.problem or any(map(str.strip, row.cells)):
                    yield row, raw.tell()


def open_csv(path: Path, *, column: str, delimiter: str | None = None, encoding: str | None = None) -> CsvFile:
    """The file, found fit to be read to its end; a Refusal otherwise, in one sentence that says what to do.

    `column` is a column that it must have. The delimiter is found out by it unless given, the encoding by the bytes.
    """
    _check_regular(path)
    with path.open("rb") as raw:
        encoding = _encoding_of(raw, path.name, encoding)
    _check_readable(path, encoding)
    with path.open("rb") as raw, _text(raw, encoding) as stream:
        lines = _lines(stream)
        number, line = _first_line(lines, 0)
        if line.lower().startswith("sep=") and len(line) == 5:  # Excel's own note
            delimiter = delimiter or line[4]
            number, line = _first_line(lines, number)
        _, next_line = _first_line(lines, number)
    if not line:
        raise Refusal(
            f"{path.name} is empty. Its first line must name the columns, such as: phone,name,email,tags,optedIn"
        )
    found = _delimiter_of(line, next_line, path.name, column=column, given=delimiter)
    return CsvFile(path, path.stat().st_size, encoding, found, _header(line, found) or [], number)


def _check_regular(path: Path) -> None:
    try:
        if path.is_dir():
            raise Refusal(f"{path} is a folder. Give the CSV file itself.")
        if not path.exists():
            raise Refusal(f"There is no file {path}. Check the path.")
        if not path.is_file():
            raise Refusal(f"{path} is not an ordinary file. Save the contacts as a CSV file first.")
        path.open("rb").close()
    except OSError as error:
        raise Refusal(f"{path} can't be read: {error.strerror}.") from error


# --- encodings ---------------------------------------------------------------------------------------------------


def _encoding_of(raw: BinaryIO, name: str, given: str | None) -> str:
    """The encoding by the byte order mark, else the given one, else UTF-8."""
    sample = raw.read(SAMPLE)
    if not sample:
        raise Refusal(f"{name} is empty. Its first line must name the columns, such as: phone,name,email,tags,optedIn")
    if kind := _kind(sample):
        raise Refusal(f"{name} is {kind}, not a CSV file. Open it and save it as CSV UTF-8.")
    if given:
        return _known_encoding(given)
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if sample.startswith(mark):
            return encoding
    if sample.count(0) * 20 > len(sample):
        _refuse_zeros(sample, name)
    return "utf-8"


def _kind(sample: bytes) -> str:
    """What a file that begins like this is, where it is no CSV by its content, whatever its name says; else empty."""
    known = NO_TEXT | (NO_TEXT_WITH_ZEROS if b"\0" in sample else {})
    if sample.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"<"):
        return "a web page or XML"
    return next((kind for magic, kind in known.items() if sample.startswith(magic)), "")


def _known_encoding(given: str) -> str:
    try:
        codec = codecs.lookup(given)
        "".encode(codec.name)  # a codec for bytes, such as base64, refuses here
    except LookupError as error:
        raise Refusal(f"There is no encoding {given!r}. Use one such as utf-8, cp1252 or utf-16.") from error
    return codec.name if codec.name != "utf-8" else "utf-8-sig"


def _refuse_zeros(sample: bytes, name: str) -> NoReturn:
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    for zeros, others, encoding in ((odd, even, "utf-16-le"), (even, odd, "utf-16-be")):
        if zeros > 10 * others:
            raise Refusal(
                f"{name} looks like UTF-16 without its mark. "
                f"Save it as CSV UTF-8, or give the command --encoding {encoding}."
            )
    raise Refusal(f"{name} is not a text file. Export the contacts as CSV UTF-8.")


def _check_readable(path: Path, encoding: str) -> None:
    if encoding in UTF_8:
        return _check_utf_8(path)
    try:
        with path.open(encoding=encoding, newline="") as stream:
            while stream.read(1024 * 1024):
                pass
    except UnicodeError as error:
        raise Refusal(f"{path.name} is not written in {encoding}. Save it as CSV UTF-8 and try again.") from error
    return None


def _check_utf_8(path: Path) -> None:
    """Refuse a file that is written in another encoding. Single broken lines in a UTF-8 file are left to their rows."""
    good, bad, sample, first = 0, 0, b"", 0
    with path.open("rb") as raw:
        for number, line in enumerate(iter(lambda: raw.readline(ROW_LETTERS), b""), start=1):
            if line.isascii():
                continue
            if _is_utf_8(line):
                good += 1
            else:
                bad, first = bad + 1, first or number
                sample += line if len(sample) < SAMPLE else b""
    if bad > good:
        guess, option = _guess(sample)
        raise Refusal(
            f"{path.name} is not UTF-8: line {first} looks like {guess}. "
            f"Save it as CSV UTF-8, or give the command --encoding {option} if that is right."
        )


def _is_utf_8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError as error:
        # A line that was cut at the limit may end within a letter.
        return len(line) == ROW_LETTERS and error.reason == "unexpected end of data"
    return True


def _guess(sample: bytes) -> tuple[str, str]:
    """The likely encoding of some lines that aren't UTF-8: as people call it, and as the option wants it."""
    try:
        western = {letter for letter in sample.decode("cp1252") if not letter.isascii()}
    except UnicodeDecodeError:
        western = {""}
    if western <= _WESTERN:
        return "Windows-1252", "cp1252"
    found = charset_normalizer.from_bytes(sample).best()
    return (found.encoding, found.encoding) if found else ("an unknown encoding", "NAME")


# --- delimiters --------------------------------------------------------------------------------------------------


def _delimiter_of(line: str, next_line: str, name: str, *, column: str, given: str | None) -> str:
    fitting = [mark for mark in DELIMITERS if _has(_header(line, mark), column)]
    if given and _has(_header(line, given), column):
        fitting = [given]
    elif given and fitting:
        raise Refusal(
            f"{name} separates its columns by {_called(fitting[0])}, not {_called(given)}. Leave --delimiter out."
        )
    if not fitting:
        _refuse_columns(line, name, column)
    found = fitting[0]
    width = len(_header(line, found) or [])
    other = next((mark for mark in DELIMITERS if mark != found and _width(next_line, mark) == width), None)
    if width > 1 and _width(next_line, found) == 1 and other:
        raise Refusal(
            f"The header of {name} is separated by {_called(found)}, its rows by {_called(other)}. Make them the same."
        )
    return found


def _called(mark: str) -> str:
    return DELIMITERS.get(mark, repr(mark))


def _header(line: str, delimiter: str) -> list[str] | None:
    try:
        return [_trimmed(cell) for cell in _cells(line, delimiter)]
    except csv.Error:
        return None


def _width(line: str, delimiter: str) -> int:
    return len(_header(line, delimiter) or [])


def _has(header: list[str] | None, column: str) -> bool:
    return column.strip().casefold() in map(str.casefold, header or [])


def _refuse_columns(line: str, name: str, column: str) -> NoReturn:
    headers = [_header(line, mark) or [] for mark in DELIMITERS]
    columns = ", ".join(repr(cell[:40]) for cell in max(headers, key=len)[:20])
    raise Refusal(
        f"{name} has no column {column!r}; it has: {columns or 'none'}. "
        f"Call the column with the phone numbers {column}, or give the command --map phone=… with its name."
    )


# --- rows --------------------------------------------------------------------------------------------------------


def _text(raw: BinaryIO, encoding: str) -> TextIOWrapper:
    # Broken bytes of a UTF-8 file come through as lone surrogates, and their rows are rejected.
    return TextIOWrapper(raw, encoding=encoding, errors="surrogateescape" if encoding in UTF_8 else "strict")


def _lines(stream: TextIOWrapper) -> Iterator[str]:
    """Physical lines without their ends; of an endless one no more than its beginning."""
    while line := stream.readline(ROW_LETTERS + 1):
        rest = line
        while len(rest) > ROW_LETTERS and not rest.endswith("\n"):
            rest = stream.readline(ROW_LETTERS + 1)
        yield line.removesuffix("\n")


def _first_line(lines: Iterator[str], number: int) -> tuple[int, str]:
    """The next line that isn't blank, with its number; empty at the end of the file."""
    for line in lines:
        number += 1
        if _trimmed(line):
            return number, line
    return number, ""


def _rows(lines: Iterator[str], number: int, delimiter: str, width: int) -> Iterator[Row]:
    """Rows from lines. A row that can't be read costs itself only: reading goes on in the line that follows it."""
    ahead: deque[str] = deque()
    while (line := ahead.popleft() if ahead else next(lines, None)) is not None:
        number += 1
        if len(line) > ROW_LETTERS:
            yield Row(number, [line[:200]], f"The row has more than {ROW_LETTERS:,} letters.")
            continue
        taken = [line]
        row = _row(taken, ahead, lines, number, delimiter, width)
        if row.problem:
            ahead.extendleft(reversed(taken[1:]))
        else:
            number += len(taken) - 1
        yield row


def _row(taken: list[str], ahead: deque[str], lines: Iterator[str], number: int, delimiter: str, width: int) -> Row:
    """The row that begins with the line in `taken`; takes what follows while a quoted cell stays open."""
    quotes = taken[0].count('"')
    while quotes % 2 and len(taken) < ROW_LINES:
        line = ahead.popleft() if ahead else next(lines, None)
        if line is None:
            break
        taken.append(line)
        quotes += line.count('"')
    try:
        cells = _cells("\n".join(taken), delimiter)
    except csv.Error:
        return Row(number, [taken[0]], _quoting(taken[0]))
    return Row(number, cells, _raggedness(cells, width))


def _cells(line: str, delimiter: str) -> list[str]:
    if '"' not in line:
        return line.split(delimiter)
    return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True))


def _quoting(line: str) -> str:
    if line.count('"') % 2:
        return "A quote opens in this row and never closes. Close it, or write it twice if it belongs to the text."
    return "The quotes in this row don't match. Write a quote that belongs to the text twice."


def _raggedness(cells: list[str], width: int) -> str | None:
    # Also where the surplus is empty: the row may have an unquoted comma further left, and every cell moved by one.
    if len(cells) == width or not any(map(str.strip, cells)):
        return None
    hint = "Leave no cell out; it may be empty."
    if len(cells) > width:
        hint = "Put a cell that holds the delimiter in quotes, such as several tags."
    return f"The row has {len(cells)} {'cell' if len(cells) == 1 else 'cells'} where the header has {width}. {hint}"


def _trimmed(cell: str) -> str:
    return cell.strip().strip("\ufeff\u200b").strip()
