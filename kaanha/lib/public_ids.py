"""Opaque public ids computed from bigint keys, without a column or an index of their own.

A public id is one AES block: eight bytes that say what kind of row it is and eight bytes of key, encrypted and written
in base 32 behind a readable prefix (`msg_hq3v…`, 26 letters). It can't be guessed, counted or carried over to another
kind: a random block decrypts to the expected kind once in 2^64 times.
"""

import base64
import hashlib
import threading

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from django.conf import settings

PADDING = "=" * 6  # 16 bytes are 26 letters of base 32; the decoder wants 32

LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = [first + second for first in LETTERS for second in LETTERS]
_PLACES = range(120, -1, -10)

_local = threading.local()


def encode(kind: str, key: int) -> str:
    """The public id of row `key` of `kind`, such as `msg_` and 26 letters. `kind` has one to eight ASCII letters."""
    block = kind.encode().ljust(8, b"\0") + key.to_bytes(8, "big")
    # 128 bits and two more are 26 letters: base 32 without its padding, at a third of what base64.b32encode takes.
    bits = int.from_bytes(_ciphers()[0].update(block)) << 2
    return f"{kind}_{''.join([_PAIRS[bits >> place & 1023] for place in _PLACES])}"


def decode(kind: str, public_id: str) -> int | None:
    """The key behind a public id of `kind`; None for anything that isn't one."""
    prefix, _, letters = public_id.partition("_")
    # Letters of other alphabets may grow when they are made capital, and what is left of them would stay in the cipher.
    if prefix != kind or len(letters) != 26 or not letters.isascii():
        return None
    try:
        block = _ciphers()[1].update(base64.b32decode(letters.upper() + PADDING))
    except ValueError:
        return None
    tag, key = block[:8].rstrip(b"\0"), int.from_bytes(block[8:], "big")
    # Two spellings of the last letter decode to the same bytes: only the one that we write is the id.
    return key if tag == kind.encode() and encode(kind, key) == public_id else None


def _ciphers() -> tuple[CipherContext, CipherContext]:
    # ECB over one block has no state, so a context serves for ever; it isn't thread-safe, so each thread has its own.
    secret = settings.PUBLIC_ID_KEY
    if getattr(_local, "secret", None) != secret:
        key = hashlib.sha256(b"kaanha public ids\0" + secret.encode()).digest()
        cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305 — a single block, never a message
        _local.secret, _local.pair = secret, (cipher.encryptor(), cipher.decryptor())
    pair: tuple[CipherContext, CipherContext] = _local.pair
    return pair
