"""The format of a ciphertext, byte by byte, and the context that it is bound to.

    1   format: 1 or 2
    1   algorithm: 1, XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha)
    1   length of the key id, 1 to 32
    n   key id, ASCII
    24  nonce, random
    m   the value, encrypted; as long as the value
    16  tag

The associated data is the header (all before the nonce), then table, column and row, each as two bytes of length
and UTF-8. In format 2 the values of other columns of the row follow, in the same form: whose the value is, for example.
A format never changes: another one gets another number, and these stay readable.
"""

import re
from dataclasses import dataclass, field

from nacl.exceptions import CryptoError
from nacl.secret import Aead

from ai_admin.vault.secret_value import SecretValue

KEY_ID = r"[a-z0-9][a-z0-9._-]{0,31}"
KEY_SIZE = Aead.KEY_SIZE
_KEY_ID = re.compile(KEY_ID.encode())
# Format and algorithm: bound to the place alone, and to other values of the row too.
_OF_PLACE, _OF_ROW = b"\x01\x01", b"\x02\x01"
_LENGTH_AT = len(_OF_PLACE)
_OVERHEAD = Aead.NONCE_SIZE + Aead.MACBYTES
_LENGTH_BYTES = 2


class VaultError(Exception):
    """The sealed value cannot be opened."""

    # One text for whatever is wrong, so that an answer tells nothing about keys and values. The log says why.

    def __str__(self) -> str:
        return "The sealed value cannot be opened."


@dataclass(frozen=True)
class Context:
    """Where a sealed value stands, and what stands beside it. Moved to another place it does not open.

    `row` is the row's primary key; `bound` are values of other columns of the row that never change. Each is 1 to
    65,535 bytes of UTF-8; else `ValueError`. A value that is sealed with `bound` is of format 2. One of format 1 opens
    at its place, whatever stands beside it.
    """

    table: str
    column: str
    row: str
    bound: tuple[str, ...] = ()
    _place: bytes = field(init=False, repr=False, compare=False)
    _encoded: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        place = _joined((self.table, self.column, self.row))
        object.__setattr__(self, "_place", place)
        object.__setattr__(self, "_encoded", place + _joined(self.bound))

    def encoded(self) -> bytes:
        """The canonical form: no two contexts have the same."""
        return self._encoded

    def associated(self, header: bytes) -> bytes:
        """What the tag of a ciphertext with this header covers beside the value."""
        return header + (self._encoded if header.startswith(_OF_ROW) else self._place)


def _joined(parts: tuple[str, ...]) -> bytes:
    return b"".join(_prefixed(part.encode()) for part in parts)


def _prefixed(part: bytes) -> bytes:
    if not 0 < len(part) < 1 << 8 * _LENGTH_BYTES:
        raise ValueError("table, column, row and each bound value are 1 to 65,535 bytes")
    return len(part).to_bytes(_LENGTH_BYTES, "big") + part


def _header(format_and_algorithm: bytes, key_id: str) -> bytes:
    return format_and_algorithm + bytes([len(key_id)]) + key_id.encode("ascii")


def key_id_of(ciphertext: bytes) -> str:
    """The id of the key that sealed it, read and not verified. Raises `VaultError` for what is no ciphertext."""
    length = ciphertext[_LENGTH_AT] if len(ciphertext) > _LENGTH_AT else 0
    key_id = ciphertext[_LENGTH_AT + 1 : _LENGTH_AT + 1 + length]
    if (
        not ciphertext.startswith((_OF_PLACE, _OF_ROW))
        or not _KEY_ID.fullmatch(key_id)
        or len(ciphertext) < _LENGTH_AT + 1 + length + _OVERHEAD
    ):
        raise VaultError
    return key_id.decode("ascii")


def encrypt(value: bytes, context: Context, key_id: str, key: SecretValue) -> bytes:
    """The ciphertext of a value, under a nonce of its own."""
    header = _header(_OF_ROW if context.bound else _OF_PLACE, key_id)
    return header + Aead(key.get_secret_value()).encrypt(value, context.associated(header))


def decrypt(ciphertext: bytes, context: Context, key_id: str, key: SecretValue) -> bytes | None:
    """The value; None where it is damaged, or context or key is another one. `key_id` is what `key_id_of` gives."""
    header = _header(ciphertext[:_LENGTH_AT], key_id)
    try:
        return Aead(key.get_secret_value()).decrypt(ciphertext[len(header) :], context.associated(header))
    except CryptoError:
        # No error is raised from here: its traceback would hold the key.
        return None
