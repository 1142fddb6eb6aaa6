"""The Merkle tree, grown block by block: a second implementation of RFC 6962 §2.1.

Of all that lies behind it keeps one hash for each level, and of the newest block every complete
subtree, so that the root of any size within that block can be told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from appliance.audit.fsck.source import Source
from appliance.audit.report import Report

EMPTY_ROOT = hashlib.sha256(b"").digest()
_sha256 = hashlib.sha256


@dataclass(frozen=True, slots=True)
class Completed:
    """Subtrees of one level that the newest block completed, side by side from `begin` on."""

    begin: int
    hashes: list[bytes]


class Tree:
    """The tree over the leaves that were handed over so far."""

    def __init__(self) -> None:
        self.size = 0
        self._pending: list[bytes | None] = []  # by level: a left half that waits for its right one
        self._before: list[bytes | None] = []  # `_pending` as it was before the newest block
        self._levels: list[Completed] = []

    @classmethod
    def load(cls, size: int, source: Source) -> Tree:
        """The tree of `size` leaves by its stored edge. LookupError where a node of it is missing.

        Nothing vouches for these nodes yet: a root over them and what follows has to be a signed one.
        """
        tree = cls()
        tree.size = size
        for level in range(size.bit_length()):
            found: bytes | None = None
            if size >> level & 1:
                rows = source.execute(
                    "SELECT h FROM node WHERE level = ? AND idx = ?", (level, (size >> level) - 1)
                )
                found = next((bytes(each) for (each,) in rows), None)
                if found is None:
                    raise LookupError("a node of the tree's edge is missing")
            tree._pending.append(found)
        tree._before = list(tree._pending)
        return tree

    def extend(self, leaves: Sequence[bytes]) -> list[Completed]:
        """Add leaf hashes; the complete subtrees that they made, by level."""
        self._before = list(self._pending)
        self._levels = []
        made, begin, level = list(leaves), self.size, 0
        while made:
            self._levels.append(Completed(begin, made))
            if level == len(self._pending):
                self._pending.append(None)
            left = self._pending[level]
            halves = made if left is None else [left, *made]
            self._pending[level] = halves[-1] if len(halves) & 1 else None
            made = [
                _sha256(b"\x01" + one + two).digest()
                for one, two in zip(halves[::2], halves[1::2], strict=False)
            ]
            begin, level = begin >> 1, level + 1
        self.size += len(leaves)
        return self._levels

    def root(self, size: int) -> bytes:
        """The root over the first `size` leaves. LookupError where `size` lies before the newest block."""
        running = None
        for level in range(size.bit_length()):  # from the smallest subtree of the right edge to the largest
            if size >> level & 1:
                here = self._subtree(level, (size >> level) - 1)
                running = here if running is None else _sha256(b"\x01" + here + running).digest()
        return EMPTY_ROOT if running is None else running

    def edge(self, size: int, level: int) -> bytes | None:
        """The right edge's subtree of a level, when the tree had `size` leaves; None where it has none."""
        return self._subtree(level, (size >> level) - 1) if size >> level & 1 else None

    def _subtree(self, level: int, index: int) -> bytes:
        if level < len(self._levels) and index >= self._levels[level].begin:
            return self._levels[level].hashes[index - self._levels[level].begin]
        found = self._before[level]
        if found is None:
            raise LookupError("this size lies behind the newest block")
        return found


class Nodes:
    """The stored subtrees, held against the computed ones."""

    def __init__(self, source: Source, report: Report) -> None:
        self._source = source
        self._report = report

    def compare(self, levels: Sequence[Completed]) -> None:
        """What a block completed stands in `node` as it was computed."""
        for level, completed in enumerate(levels):
            # Between two whole numbers a key could be none: then it counts as missing, and as a stranger.
            place = (level, completed.begin, completed.begin + len(completed.hashes))
            stored = self._source.execute(
                "SELECT h FROM node WHERE level = ? AND idx >= ? AND idx < ? "
                "AND idx = CAST(idx AS BIGINT) ORDER BY idx",
                place,
            )
            if [value for (value,) in stored] != completed.hashes:
                self._tell(completed, place)

    def count(self, size: int) -> None:
        """No node but those of a tree of `size` leaves; the right ones were compared already."""
        expected = sum(size >> level for level in range(size.bit_length()))
        [(count,)] = self._source.execute("SELECT count(*) FROM node")
        if count == expected:
            return
        for level, index in self._source.execute("SELECT level, idx FROM node"):
            whole = isinstance(level, int) and isinstance(index, int) and 0 <= level < 64
            if not whole or not 0 <= index < size >> level:
                self._report.add("node", f"node {level}/{index} belongs to no tree of this size")

    def _tell(self, completed: Completed, place: tuple[int, int, int]) -> None:
        rows = self._source.execute(
            "SELECT idx, h FROM node WHERE level = ? AND idx >= ? AND idx < ? ORDER BY idx", place
        )
        stored: dict[Any, Any] = dict(rows)
        for index, value in enumerate(completed.hashes, completed.begin):
            if stored.get(index) != value:
                seq = index if place[0] == 0 else None
                self._report.add("node", f"node {place[0]}/{index} is not what the leaves make it", seq)
