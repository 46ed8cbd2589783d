"""The format of a ciphertext, byte by byte, and the context that it is bound to.

    1   format: 1
    1   algorithm: 1, XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha)
    1   length of the key id, 1 to 32
    n   key id, ASCII
    24  nonce, random
    m   the value, encrypted; as long as the value
    16  tag

The associated data is the header (all before the nonce), then table, column and row, each as two bytes of length
and UTF-8. The format never changes: another one gets another number, and this one stays readable.
"""

import re
from dataclasses import dataclass, field

from nacl.exceptions import CryptoError
from nacl.secret import Aead

from ai_admin.vault.secret_value import SecretValue

KEY_ID = r"[a-z0-9][a-z0-9._-]{0,31}"
KEY_SIZE = Aead.KEY_SIZE
_KEY_ID = re.compile(KEY_ID.encode())
_FORMAT_AND_ALGORITHM = b"\x01\x01"
_LENGTH_AT = len(_FORMAT_AND_ALGORITHM)
_OVERHEAD = Aead.NONCE_SIZE + Aead.MACBYTES
_LENGTH_BYTES = 2


class VaultError(Exception):
    """The sealed value cannot be opened."""

    # One text for whatever is wrong, so that an answer tells nothing about keys and values. The log says why.

    def __str__(self) -> str:
        return "The sealed value cannot be opened."


@dataclass(frozen=True)
class Context:
    """Where a sealed value stands. Moved to another place it does not open.

    `row` is the row's primary key, which never changes. Each is 1 to 65,535 bytes of UTF-8; else `ValueError`.
    """

    table: str
    column: str
    row: str
    _encoded: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = (self.table, self.column, self.row)
        object.__setattr__(self, "_encoded", b"".join(_prefixed(part.encode()) for part in parts))

    def encoded(self) -> bytes:
        """The canonical form: no two contexts have the same."""
        return self._encoded


def _prefixed(part: bytes) -> bytes:
    if not 0 < len(part) < 1 << 8 * _LENGTH_BYTES:
        raise ValueError("table, column and row are 1 to 65,535 bytes each")
    return len(part).to_bytes(_LENGTH_BYTES, "big") + part


def _header(key_id: str) -> bytes:
    return _FORMAT_AND_ALGORITHM + bytes([len(key_id)]) + key_id.encode("ascii")


def key_id_of(ciphertext: bytes) -> str:
    """The id of the key that sealed it, read and not verified. Raises `VaultError` for what is no ciphertext."""
    length = ciphertext[_LENGTH_AT] if len(ciphertext) > _LENGTH_AT else 0
    key_id = ciphertext[_LENGTH_AT + 1 : _LENGTH_AT + 1 + length]
    if (
        not ciphertext.startswith(_FORMAT_AND_ALGORITHM)
        or not _KEY_ID.fullmatch(key_id)
        or len(ciphertext) < _LENGTH_AT + 1 + length + _OVERHEAD
    ):
        raise VaultError
    return key_id.decode("ascii")


def encrypt(value: bytes, context: Context, key_id: str, key: SecretValue) -> bytes:
    """The ciphertext of a value, under a nonce of its own."""
    header = _header(key_id)
    return header + Aead(key.get_secret_value()).encrypt(value, header + context.encoded())


def decrypt(ciphertext: bytes, context: Context, key_id: str, key: SecretValue) -> bytes | None:
    """The value; None where it is damaged, or context or key is another one. `key_id` is what `key_id_of` gives."""
    header = _header(key_id)
    try:
        return Aead(key.get_secret_value()).decrypt(ciphertext[len(header) :], header + context.encoded())
    except CryptoError:
        # No error is raised from here: its traceback would hold the key.
        return None
