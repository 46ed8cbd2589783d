"""The form of an API key: `aia_`, 43 random letters and digits, and six that check the rest.

The prefix lets scanners of repositories find a leaked key; the checksum (CRC-32, as in GitHub's tokens) tells a
typo without a query. 32 random bytes cannot be guessed, so a plain digest keeps them: there is nothing that a slow
one would protect.
"""

import hashlib
import re
import secrets
import zlib

PREFIX = "aia_"
FORM = rf"{PREFIX}[0-9A-Za-z]{{49}}"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_BYTES = 32
# Letters that hold 32 bytes, and 32 bits.
_SECRET_LETTERS = 43
_CHECK_LETTERS = 6
_JWT_DOTS = 2


def make_key() -> str:
    """A new key; nobody but its user ever sees it again."""
    body = PREFIX + _letters(int.from_bytes(secrets.token_bytes(_SECRET_BYTES), "big"), _SECRET_LETTERS)
    return body + _checksum(body)


def is_key(text: str) -> bool:
    """Whether this has the form of a key, its checksum included."""
    return bool(re.fullmatch(FORM, text)) and _checksum(text[:-_CHECK_LETTERS]) == text[-_CHECK_LETTERS:]


def is_jwt(text: str) -> bool:
    """Whether this may be a JWT in compact form (RFC 7519, 3): three parts in ASCII."""
    return text.isascii() and text.count(".") == _JWT_DOTS


def digest(key: str) -> bytes:
    """SHA-256 of a key, or of a token: all that is kept of it."""
    return hashlib.sha256(key.encode()).digest()


def _checksum(body: str) -> str:
    return _letters(zlib.crc32(body.encode()), _CHECK_LETTERS)


def _letters(number: int, length: int) -> str:
    letters = []
    for _ in range(length):
        number, rest = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[rest])
    return "".join(reversed(letters))
