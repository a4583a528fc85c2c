"""Phone numbers as WhatsApp sees them: the wa_id of what was dialed, the user id, who lives where."""

from __future__ import annotations

import re
import zlib

# What Meta tolerates in `to` between the digits.
_PUNCTUATION = re.compile(r"[\s().\-\u00a0]")
_DIGITS = re.compile(r"[1-9][0-9]{6,14}")  # E.164: up to 15 digits, no leading zero

# Calling code -> country of the business-scoped user id; longest prefix wins, "XX" where none fits.
_COUNTRIES = {
    "1": "US", "20": "EG", "212": "MA", "213": "DZ", "216": "TN", "233": "GH", "234": "NG", "254": "KE", "27": "ZA",
    "30": "GR", "31": "NL", "32": "BE", "33": "FR", "34": "ES", "351": "PT", "353": "IE", "358": "FI", "36": "HU",
    "39": "IT", "40": "RO", "41": "CH", "420": "CZ", "43": "AT", "44": "GB", "45": "DK", "46": "SE", "47": "NO",
    "48": "PL", "49": "DE", "51": "PE", "52": "MX", "54": "AR", "55": "BR", "56": "CL", "57": "CO", "58": "VE",
    "60": "MY", "61": "AU", "62": "ID", "63": "PH", "64": "NZ", "65": "SG", "66": "TH", "7": "RU", "81": "JP",
    "82": "KR", "84": "VN", "86": "CN", "852": "HK", "880": "BD", "886": "TW", "90": "TR", "91": "IN", "92": "PK",
    "94": "LK", "961": "LB", "962": "JO", "965": "KW", "966": "SA", "971": "AE", "972": "IL", "974": "QA", "977": "NP",
}  # fmt: skip

# Area codes under +1 outside the United States (North American Numbering Plan), and those of no place at all.
_CANADA = (
    "204 226 236 249 250 257 263 289 306 343 354 365 367 368 382 403 416 418 428 431 437 438 450 460 468 474 506 514"
    " 519 537 548 579 581 584 587 600 604 613 622 639 647 672 683 705 709 742 753 778 780 782 807 819 825 867 873 879"
    " 902 905 942"
)
_CARIBBEAN = "242 246 264 268 284 345 441 473 649 658 664 721 758 767 784 809 829 849 868 869 876"
_NOWHERE = "500 521 522 523 524 525 526 527 528 529 533 544 555 566 577 588 800 833 844 855 866 877 888 900"
_NOT_UNITED_STATES = frozenset(f"{_CANADA} {_CARIBBEAN} {_NOWHERE}".split())
_AREA_CODE = re.compile(r"1([2-9][0-8][0-9])[2-9][0-9]{6}")

_NAMES = ("Asha", "José", "Zoë", "李雷", "Мария", "نور", "Bjørn 🚀", "Priya", "Łukasz", "Chloé", "Diego", "Ìyá / Tolu")


def digits_of(dialed: str) -> str | None:
    """The digits of a number as written, or None where it is no international number."""
    digits = _PUNCTUATION.sub("", dialed).removeprefix("+")
    return digits if _DIGITS.fullmatch(digits) else None


def wa_id_of(digits: str) -> str:
    """The id under which WhatsApp knows the number: not always the digits that were dialed.

    Mexico carries a 1 and Argentina a 9 after the country code; in Brazil, outside the oldest areas, the ninth
    digit is missing.
    """
    if digits.startswith("52") and len(digits) == 12:
        return f"521{digits[2:]}"
    if digits.startswith("54") and len(digits) == 12:
        return f"549{digits[2:]}"
    if digits.startswith("55") and len(digits) == 13 and digits[4] == "9" and digits[2:4] >= "31":
        return digits[:4] + digits[5:]
    return digits


def user_id_of(wa_id: str) -> str:
    """The business-scoped user id of a person: theirs for good, and ours to read back."""
    country = next((_COUNTRIES[wa_id[:n]] for n in (3, 2, 1) if wa_id[:n] in _COUNTRIES), "XX")
    return f"{country}.1{wa_id.zfill(18)}"


def wa_id_of_user(user_id: str) -> str | None:
    """The person behind a business-scoped user id, or None where it isn't one of ours."""
    found = re.fullmatch(r"[A-Z]{2}\.1([0-9]{18})", user_id)
    return (found[1].lstrip("0") or None) if found else None


def in_united_states(digits: str) -> bool:
    """Whether the area code, not the +1 alone, says United States; the sample area 555 does not."""
    found = _AREA_CODE.fullmatch(digits)
    return found is not None and found[1] not in _NOT_UNITED_STATES


def profile_name_of(wa_id: str) -> str:
    """The name on a sample person's profile."""
    return _NAMES[zlib.crc32(wa_id.encode()) % len(_NAMES)]
