"""Opaque public ids computed from bigint keys, without a column or an index of their own.

A public id is one AES block: eight bytes that say what kind of row it is and eight bytes of key, encrypted and written
in base 32 behind a readable prefix (`msg_hq3v…`, 26 letters). It can't be guessed, counted or carried over to another
kind: a random block decrypts to the expected kind once in 2^64 times.
"""

import hashlib
import threading
from collections.abc import Sequence
from functools import cache

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from django.conf import settings

LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = [first + second for first in LETTERS for second in LETTERS]
_PLACES = range(120, -1, -10)
# Our letters as int() reads base 32, and nothing for all others that it would take, such as a sign.
_DIGITS = dict.fromkeys(range(128), "?") | str.maketrans(LETTERS, "0123456789abcdefghijklmnopqrstuv")

_NO_ID = 1  # ends in bits that belong to no byte

_local = threading.local()


def encode(kind: str, key: int) -> str:
    """The public id of row `key` of `kind`, such as `msg_` and 26 letters. `kind` has one to eight ASCII letters."""
    block = _tag(kind) + key.to_bytes(8, "big")
    # 128 bits and two more are 26 letters: base 32 without its padding, at a third of what base64.b32encode takes.
    bits = int.from_bytes(_ciphers()[0].update(block)) << 2
    return f"{kind}_{''.join([_PAIRS[bits >> place & 1023] for place in _PLACES])}"


def decode(kind: str, public_id: str) -> int | None:
    """The key behind a public id of `kind`; None for anything that isn't one."""
    return decode_many(kind, [public_id])[0]


def decode_many(kind: str, public_ids: Sequence[str]) -> list[int | None]:
    """The key behind each of these, None for what isn't one. They are decrypted at once: a batch has thousands."""
    read = [_bits(kind, public_id) for public_id in public_ids]
    blocks = _ciphers()[1].update(b"".join([(bits >> 2).to_bytes(16, "big") for bits in read]))
    tag = _tag(kind)
    # Four spellings of the last letter say the same block: only the one that we write is the id.
    return [
        int.from_bytes(blocks[place + 8 : place + 16], "big")
        if blocks[place : place + 8] == tag and not bits & 3
        else None
        for place, bits in zip(range(0, len(blocks), 16), read, strict=True)
    ]


def _bits(kind: str, public_id: str) -> int:
    """What the letters of a public id say; for anything that isn't one something that can't be an id."""
    prefix, _, letters = public_id.partition("_")
    if prefix != kind or len(letters) != 26 or not letters.isascii():
        return _NO_ID
    try:
        return int(letters.translate(_DIGITS), 32)
    except ValueError:
        return _NO_ID


@cache
def _tag(kind: str) -> bytes:
    return kind.encode().ljust(8, b"\0")


def _ciphers() -> tuple[CipherContext, CipherContext]:
    # ECB over one block has no state, so a context serves for ever; it isn't thread-safe, so each thread has its own.
    secret = settings.PUBLIC_ID_KEY
    if getattr(_local, "secret", None) != secret:
        key = hashlib.sha256(b"kaanha public ids\0" + secret.encode()).digest()
        cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305 — a single block, never a message
        _local.secret, _local.pair = secret, (cipher.encryptor(), cipher.decryptor())
    pair: tuple[CipherContext, CipherContext] = _local.pair
    return pair
