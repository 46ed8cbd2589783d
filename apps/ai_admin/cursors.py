"""Cursors of lists: sealed, so that they can be neither read nor changed, nor used with another list.

A cursor is XChaCha20-Poly1305 (`nacl.secret.Aead`) over the position, in unpadded base64url. The associated
data is a digest of what the list was asked for; the key belongs to the deployment.
"""

import base64
import binascii
import hashlib
from contextlib import suppress
from dataclasses import dataclass

import orjson
from nacl.exceptions import CryptoError
from nacl.secret import Aead

# Longer ones were not made here: the longest position is a name of 200 characters that fold to more.
LONGEST = 8192
_FORMAT = b"ai-admin cursor 1\x00"


# The one that seals, then those that only open.
Keys = tuple[bytes, ...]


class CursorInvalid(Exception):
    """The cursor was not made here, or not for this list."""


@dataclass(frozen=True)
class Position:
    """The last row that was shown: its value in the order of the list, and its id."""

    key: str
    id: str


def opened(sealed: bytes, context: bytes, keys: Keys) -> bytes:
    """What one of the keys has sealed for this context. Raises `CryptoError`, and ValueError for a text too short."""
    for key in keys[:-1]:
        with suppress(CryptoError):
            return bytes(Aead(key).decrypt(sealed, context))
    return bytes(Aead(keys[-1]).decrypt(sealed, context))


def _context(asked: bytes) -> bytes:
    return hashlib.blake2b(_FORMAT + asked, digest_size=32).digest()


def seal(position: Position, asked: bytes, keys: Keys) -> str:
    """Make the cursor of a position under the first key; `asked` is the canonical form of list, filters and order."""
    sealed = Aead(keys[0]).encrypt(orjson.dumps([position.key, position.id]), _context(asked))
    return _encode(sealed)


def _encode(sealed: bytes) -> str:
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode("ascii")


def unseal(cursor: str, asked: bytes, keys: Keys) -> Position:
    """The position that `seal` was given with the same `asked` and one of the keys. Raises `CursorInvalid`."""
    try:
        sealed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        if _encode(sealed) != cursor:
            # Base64 ignores the last bits of an incomplete group, and `+` decodes as `-` does.
            raise CursorInvalid
        row_key, row_id = orjson.loads(opened(sealed, _context(asked), keys))
    except (ValueError, binascii.Error, CryptoError) as error:
        raise CursorInvalid from error
    return Position(row_key, row_id)
