"""The Merkle tree of Certificate Transparency over SHA-256 (RFC 6962, 2.1; the algorithms are those of RFC 9162, 2.1).

Leaves and inner nodes are hashed with different first bytes, so that neither passes for the other. A hash is 32 bytes.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256

HASH_SIZE = 32


def leaf_hash(data: bytes) -> bytes:
    """The hash of one entry."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees side by side."""
    return sha256(b"\x01" + left + right).digest()


def root(hashes: Iterable[bytes]) -> bytes:
    """The root over leaf hashes, read once and with one hash a level in memory (RFC 9162, 2.1.2)."""
    subtrees: list[bytes] = []
    for index, leaf in enumerate(hashes):
        node, before = leaf, index
        # A leaf completes as many subtrees as the number of leaves before it has ones at its end.
        while before & 1:
            node, before = node_hash(subtrees.pop(), node), before >> 1
        subtrees.append(node)
    if not subtrees:
        return sha256().digest()
    node = subtrees.pop()
    while subtrees:
        node = node_hash(subtrees.pop(), node)
    return node


def inclusion_proof(hashes: Sequence[bytes], index: int) -> list[bytes]:
    """The siblings on the way from a leaf to the root, lowest first (RFC 9162, 2.1.3.1). Raises `IndexError`."""
    if not 0 <= index < len(hashes):
        raise IndexError(f"no leaf {index} among {len(hashes)}")
    if len(hashes) == 1:
        return []
    # The left subtree holds the largest power of two that leaves something to the right.
    split = 1 << (len(hashes) - 1).bit_length() - 1
    if index < split:
        return [*inclusion_proof(hashes[:split], index), root(hashes[split:])]
    return [*inclusion_proof(hashes[split:], index - split), root(hashes[:split])]


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], expected_root: bytes) -> bool:
    """Whether the path leads from a leaf hash at an index to the root of a tree of this size (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size or any(len(sibling) != HASH_SIZE for sibling in path):
        return False
    # The leaf's and the last leaf's place on the level that has been reached.
    place, last, node = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if place & 1 or place == last:
            node = node_hash(sibling, node)
            # The right edge of an incomplete tree rises over levels on which it has no sibling.
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and node == expected_root
