"""The vault's format once more, in plain Python from the documents alone: it shares no code with the product.

ChaCha20 and Poly1305 after RFC 8439, HChaCha20 and the 24-byte nonce after draft-irtf-cfrg-xchacha-03, the bytes
around them after docs/security.md. Slow and not in constant time: for tests only.
"""

import struct


def _rotated(word: int, bits: int) -> int:
    return (word << bits | word >> 32 - bits) & 0xFFFFFFFF


def _quarter_round(state: list[int], a: int, b: int, c: int, d: int) -> None:
    for one, other, changed, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        state[one] = (state[one] + state[other]) & 0xFFFFFFFF
        state[changed] = _rotated(state[changed] ^ state[one], bits)


def _start(key: bytes, last: bytes) -> list[int]:
    """The sixteen words before the rounds; `last` is counter and nonce, 16 bytes (RFC 8439, 2.3)."""
    return list(struct.unpack("<16I", b"expand 32-byte k" + key + last))


def _after_20_rounds(start: list[int]) -> list[int]:
    state = start.copy()
    for _ in range(10):
        for column in range(4):
            _quarter_round(state, column, 4 + column, 8 + column, 12 + column)
        for column in range(4):
            _quarter_round(state, column, 4 + (column + 1) % 4, 8 + (column + 2) % 4, 12 + (column + 3) % 4)
    return state


def chacha20_block(key: bytes, counter: int, nonce: bytes) -> bytes:
    """64 bytes of key stream; `nonce` is 12 bytes (RFC 8439, 2.3)."""
    start = _start(key, struct.pack("<I", counter) + nonce)
    mixed = zip(start, _after_20_rounds(start), strict=True)
    return struct.pack("<16I", *((before + after) & 0xFFFFFFFF for before, after in mixed))


def chacha20(key: bytes, counter: int, nonce: bytes, text: bytes) -> bytes:
    """The text with the key stream upon it, which encrypts and decrypts alike (RFC 8439, 2.4)."""
    blocks = range(counter, counter + -(-len(text) // 64))
    stream = b"".join(chacha20_block(key, block, nonce) for block in blocks)[: len(text)]
    return (int.from_bytes(text, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(text), "big")


def poly1305(key: bytes, message: bytes) -> bytes:
    """The tag of 16 bytes under a key that is used once (RFC 8439, 2.5)."""
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    accumulator = 0
    for at in range(0, len(message), 16):
        block = int.from_bytes(message[at : at + 16] + b"\x01", "little")
        accumulator = (accumulator + block) * r % ((1 << 130) - 5)
    return ((accumulator + int.from_bytes(key[16:], "little")) % (1 << 128)).to_bytes(16, "little")


def chacha20_poly1305(key: bytes, nonce: bytes, text: bytes, associated: bytes) -> bytes:
    """Ciphertext and tag; `nonce` is 12 bytes (RFC 8439, 2.8)."""
    encrypted = chacha20(key, 1, nonce, text)
    return encrypted + _tag(key, nonce, encrypted, associated)


def _tag(key: bytes, nonce: bytes, encrypted: bytes, associated: bytes) -> bytes:
    padded = b"".join(part + bytes(-len(part) % 16) for part in (associated, encrypted))
    lengths = struct.pack("<QQ", len(associated), len(encrypted))
    return poly1305(chacha20_block(key, 0, nonce)[:32], padded + lengths)


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """The key of 32 bytes for the rest of a long nonce; `nonce` is its first 16 bytes (the draft, 2.2)."""
    state = _after_20_rounds(_start(key, nonce))
    return struct.pack("<8I", *state[:4], *state[12:])


def xchacha20_poly1305(key: bytes, nonce: bytes, text: bytes, associated: bytes) -> bytes:
    """Ciphertext and tag; `nonce` is 24 bytes (the draft, 2.3)."""
    return chacha20_poly1305(hchacha20(key, nonce[:16]), bytes(4) + nonce[16:], text, associated)


def associated_data(key_id: str, place: tuple[str, str, str], bound: tuple[str, ...] = ()) -> bytes:
    """What the tag covers beside the value: format, algorithm 1, the key's id; table, column, row; in format 2 more."""
    parts = [part.encode() for part in (*place, *bound)]
    return _header(key_id, bound) + _joined(parts)


def _header(key_id: str, bound: tuple[str, ...]) -> bytes:
    return (b"\x02\x01" if bound else b"\x01\x01") + struct.pack("B", len(key_id)) + key_id.encode()


def _joined(parts: list[bytes]) -> bytes:
    return b"".join(struct.pack(">H", len(part)) + part for part in parts)


def seal(
    value: bytes, place: tuple[str, str, str], key_id: str, key: bytes, nonce: bytes, bound: tuple[str, ...] = ()
) -> bytes:
    """The whole ciphertext of a value at a place (table, column, row); of format 2 where it is bound to more."""
    associated = associated_data(key_id, place, bound)
    return _header(key_id, bound) + nonce + xchacha20_poly1305(key, nonce, value, associated)


def unseal(
    ciphertext: bytes, place: tuple[str, str, str], keys: dict[str, bytes], bound: tuple[str, ...] = ()
) -> bytes:
    """The value of a ciphertext. Raises `ValueError` where the tag is wrong."""
    assert ciphertext[:2] == (b"\x02\x01" if bound else b"\x01\x01")
    nonce_at = 3 + ciphertext[2]
    key_id = ciphertext[3:nonce_at].decode("ascii")
    nonce, body, tag = ciphertext[nonce_at : nonce_at + 24], ciphertext[nonce_at + 24 : -16], ciphertext[-16:]
    key, short = hchacha20(keys[key_id], nonce[:16]), bytes(4) + nonce[16:]
    if _tag(key, short, body, associated_data(key_id, place, bound)) != tag:
        raise ValueError("wrong tag")
    return chacha20(key, 1, short, body)
