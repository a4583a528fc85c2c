"""Phone numbers as people write them, as E.164 and as WhatsApp spells them."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumber, PhoneNumberType, ValidationResult

NORTH_AMERICA = 1
MEXICO = 52
BRAZIL = 55
NOT_GEOGRAPHICAL = "001"  # what the library calls international networks and freephone numbers
# A national number seldom has more digits: from here on the country code is surely among them.
SURELY_INTERNATIONAL = 11
# Area codes of services: they say nothing about the country.
SERVICES = frozenset({PhoneNumberType.TOLL_FREE, PhoneNumberType.PREMIUM_RATE, PhoneNumberType.PERSONAL_NUMBER})

_ORDINARY = re.compile(r"\+?[0-9 ().\-]+")
_SCIENTIFIC = re.compile(r"[0-9]+(?:[.,][0-9]*)?E\+?[0-9]+", re.IGNORECASE)
_DECIMAL = re.compile(r"(\+?[0-9]{7,})[.,]0+")  # a spreadsheet took the number for a quantity
_EXTENSION = re.compile(r"[0-9]\s*(?:ext|extension|x|#|;ext=)[.:\s]*[0-9]+\s*$", re.IGNORECASE)
_BETWEEN = re.compile(r"[,;/|&\n]|\bor\b")
_OLD_MEXICAN = re.compile(r"1[2-9][0-9]{9}")
_OLD_BRAZILIAN = re.compile(r"([1-9][0-9])([6-9][0-9]{7})")


@dataclass(frozen=True, slots=True)
class Phone:
    """A number that can be dialed: `country` has two letters, or none where the number belongs to no known country."""

    e164: str
    country: str
    warning: str | None = None


class InvalidPhone(ValueError):
    """A text that is no phone number; says why and what to do."""


def parse(text: str, *, default_country: str | None = None) -> Phone:
    """The number that `text` writes, in international form.

    Spaces, dashes, dots, brackets, `00` for the plus, digits of other scripts and a spreadsheet's apostrophe don't
    matter. Without a plus it is a national number of `default_country` (two letters), else international if it is
    valid so. A number that is possible but not valid comes with a warning: numbering plans change.
    """
    written = _plain(text)
    if written.startswith("+"):
        return _phone(_read(written, None))
    return _without_plus(written, default_country)


def from_wa_id(wa_id: str) -> Phone:
    """The number behind a wa_id, which WhatsApp spells without plus and, in Brazil and Mexico, in the old way.

    Takes WhatsApp's word where the library disagrees: who writes to us has a number.
    """
    try:
        found = parse(f"+{wa_id}")
    except InvalidPhone:
        return Phone(f"+{wa_id}", "")
    return Phone(found.e164, found.country)


def spellings(wa_id: str) -> list[str]:
    """Every E.164 number under which the person of this wa_id may be stored, the likeliest first."""
    found = [from_wa_id(wa_id).e164, f"+{wa_id}"]
    if wa_id.startswith("549") and len(wa_id) == 13:  # Argentina's 9 stands for "mobile"; people leave it out
        found.append(f"+54{wa_id[3:]}")
    return list(dict.fromkeys(found))


@lru_cache(maxsize=1024)
def country_of_area(area: str) -> str:
    """The country of a North American area code (`416` is CA, `876` JM); empty where it belongs to none.

    A number may be invalid only because of its exchange, so the area is asked for with every exchange in turn.
    """
    for exchange in range(200, 1000):
        number = PhoneNumber(country_code=NORTH_AMERICA, national_number=int(f"{area}{exchange}0100"))
        region = phonenumbers.region_code_for_number(number)
        if region and phonenumbers.number_type(number) not in SERVICES:
            return str(region)
    return ""


def is_country(code: str) -> bool:
    """Whether `code` is the two letters of a country whose numbering plan we know."""
    return code in phonenumbers.SUPPORTED_REGIONS


def _plain(text: str) -> str:
    """`text` as plus, ASCII digits and ordinary punctuation; InvalidPhone for anything that can't be a number."""
    written = text if text.isascii() else _ascii(text)
    written = written.strip().lstrip("'").strip().replace("(+", "+", 1)
    if decimal := _DECIMAL.fullmatch(written):
        written = decimal[1]
    if not _ORDINARY.fullmatch(written):
        written = _tolerated(written)
    return f"+{written[2:]}" if written.startswith("00") else written


def _ascii(text: str) -> str:
    return "".join(map(_ascii_character, text))


def _ascii_character(character: str) -> str:
    if character.isascii():
        return character
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    category = unicodedata.category(character)
    if category in ("Cf", "Mn"):  # byte order mark, zero-width space, direction marks
        return ""
    if category in ("Zs", "Pd"):  # spaces and dashes of every width
        return " " if category == "Zs" else "-"
    plain = {"\u2018": "'", "\u2019": "'", "\u2212": "-"}.get(character) or unicodedata.normalize("NFKC", character)
    return plain if plain.isascii() else character


