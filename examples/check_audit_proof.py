"""Checks a proof that an event stands in the audit log.

Usage: python check_audit_proof.py PROOF.json PUBLIC_KEY, the log's Ed25519 key in 64 hex digits. Prints OK and the
event, or why the proof does not hold. Needs PyNaCl (`python -m pip install pynacl`). It shares no code with what makes
proofs; docs/audit.md has the format.
"""

import base64
import json
import re
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

try:
    from nacl.exceptions import CryptoError
    from nacl.signing import VerifyKey
except ImportError:
    sys.exit(f"This program needs PyNaCl: {sys.executable} -m pip install pynacl")

SEAL = re.compile(
    r"ai-admin audit seal v1\n"
    r"number (?P<number>[1-9][0-9]*)\n"
    r"previous [0-9a-f]{64}\n"
    r"size (?P<size>[1-9][0-9]*)\n"
    r"root (?P<root>[0-9a-f]{64})\n"
    r"ids [0-9a-f]{64}\n"
    r"sealed-at (?P<sealed_at>[0-9T:.-]{26}Z)\n"
    r"key (?P<key>[0-9a-f]{16})\n"
)


class Refused(Exception):
    """The proof does not hold; the text says why."""


def root_from(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """The root that a leaf and its path lead to (RFC 9162, 2.1.3.2)."""
    if type(index) is not int or not 0 <= index < size:
        raise Refused("the index is outside the tree")
    node, last = sha256(b"\x00" + leaf).digest(), size - 1
    for sibling in path:
        if last == 0 or len(sibling) != len(node):
            raise Refused("the path is not one of this tree")
        if index % 2 or index == last:
            node = sha256(b"\x01" + sibling + node).digest()
            while index and index % 2 == 0:
                index, last = index // 2, last // 2
        else:
            node = sha256(b"\x01" + node + sibling).digest()
        index, last = index // 2, last // 2
    if last:
        raise Refused("the path is not one of this tree")
    return node


def check(proof: dict[str, Any], public_key: bytes) -> str:
    """Say what is proved. Raises `Refused`, or whatever malformed input leads to."""
    seal = SEAL.fullmatch(proof["seal"])
    if not seal:
        raise Refused("the seal is not of this format")
    if sha256(public_key).hexdigest()[:16] != seal["key"]:
        raise Refused("the seal names another key")
    try:
        VerifyKey(public_key).verify(proof["seal"].encode(), bytes.fromhex(proof["signature"]))
    except CryptoError:
        raise Refused("the signature is not that of this seal") from None
    event = base64.b64decode(proof["event"], validate=True)
    path = [bytes.fromhex(sibling) for sibling in proof["path"]]
    if root_from(event, proof["index"], int(seal["size"]), path).hex() != seal["root"]:
        raise Refused("the event is not in the sealed batch at this index")
    return f"OK: in seal {seal['number']} of {seal['sealed_at']}\n{event.decode()}"


if __name__ == "__main__":
    if len(sys.argv) != 3:  # noqa: PLR2004
        sys.exit(f"Usage: {sys.argv[0]} PROOF.json PUBLIC_KEY; `ai-admin audit proof` and `public-key` print the two")
    try:
        text = Path(sys.argv[1]).read_bytes()
    except OSError as error:
        sys.exit(f"{sys.argv[1]}: {error.strerror}")
    try:
        print(check(json.loads(text), bytes.fromhex(sys.argv[2])))
    except Refused as reason:
        sys.exit(f"REFUSED: {reason}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        sys.exit(f"REFUSED: this is no proof or key: {error!r}")
