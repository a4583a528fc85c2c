"""One row of an import: what it says about a contact, or why it can't be taken."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from contacts import tagging
from contacts.csv_files import Row
from kaanha.lib import phone
from kaanha.lib.errors import Refusal

FIELDS = ("phone", "name", "email", "tags", "optedIn")
NAME = 200  # letters of a contact's name
EMAIL = 254
WHY = "Why it was rejected"  # a column of the file of rejected rows, which may come back with them
YES = frozenset({"true", "yes", "1"})
NO = frozenset({"false", "no", "0"})

_SURROGATES = re.compile("[\ud800-\udfff]")


class Rejected(ValueError):
    """A row that can't be taken; says why and what to do."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Where each field of a contact stands in a row (None: nowhere); every other column is an attribute."""

    places: Mapping[str, int | None]
    attributes: Mapping[str, int]

    @classmethod
    def of(cls, header: list[str], mapping: Mapping[str, str]) -> Columns:
        """The columns of this header: named like the fields, in any case, or as `mapping` (field → column) says."""
        known = {name.casefold(): place for place, name in reversed(list(enumerate(header)))}
        places: dict[str, int | None] = {}
        for name in FIELDS:
            places[name] = known.get(mapping.get(name, name).strip().casefold())
            if name in mapping and places[name] is None:
                listed = ", ".join(map(repr, header))
                raise Refusal(f"There is no column {mapping[name]!r} for {name}; the file has: {listed}.")
        _refuse_unreadable(header)
        _refuse_twice(header)
        _refuse_shared(header, places)
        taken = set(places.values())
        return cls(
            places, {name: place for place, name in enumerate(header) if name not in ("", WHY) and place not in taken}
        )


def _refuse_unreadable(header: list[str]) -> None:
    for name in header:
        if "\0" in name:
            raise Refusal(f"The column {name[:40]!r} holds a zero byte, which is no text. Remove it.")
        if _SURROGATES.search(name):
            raise Refusal("The header holds bytes that are not UTF-8. Save the file as CSV UTF-8.")


def _refuse_twice(header: list[str]) -> None:
    seen: set[str] = set()
    for name in filter(None, map(str.casefold, header)):
        if name in seen:
            raise Refusal(f"The column {name!r} appears twice in the header. Rename or remove one of the two.")
        seen.add(name)


def _refuse_shared(header: list[str], places: Mapping[str, int | None]) -> None:
    fields: dict[int, str] = {}
    for name, place in places.items():
        if place is None:
            continue
        if place in fields:
            raise Refusal(
                f"The column {header[place]!r} is taken for {fields[place]} and for {name}: give each its own column."
            )
        fields[place] = name


@dataclass(slots=True)
class Entry:
    """What a row says about a contact. Empty values say nothing; `opted_in` None leaves consent as it is."""

    phone: str
    country: str
    name: str
    email: str
    tags: list[str]
    opted_in: bool | None
    attributes: dict[str, str]
    warnings: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Line:
    """A row on its way through the import: the entry or none, and what became of it."""

    number: int
    cells: list[str]
    entry: Entry | None = None
    outcome: str = "rejected"
    reason: str = ""

    @property
    def remark(self) -> str:
        """The reason of the rejection, or the warnings."""
        return self.reason or " ".join(self.entry.warnings if self.entry else ())

    def reject(self, reason: str) -> None:
        self.entry, self.outcome, self.reason = None, "rejected", reason


def read(row: Row, columns: Columns, *, default_country: str | None = None) -> Line:
    """The row, understood or rejected."""
    line = Line(row.line, row.cells)
    try:
        line.entry = _entry(row, columns, default_country)
    except Rejected as rejected:
        line.reject(str(rejected))
    return line


def _entry(row: Row, columns: Columns, default_country: str | None) -> Entry:
    _check_letters(row)
    cells = {name: "" if place is None else row.cells[place].strip() for name, place in columns.places.items()}
    try:
        number = phone.parse(cells["phone"], default_country=default_country)
    except phone.InvalidPhone as invalid:
        raise Rejected(str(invalid)) from invalid
    entry = Entry(
        phone=number.e164,
        country=number.country,
        name=_name(cells["name"]),
        email=cells["email"],
        tags=_tags(cells["tags"]),
        opted_in=_consent(cells["optedIn"]),
        attributes={name: value for name, place in columns.attributes.items() if (value := row.cells[place].strip())},
    )
    if number.warning:
        entry.warnings.append(number.warning)
    if entry.email and not _is_email(entry.email):
        entry.warnings.append(f"{entry.email[:60]!r} is not an e-mail address; it was left out.")
        entry.email = ""
    return entry


def _check_letters(row: Row) -> None:
    if row.problem:
        raise Rejected(row.problem)
    for cell in row.cells:
        if cell.isascii() and "\0" not in cell:
            continue
        if "\0" in cell:
            raise Rejected("The row holds a zero byte, which is no text. Remove it.")
        if _SURROGATES.search(cell):
            raise Rejected("The row holds bytes that are not UTF-8. Save the file as CSV UTF-8.")


def _name(cell: str) -> str:
    # A line break in a name would come through to the templates, where Meta refuses it.
    name = " ".join(cell.split())
    if len(name) > NAME:
        raise Rejected(f"The name has {len(name)} letters; at most {NAME} can be kept. Shorten it.")
    return name


def _tags(cell: str) -> list[str]:
    names = list(dict.fromkeys(filter(None, map(tagging.clean, cell.split(",")))))
    for name in names:
        if len(name) > tagging.NAME:
            raise Rejected(f"The tag {name[:30]!r}… has more than {tagging.NAME} letters. Shorten it.")
    return names


def _consent(cell: str) -> bool | None:
    word = cell.casefold()
    if word in YES or word in NO:
        return word in YES
    if word:
        raise Rejected(f"optedIn is {cell[:30]!r}. Write true or false, or leave it empty to change nothing.")
    return None


def _is_email(cell: str) -> bool:
    try:
        validate_email(cell)
    except ValidationError:
        return False
    return len(cell) <= EMAIL


def storable(cells: list[str]) -> list[str]:
    """The cells as PostgreSQL can keep them: without zero bytes and halves of letters."""
    return [_SURROGATES.sub("\ufffd", cell.replace("\0", "\ufffd")) for cell in cells]
