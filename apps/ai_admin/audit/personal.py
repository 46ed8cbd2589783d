"""Personal values in events: sealed under the person's key, beside a fingerprint that says which key that is.

    8   `aia-ak1` and a zero byte
    16  fingerprint: the first bytes of SHA-256 over `ai-admin audit key 1` and the key
    24  nonce, random
    m   the value, encrypted (XChaCha20-Poly1305); as long as the value
    16  tag, which covers the event's id too

Seals cover the fingerprint, so a key that was lost or exchanged is told from one that an erasure has destroyed. A key
is 32 random bytes: nobody finds it by its fingerprint. Values of version 0.1.0 begin with the nonce. The view
`audit_people` has the fingerprints of the present keys.
"""

from hashlib import sha256
from uuid import UUID

from nacl.exceptions import CryptoError
from nacl.secret import Aead

MARK = b"aia-ak1\0"
_FINGERPRINT_SIZE = 16


def _fingerprint(key: bytes) -> bytes:
    return sha256(b"ai-admin audit key 1" + key).digest()[:_FINGERPRINT_SIZE]


def seal(value: bytes, event_id: UUID, key: bytes) -> bytes:
    """The value as it stands in the event."""
    return MARK + _fingerprint(key) + Aead(key).encrypt(value, event_id.bytes)


def unseal(sealed: bytes, event_id: UUID, key: bytes) -> bytes | None:
    """The value; None where the key is another one, or the value is damaged or of another event."""
    start = len(MARK) + _FINGERPRINT_SIZE if sealed.startswith(MARK) else 0
    try:
        return Aead(key).decrypt(sealed[start:], event_id.bytes)
    except CryptoError:
        return None
