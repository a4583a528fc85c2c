"""A contact's values for a template's variables, said in SQL for a whole set.

The same as `messaging.policy.Addressee.values` and `templates_app.rendering` say in Python for one contact: a value is
trimmed and put on one line as people see white space, so that "\u3000" is as empty as "".
"""

from __future__ import annotations

from typing import Any

from django.db.models import F, Func, Q, TextField, Value
from django.db.models.functions import Coalesce, Left, Length, StrIndex
from django.db.models.lookups import Exact, GreaterThan

# What Python's str.strip and str.split take for white space, and what of it breaks a line.
SPACES = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
BREAKS = "\t\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029"
LINK = f"^https?://[^ {BREAKS}]*$"
LINK_LENGTH = len("https://")


def value(field: str) -> Any:
    """What the contact has for `field`, a column or an attribute with or without `attributes.`; never null."""
    if field == "first_name":
        word = Func(F("name"), Value(f"[^{SPACES}]+"), function="substring", output_field=TextField())
        return Coalesce(_function("rtrim", word, Value(",")), Value(""))
    if field in ("name", "email", "phone"):
        return Coalesce(F(field), Value(""), output_field=TextField())
    key = Value(field.removeprefix("attributes."))
    return Coalesce(_function("jsonb_extract_path_text", F("attributes"), key), Value(""))


def trimmed(field: str) -> Any:
    """The value without white space around it."""
    return _function("btrim", value(field), Value(SPACES))


def empty(field: str) -> Any:
    """Whether nothing is left of the value when it is trimmed.

    What begins with neither white space nor, as a first name, with a comma isn't empty: seen at its first character,
    without a regular expression or a comparison with each kind of white space.
    """
    begins, nothing = (F("name"), f"{SPACES},") if field == "first_name" else (value(field), SPACES)
    doubtful = GreaterThan(StrIndex(Value(nothing), Left(begins, 1)), 0)
    return Q(doubtful) & Q(Exact(trimmed(field), Value("")))


def length_bound(field: str) -> Any:
    """No less than the length of the value, and cheap to tell."""
    return Length(value("name" if field == "first_name" else field))


def tidied(field: str) -> Any:
    """The value on one line, as it is sent. Dearer than `trimmed`: a regular expression for each row."""
    within = Value(f"[{SPACES}]*[{BREAKS}][{SPACES}]*| {{5,}}")
    return _function("btrim", _function("regexp_replace", value(field), within, Value(" "), Value("g")), Value(SPACES))


def _function(name: str, *arguments: Any) -> Func:
    return Func(*arguments, function=name, output_field=TextField())
