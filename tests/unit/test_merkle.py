"""The Merkle tree: the vectors of Certificate Transparency, and what holds for every tree."""

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_admin.audit.merkle import inclusion_proof, leaf_hash, root, verify_inclusion

# The same examples in each run, and no limit of time on a busy machine.
FIXED = settings(derandomize=True, deadline=None)

# Entries, roots over the first n of them, and paths of Certificate Transparency's reference implementation
# (google/certificate-transparency, merkle_tree_test.cc).
ENTRIES = [
    bytes.fromhex(entry)
    for entry in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PATHS = [
    (0, 1, []),
    (
        0,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        1,
        5,
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]

trees = st.lists(st.binary(max_size=8), min_size=1, max_size=70).map(lambda data: [leaf_hash(entry) for entry in data])


def defined_root(leaves: list[bytes]) -> bytes:
    """MTH as RFC 6962, 2.1 writes it down, over leaf hashes."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + defined_root(leaves[:split]) + defined_root(leaves[split:])).digest()


@pytest.mark.parametrize("size", range(9))
def test_known_roots(size: int) -> None:
    """A root of ours is what every other implementation computes."""
    assert root(LEAVES[:size]).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size", "path"), PATHS)
def test_known_paths(index: int, size: int, path: list[str]) -> None:
    """A proof of ours is accepted elsewhere, and theirs here."""
    siblings = [bytes.fromhex(sibling) for sibling in path]
    assert inclusion_proof(LEAVES[:size], index) == siblings
    assert verify_inclusion(LEAVES[index], index, size, siblings, bytes.fromhex(ROOTS[size]))


@FIXED
@given(leaves=trees)
def test_the_root_is_the_defined_one(leaves: list[bytes]) -> None:
    """Batches of any size have the root of RFC 6962, not only those of the vectors; one reading of them is enough."""
    assert root(iter(leaves)) == defined_root(leaves)


@FIXED
@given(leaves=trees, data=st.data())
def test_every_leaf_is_proved_at_its_place_alone(leaves: list[bytes], data: st.DataObject) -> None:
    """Each event of a batch has a proof, and it proves no other event, place or size of path."""
    index = data.draw(st.integers(0, len(leaves) - 1))
    size, path, top = len(leaves), inclusion_proof(leaves, index), root(leaves)
    leaf = leaves[index]
    assert verify_inclusion(leaf, index, size, path, top)
    assert not verify_inclusion(sha256(leaf).digest(), index, size, path, top)
    assert not verify_inclusion(leaf, index, size, [*path, leaf], top)
    assert not verify_inclusion(leaf, index, size, path, sha256(top).digest())
    for place in range(-1, size + 1):
        # Equal leaves are proved at each of their places by the proof of that place, never by another's.
        assert verify_inclusion(leaf, place, size, path, top) == (place == index) or (
            leaves[place] == leaf and inclusion_proof(leaves, place) == path
        )
    for step in range(len(path)):
        wrong = [*path[:step], sha256(path[step]).digest(), *path[step + 1 :]]
        assert not verify_inclusion(leaf, index, size, wrong, top)
        assert not verify_inclusion(leaf, index, size, path[:step] + path[step + 1 :], top)


def test_a_node_does_not_pass_for_a_leaf() -> None:
    """Who could present an inner node as an event would prove events that never were."""
    node = sha256(LEAVES[0] + LEAVES[1]).digest()
    assert root([LEAVES[0], LEAVES[1]]) != node
    assert leaf_hash(LEAVES[0] + LEAVES[1]) != root([LEAVES[0], LEAVES[1]])
    assert not verify_inclusion(root(LEAVES[:2]), 0, 4, [root(LEAVES[2:4])], root(LEAVES[:4]))


def test_siblings_are_whole_hashes() -> None:
    """Bytes cannot be moved between a node and its sibling."""
    left, right = LEAVES[:2]
    assert not verify_inclusion(left[31:] + right, 1, 2, [left[:31]], root([left, right]))


@pytest.mark.parametrize(("leaves", "index"), [([], 0), (LEAVES, 8), (LEAVES, -1)])
def test_no_proof_without_a_leaf(leaves: list[bytes], index: int) -> None:
    """A wrong index is an error, not the proof of another event."""
    with pytest.raises(IndexError):
        inclusion_proof(leaves, index)
