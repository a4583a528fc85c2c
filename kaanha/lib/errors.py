"""Errors that are meant for people."""

from __future__ import annotations

from collections.abc import Mapping


class Refusal(Exception):
    """Something we will not do, said in sentences that tell the reader what to do about it.

    Commands print it and exit with 2, the API answers it with its `code`, the admin shows it as a message. `fields` are
    the sentences of it that concern a part of what was sent, by their places as the API writes them: `steps.2.delay`.
    """

    def __init__(self, message: str, *, code: str = "refused", fields: Mapping[str, list[str]] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.fields = fields
