"""The signature of a callback: X-Hub-Signature-256. Source: Webhooks, "Validating payloads"."""

import hashlib
import hmac
from collections.abc import Iterable

PREFIX = "sha256="


def sign(secret: str, body: bytes) -> str:
    """The header that Meta sends with `body`: HMAC-SHA256 of the raw bytes under the app secret."""
    return PREFIX + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def valid(header: str | None, body: bytes, secrets: Iterable[str]) -> bool:
    """Whether `header` signs exactly these bytes with one of `secrets`: two are in use while one is being rotated."""
    # Compared as bytes: text with other than ASCII characters can't be compared in constant time.
    given = (header or "").encode(errors="replace")
    return any(hmac.compare_digest(sign(secret, body).encode(), given) for secret in secrets if secret)
