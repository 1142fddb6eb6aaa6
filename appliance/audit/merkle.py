"""The Merkle tree of RFC 6962 §2.1 (RFC 9162 §2.1), SHA-256. Pure: nodes come and go as values.

Only complete subtrees are stored: node (level, index) covers leaves [index·2^level, (index+1)·2^level).
Every proof is made from them with at most log2(n) reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()  # RFC 6962 §2.1: MTH({}) = SHA-256()

ReadNode = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True)
class Node:
    """A complete subtree's hash and place."""

    level: int
    index: int
    hash: bytes


def leaf_hash(data: bytes) -> bytes:
    """RFC 6962 §2.1: SHA-256(0x00 || data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962 §2.1: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: one hash for each set bit of its size."""

    def __init__(self, size: int = 0, edge: Iterable[Node] = ()) -> None:
        self.size = size
        self._edge = list(edge)
        if [(node.level, node.index) for node in self._edge] != _edge_places(size):
            raise ValueError("the edge does not belong to a tree of this size")

    @classmethod
    def load(cls, size: int, read: ReadNode) -> Frontier:
        """The frontier of a stored tree."""
        return cls(size, [Node(level, index, read(level, index)) for level, index in _edge_places(size)])

    def copy(self) -> Frontier:
        """An independent frontier, for a batch that may fail."""
        return Frontier(self.size, self._edge)

    def append(self, leaf: bytes) -> list[Node]:
        """Add a leaf hash; the complete subtrees that it made, the leaf itself first."""
        made = [Node(0, self.size, leaf)]
        while self._edge and self._edge[-1].level == made[-1].level:
            left = self._edge.pop()
            made.append(Node(left.level + 1, left.index // 2, node_hash(left.hash, made[-1].hash)))
        self._edge.append(made[-1])
        self.size += 1
        return made

    def root(self) -> bytes:
        """MTH of the whole tree."""
        if not self._edge:
            return EMPTY_ROOT
        root = self._edge[-1].hash
        for node in reversed(self._edge[:-1]):
            root = node_hash(node.hash, root)
        return root


def root_at(size: int, read: ReadNode) -> bytes:
    """The root when the tree had `size` leaves, from a tree that has at least as many."""
    return Frontier.load(size, read).root()


def inclusion_proof(index: int, size: int, read: ReadNode) -> list[bytes]:
    """RFC 6962 §2.1.1: PATH(index, D[size]), leaf's sibling first. ValueError out of range."""
    if not 0 <= index < size:
        raise ValueError("the index lies outside the tree")
    return _path(index, 0, size, read)


def consistency_proof(old: int, new: int, read: ReadNode) -> list[bytes]:
    """RFC 6962 §2.1.2: PROOF(old, D[new]). Empty for old == new and, as C2SP does, for old == 0."""
    if not 0 <= old <= new:
        raise ValueError("a consistency proof goes from a smaller tree to a larger one")
    if old in {0, new}:
        return []
    return _subproof(old, 0, new, read, whole=True)


def verify_inclusion(index: int, size: int, leaf: bytes, root: bytes, proof: Sequence[bytes]) -> bool:
    """RFC 9162 §2.1.3.2. Refuses hashes that are not 32 bytes and proofs that are too long."""
    if not 0 <= index < size or not _all_hashes((leaf, root, *proof)):
        return False
    position, last, running = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            running = node_hash(sibling, running)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            running = node_hash(running, sibling)
        position >>= 1
        last >>= 1
    return last == 0 and running == root


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """RFC 9162 §2.1.4.2; from an empty tree everything follows, with an empty proof (C2SP witness)."""
    if not 0 <= old <= new or not _all_hashes((old_root, new_root, *proof)):
        return False
    if old == 0:
        return not proof and old_root == EMPTY_ROOT and (new > 0 or new_root == EMPTY_ROOT)
    if old == new:
        return not proof and old_root == new_root
    hashes = list(proof)
    if old & (old - 1) == 0:
        hashes.insert(0, old_root)
    if not hashes:
        return False
    position, last = old - 1, new - 1
    while position & 1:
        position >>= 1
        last >>= 1
    first = second = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            first = node_hash(sibling, first)
            second = node_hash(sibling, second)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            second = node_hash(second, sibling)
        position >>= 1
        last >>= 1
    return last == 0 and first == old_root and second == new_root


def _edge_places(size: int) -> list[tuple[int, int]]:
    places, covered = [], 0
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            places.append((level, covered >> level))
            covered += 1 << level
    return places


def _split(size: int) -> int:
    """The largest power of two smaller than `size`."""
    return 1 << (size - 1).bit_length() - 1


def _range_hash(begin: int, end: int, read: ReadNode) -> bytes:
    size = end - begin
    if size & (size - 1) == 0 and begin % size == 0:
        level = size.bit_length() - 1
        return read(level, begin >> level)
    middle = begin + _split(size)
    return node_hash(_range_hash(begin, middle, read), _range_hash(middle, end, read))


def _path(index: int, begin: int, end: int, read: ReadNode) -> list[bytes]:
    if end - begin == 1:
        return []
    middle = begin + _split(end - begin)
    if index < middle:
        return [*_path(index, begin, middle, read), _range_hash(middle, end, read)]
    return [*_path(index, middle, end, read), _range_hash(begin, middle, read)]


def _subproof(old: int, begin: int, end: int, read: ReadNode, *, whole: bool) -> list[bytes]:
    if old == end:
        return [] if whole else [_range_hash(begin, end, read)]
    middle = begin + _split(end - begin)
    if old <= middle:
        return [*_subproof(old, begin, middle, read, whole=whole), _range_hash(middle, end, read)]
    return [*_subproof(old, middle, end, read, whole=False), _range_hash(begin, middle, read)]


def _all_hashes(values: Iterable[bytes]) -> bool:
    return all(len(value) == HASH_BYTES for value in values)
