"""Secrets at rest: encrypted with the first of `ENCRYPTION_KEYS`, readable with any of them."""

import base64
import hashlib
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import models

from kaanha.lib.errors import Refusal


def encrypt(text: str) -> str:
    """`text` under the first key."""
    return _fernet(tuple(settings.ENCRYPTION_KEYS)).encrypt(text.encode()).decode()


def decrypt(token: str) -> str:
    """The text behind `token`. Refusal when none of the keys opens it."""
    try:
        return _fernet(tuple(settings.ENCRYPTION_KEYS)).decrypt(token.encode()).decode()
    except InvalidToken as error:
        raise Refusal(
            "A stored secret can't be read: the key that encrypted it is missing from ENCRYPTION_KEYS."
        ) from error


def under_first_key(token: str) -> bool:
    """Whether the first key opens it: what it doesn't open is older, or of a key that is lost."""
    try:
        _fernet(tuple(settings.ENCRYPTION_KEYS[:1])).decrypt(token.encode())
    except InvalidToken:
        return False
    return True


@lru_cache(maxsize=8)
def _fernet(keys: tuple[str, ...]) -> MultiFernet:
    # A key may be any text: its digest has the length that Fernet wants.
    return MultiFernet([Fernet(base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest())) for key in keys])


class SecretField(models.TextField):
    """A text that stands encrypted in the database and in the clear on the instance. Can't be filtered by."""

    def from_db_value(self, value: str | None, *_: Any) -> str | None:
        return value and decrypt(value)

    def get_prep_value(self, value: Any) -> Any:
        return value and encrypt(value)