def _tolerated(written: str) -> str:
    """What is left of a text with characters other than a number's, or InvalidPhone for the reason it is none."""
    if not written:
        raise InvalidPhone("The phone number is empty.")
    if _SCIENTIFIC.fullmatch(written):
        raise InvalidPhone(
            f"{_short(written)} is a number that a spreadsheet has shortened, and its last digits are lost. "
            "Format the column as text, enter the numbers again and export the file anew."
        )
    if _holds_two(written):
        raise InvalidPhone("The cell holds more than one phone number. Keep one of them.")
    if _EXTENSION.search(written):
        raise InvalidPhone("The number has an extension, which WhatsApp can't reach. Give the number without it.")
    if not any(character.isdecimal() for character in written):
        raise InvalidPhone(f"{_short(written)} holds no phone number. Write it as +919876543210.")
    if any(character.isalpha() for character in written):
        raise InvalidPhone(f"{_short(written)} holds letters. Write digits only, such as +919876543210.")
    plain = re.sub(r"[\s/\[\]]", " ", written)
    if not _ORDINARY.fullmatch(plain):
        raise InvalidPhone(f"{_short(written)} holds characters that no phone number has. Write it as +919876543210.")
    return plain


def _holds_two(written: str) -> bool:
    parts = [part for part in _BETWEEN.split(written) if sum(map(str.isdecimal, part)) >= 7]
    return len(parts) > 1 or written.count("+") > 1


def _without_plus(written: str, default_country: str | None) -> Phone:
    """A number without a plus: national in `default_country`, else international if that makes it valid."""
    national = _read(written, default_country) if default_country else None
    if national and phonenumbers.is_valid_number(national):
        return _phone(national)
    digits = re.sub(r"\D", "", written)
    found = _international(digits)
    if found and len(digits) >= SURELY_INTERNATIONAL:
        return found
    if national:
        return _phone(national)
    if found:
        return Phone(found.e164, found.country, f"It has no plus; taken as {found.e164} ({found.country}).")
    raise InvalidPhone(
        f"{_short(written)} has no country code. Put + and the country code in front, such as +91 for India."
    )


def _international(digits: str) -> Phone | None:
    """The phone of these digits behind a plus, if it is valid."""
    try:
        number = _read(f"+{digits}", None)
    except InvalidPhone:
        return None
    number = _respelled(number) or number
    return _phone(number) if phonenumbers.is_valid_number(number) else None


def _read(written: str, country: str | None) -> PhoneNumber:
    try:
        number = phonenumbers.parse(written, country)
    except NumberParseException as error:
        raise InvalidPhone(_unreadable(written, error)) from error
    if number.extension:
        raise InvalidPhone("The number has an extension, which WhatsApp can't reach. Give the number without it.")
    return number


def _unreadable(written: str, error: NumberParseException) -> str:
    if error.error_type == NumberParseException.INVALID_COUNTRY_CODE:
        return f"{_short(written)} begins with no country code that exists. Check the digits after the plus."
    if error.error_type == NumberParseException.TOO_LONG:
        return f"{_short(written)} has too many digits. Check that only one number is in the cell."
    return f"{_short(written)} has too few digits. Write the whole number, such as +919876543210."


def _phone(number: PhoneNumber) -> Phone:
    """The number as we keep it; InvalidPhone if it isn't possible for its country code."""
    if respelled := _respelled(number):
        phone = _phone(respelled)
        return Phone(phone.e164, phone.country, f"It is written the old way; taken as {phone.e164}.")
    country = phonenumbers.region_code_for_number(number)
    home = country or phonenumbers.region_code_for_country_code(number.country_code or 0)
    if home == NOT_GEOGRAPHICAL:
        raise InvalidPhone(f"+{number.country_code} belongs to no country, so WhatsApp has no numbers there.")
    _check_length(number, home)
    if number.country_code == NORTH_AMERICA:
        home = country_of_area(str(number.national_number)[:3])
    # The country of a number is known before it is valid: most calling codes have but one.
    valid = country is not None and phonenumbers.is_valid_number_for_region(number, country)
    return Phone(_e164(number), home, None if valid else _doubt(number, home))


def _check_length(number: PhoneNumber, country: str) -> None:
    reason = phonenumbers.is_possible_number_with_reason(number)
    if reason == ValidationResult.IS_POSSIBLE:
        return
    where = f"+{number.country_code} ({country})"
    if reason == ValidationResult.TOO_LONG:
        raise InvalidPhone(f"The number has too many digits for {where}. Check that none is there twice.")
    if reason == ValidationResult.IS_POSSIBLE_LOCAL_ONLY:
        raise InvalidPhone(f"The area code is missing for {where}. Write the whole number.")
    if reason == ValidationResult.INVALID_LENGTH:
        raise InvalidPhone(f"No number of {where} has this many digits. Check that none is missing or too many.")
    raise InvalidPhone(f"The number has too few digits for {where}. Check that none is missing.")


def _doubt(number: PhoneNumber, country: str) -> str:
    plan = f"of {country}" if country else f"of +{number.country_code}"
    return f"{_e164(number)} has the right length but is not in use in the numbering plan {plan} that we know."


def _respelled(number: PhoneNumber) -> PhoneNumber | None:
    """A number of Mexico with the 1, or of a Brazilian mobile without the 9, as it is dialed today."""
    national = str(number.national_number)
    if number.country_code == MEXICO and _OLD_MEXICAN.fullmatch(national):
        return PhoneNumber(country_code=MEXICO, national_number=int(national[1:]))
    if number.country_code == BRAZIL and (old := _OLD_BRAZILIAN.fullmatch(national)):
        today = PhoneNumber(country_code=BRAZIL, national_number=int(f"{old[1]}9{old[2]}"))
        return today if phonenumbers.is_valid_number(today) else None
    return None


def _e164(number: PhoneNumber) -> str:
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _short(written: str) -> str:
    return repr(written if len(written) <= 30 else f"{written[:29]}…")
