"""Text of strangers, made fit for a UTF-8 database."""

import re

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # PostgreSQL refuses NUL, UTF-8 lone surrogates
REPLACEMENT = "\ufffd"


def clean(text: str, limit: int | None = None) -> str:
    """`text` with what can't be stored replaced, cut to `limit` characters."""
    text = text[:limit]
    # ASCII is by far the usual case and needs no search for surrogates.
    if text.isascii() and "\0" not in text:
        return text
    return UNSTORABLE.sub(REPLACEMENT, text)
