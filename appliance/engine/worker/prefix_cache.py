"""What was computed and may serve again: leaves by tenant, found by their longest common prefix.

Pure. A leaf is a finished sequence under a tag, an id that the library keeps cells for but never
decodes. Sharing copies no cell. A tenant finds only its own leaves: what another one asked can not be
learnt by timing. At most a few hundred leaves of a few thousand tokens live, so a lookup compares
arrays one after the other (some microseconds each) and needs no tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from appliance.engine.worker.cells import CellPool

MIN_SHARED_TOKENS = 16  # below it a copy is not worth its call

Tokens = npt.NDArray[np.int32]


@dataclass(slots=True, eq=False)
class Leaf:
    """A computed token sequence that waits to be useful again."""

    tag: int
    tenant: str
    tokens: Tokens = field(repr=False)
    cells: list[int] = field(repr=False)
    used_at: int = 0  # of the cache's own counter, for least-recently-used


@dataclass(frozen=True, slots=True)
class Source:
    """Where a prefix can be taken from: a sequence id, how much of it, and its cells."""

    seq_id: int
    length: int
    cells: Sequence[int] = field(repr=False)
    leaf: Leaf | None = None


class PrefixCache:
    """Leaves and their tags. Owner: the scheduler."""

    def __init__(self, tags: Iterable[int], max_cells: int, pool: CellPool) -> None:
        self._free_tags = list(tags)
        self._max_cells = max_cells
        self._pool = pool
        self._leaves: list[Leaf] = []
        self._ticks = 0

    @property
    def num_leaves(self) -> int:
        return len(self._leaves)

    def find(self, tenant: str, tokens: Tokens) -> Source | None:
        """The leaf with the longest common prefix; always at least one token is left to compute."""
        best: Source | None = None
        for leaf in self._leaves:
            if leaf.tenant != tenant:
                continue
            length = min(common_prefix(leaf.tokens, tokens), len(tokens) - 1)
            if length >= MIN_SHARED_TOKENS and (best is None or length > best.length):
                best = Source(leaf.tag, length, leaf.cells, leaf)
        return best

    def touch(self, leaf: Leaf) -> None:
        """It was useful: it is the last to go."""
        self._ticks += 1
        leaf.used_at = self._ticks

    def publish(self, tenant: str, tokens: Tokens, cells: list[int]) -> tuple[int | None, list[int]]:
        """Keep a finished sequence. The tag to copy it to (None: not kept), and tags to free first."""
        freed: list[int] = []
        if len(tokens) < MIN_SHARED_TOKENS or not self._max_cells:
            return None, freed
        for leaf in [each for each in self._leaves if each.tenant == tenant]:
            length = common_prefix(leaf.tokens, tokens)
            if length == len(tokens):  # nothing new: the leaf that has it lives on
                self.touch(leaf)
                return None, freed
            if length == len(leaf.tokens):  # the new one says all that this one says
                freed.append(self._drop(leaf))
        if not self._free_tags:
            freed += self.evict()
        tag = self._free_tags.pop()
        leaf = Leaf(tag, tenant, tokens, cells)
        self._pool.share_cached(cells)
        self._leaves.append(leaf)
        self.touch(leaf)
        return tag, freed

    def trim(self) -> list[int]:
        """Tags to free until the cache is within its bound. Call when nobody runs on their cells."""
        freed: list[int] = []
        while self._pool.num_cached_only > self._max_cells and self._leaves:
            freed += self.evict()
        return freed

    def evict(self, keep: Leaf | None = None) -> list[int]:
        """The least recently used leaf goes; its tag, or nothing where there is none."""
        candidates = [leaf for leaf in self._leaves if leaf is not keep]
        if not candidates:
            return []
        return [self._drop(min(candidates, key=lambda leaf: leaf.used_at))]

    def _drop(self, leaf: Leaf) -> int:
        self._leaves.remove(leaf)
        self._pool.drop_cached(leaf.cells)
        self._free_tags.append(leaf.tag)
        return leaf.tag


def common_prefix(one: Tokens, two: Tokens) -> int:
    """How many tokens two sequences begin with in common."""
    size = min(len(one), len(two))
    different = one[:size] != two[:size]
    first = int(different.argmax()) if size else 0
    return first if size and different[first] else size
