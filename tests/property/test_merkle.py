"""The tree against a naive reading of RFC 6962, for every small size."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit import merkle
from appliance.audit.merkle import EMPTY_ROOT, Frontier, leaf_hash

# RFC 6962 test data that the certificate-transparency implementations share.
KNOWN_LEAVES = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]
KNOWN_ROOT = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


class Tree:
    """A grown tree whose stored nodes can be read back."""

    def __init__(self, size: int) -> None:
        self.leaves = [leaf_hash(str(index).encode()) for index in range(size)]
        self.nodes: dict[tuple[int, int], bytes] = {}
        self.roots = [EMPTY_ROOT]
        frontier = Frontier()
        for leaf in self.leaves:
            self.nodes |= {(node.level, node.index): node.hash for node in frontier.append(leaf)}
            self.roots.append(frontier.root())

    def read(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 §2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:split]) + naive_root(leaves[split:])).digest()


TREE = Tree(131)


def test_known_answer() -> None:
    """The root over the shared test data is the published one."""
    frontier = Frontier()
    for leaf in KNOWN_LEAVES:
        frontier.append(leaf_hash(bytes.fromhex(leaf)))

    assert frontier.root().hex() == KNOWN_ROOT


@pytest.mark.parametrize("size", range(len(TREE.roots)))
def test_roots_are_those_of_the_definition(size: int) -> None:
    """Growing leaf by leaf, and loading from stored nodes, give the defined root."""
    expected = naive_root(TREE.leaves[:size])

    assert TREE.roots[size] == expected
    assert merkle.root_at(size, TREE.read) == expected


@given(st.data())
def test_inclusion_proofs_verify_and_nothing_else_does(data: st.DataObject) -> None:
    """A proof proves its own leaf, index and size, and breaks with any change."""
    size = data.draw(st.integers(1, 131))
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(index, size, TREE.read)
    leaf, root = TREE.leaves[index], TREE.roots[size]

    assert merkle.verify_inclusion(index, size, leaf, root, proof)
    assert len(proof) <= size.bit_length()
    assert not merkle.verify_inclusion(index, size, leaf_hash(b"other"), root, proof)
    assert not merkle.verify_inclusion(index, size, leaf, root, [*proof, leaf])
    assert not merkle.verify_inclusion(index, size, leaf, root[:31], proof)
    if proof:
        assert not merkle.verify_inclusion(index, size, leaf, root, proof[:-1])
        broken = bytes([proof[0][0] ^ 1]) + proof[0][1:]
        assert not merkle.verify_inclusion(index, size, leaf, root, [broken, *proof[1:]])


@given(st.integers(0, 131), st.integers(0, 131))
def test_consistency_proofs_verify_and_nothing_else_does(one: int, two: int) -> None:
    """Every smaller tree is proved to be a beginning of every larger one, and of no other."""
    old, new = sorted((one, two))
    proof = merkle.consistency_proof(old, new, TREE.read)
    roots = TREE.roots

    assert merkle.verify_consistency(old, new, roots[old], roots[new], proof)
    if 0 < old < new:
        assert not merkle.verify_consistency(old, new, roots[old - 1], roots[new], proof)
        assert not merkle.verify_consistency(old, new, roots[old], roots[new - 1], proof)
        assert not merkle.verify_consistency(old, new, roots[old], roots[new], [*proof, roots[1]])
        assert not merkle.verify_consistency(old, new, roots[old], roots[new], proof[:-1])


def test_out_of_range_is_refused() -> None:
    """Proofs are asked for places that exist."""
    with pytest.raises(ValueError, match="outside"):
        merkle.inclusion_proof(5, 5, TREE.read)
    with pytest.raises(ValueError, match="smaller"):
        merkle.consistency_proof(6, 5, TREE.read)
    with pytest.raises(ValueError, match="edge"):
        Frontier(3, [])
