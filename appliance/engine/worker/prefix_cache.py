"""What was computed and may serve again: leaves by owner, found by their longest common prefix.

Pure. A leaf is a finished sequence under a tag, an id that the library keeps cells for but never
decodes. Sharing copies no cell. A tenant finds only its own leaves: what another one asked can not be
learnt by timing. The exception is what the operator declared shared (system prompts in the
configuration): that much of a leaf, and no token more, serves everybody. What was computed under one
adapter serves nobody under another.

A leaf that must go, and whose cells nobody else holds, is worth keeping in the host's memory: coming
back from there costs milliseconds, computing it again seconds. At most a few hundred leaves of a few
thousand tokens live, so a lookup compares arrays one after the other (some microseconds each) and
needs no tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from appliance.engine.worker.actions import Action, Forget, Free, Spill
from appliance.engine.worker.cells import CellPool
from appliance.engine.worker.sequence import Owner

MIN_SHARED_TOKENS = 16  # below it a copy is not worth its call
MIN_SPILLED_CELLS = 128  # below it computing again is as quick
# While anybody runs, every idle cell makes every step longer (measured: a fifth, for 1300 of them),
# and what is spilled comes back in milliseconds.
IDLE_CELLS_BESIDE_RUNNING = 0
DECLARED = "declared"  # the tenant of leaves that the operator declared shared

Tokens = npt.NDArray[np.int32]


@dataclass(slots=True, eq=False)
class Leaf:
    """A computed token sequence that waits to be useful again: in cells, or spilled (`tag` None)."""

    tag: int | None
    owner: Owner
    tokens: Tokens = field(repr=False)
    cells: list[int] = field(repr=False)
    handle: int = 0  # of a spilled leaf: the name of its bytes
    used_at: int = 0  # of the cache's own counter, for least-recently-used


@dataclass(frozen=True, slots=True)
class Source:
    """Where a prefix can be taken from: a sequence id and its cells, or a spilled leaf (no id)."""

    seq_id: int | None
    length: int
    cells: Sequence[int] = field(repr=False)
    leaf: Leaf | None = None


class PrefixCache:
    """Leaves, their tags, and the shelf of spilled ones. Owner: the scheduler."""

    def __init__(
        self, tags: Iterable[int], max_cells: int, pool: CellPool, *, max_spilled_cells: int = 0
    ) -> None:
        self._free_tags = list(tags)
        self._max_cells = max_cells
        self._max_spilled_cells = max_spilled_cells
        self._pool = pool
        self._leaves: list[Leaf] = []
        self._shelf: list[Leaf] = []
        self._num_spilled_cells = 0
        self._ticks = 0
        self._num_handles = 0

    @property
    def num_spilled_cells(self) -> int:
        """Cells' worth of leaves in the host's memory."""
        return self._num_spilled_cells

    def find(self, owner: Owner, tokens: Tokens, num_declared: int = 0) -> Source | None:
        """The leaf with the longest usable prefix; always at least one token is left to compute.

        `num_declared` tokens of the prompt are declared shared: so much may come from any tenant.
        """
        best: Source | None = None
        for leaf in [*self._leaves, *self._shelf]:
            length = usable_length(owner, tokens, num_declared, leaf.owner, leaf.tokens)
            # Cells cost nothing; what the shelf has more must be worth a restore.
            needed, more = (MIN_SHARED_TOKENS, 1) if leaf.tag is not None else (MIN_SPILLED_CELLS,) * 2
            if length >= needed and (best is None or length >= best.length + more):
                best = Source(leaf.tag, length, leaf.cells, leaf)
        return best

    def touch(self, leaf: Leaf) -> None:
        """It was useful: it is the last to go."""
        self._ticks += 1
        leaf.used_at = self._ticks

    def publish(self, owner: Owner, tokens: Tokens, cells: list[int]) -> tuple[int | None, list[Action]]:
        """Keep a finished sequence. The tag to copy it to (None: not kept), and what to do first."""
        actions: list[Action] = []
        if len(tokens) < MIN_SHARED_TOKENS or not self._max_cells:
            return None, actions
        for leaf in [each for each in self._leaves if each.owner == owner]:
            length = common_prefix(leaf.tokens, tokens)
            if length == len(tokens):  # nothing new: the leaf that has it lives on
                self.touch(leaf)
                return None, actions
            if length == len(leaf.tokens):  # the new one says all that this one says
                actions.append(Free(self._drop(leaf)))
        said_again = [
            leaf
            for leaf in self._shelf
            if leaf.owner == owner and common_prefix(leaf.tokens, tokens) == len(leaf.tokens)
        ]
        actions += [self._forget(leaf) for leaf in said_again]
        if not self._free_tags:
            actions += self.evict()
        tag = self._free_tags.pop()
        leaf = Leaf(tag, owner, tokens, cells)
        self._pool.share_cached(cells)
        self._leaves.append(leaf)
        self.touch(leaf)
        return tag, actions

    def trim(self, *, is_idle: bool) -> list[Action]:
        """What to do until the cache is within its bound, which is closer while anybody runs."""
        actions: list[Action] = []
        bound = self._max_cells if is_idle else min(self._max_cells, IDLE_CELLS_BESIDE_RUNNING)
        while self._pool.num_cached_only > bound and any(
            leaf.owner.tenant != DECLARED for leaf in self._leaves
        ):
            actions += self.evict()
        return actions

    def evict(self) -> list[Action]:
        """The least recently used leaf goes, declared ones last; nothing where there is none."""
        if not self._leaves:
            return []
        leaf = min(self._leaves, key=_usefulness)
        num_private = self._pool.num_private(leaf.cells)
        tag = self._drop(leaf)
        if num_private < MIN_SPILLED_CELLS or len(leaf.tokens) > self._max_spilled_cells:
            return [Free(tag)]
        if any(self._covers(each, leaf) for each in self._shelf):
            return [Free(tag)]
        return self._shelve(leaf, tag)

    def is_spilled(self, leaf: Leaf) -> bool:
        """Whether the leaf's bytes are still there."""
        return leaf in self._shelf

    def forget_spilled(self, handle: int) -> list[Action]:
        """Bytes that could not be restored are of no use."""
        return [self._forget(leaf) for leaf in self._shelf if leaf.handle == handle]

    def _shelve(self, leaf: Leaf, tag: int) -> list[Action]:
        self._num_handles += 1
        spilled = Leaf(None, leaf.owner, leaf.tokens, [], self._num_handles, leaf.used_at)
        self._shelf.append(spilled)
        self._num_spilled_cells += len(leaf.tokens)
        actions: list[Action] = [Spill(tag, len(leaf.tokens), spilled.handle)]
        while self._num_spilled_cells > self._max_spilled_cells:
            others = (each for each in self._shelf if each is not spilled)
            actions.append(self._forget(min(others, key=_usefulness)))
        return actions

    def _covers(self, spilled: Leaf, leaf: Leaf) -> bool:
        """Whether what the shelf has of this leaf leaves too little to be worth its own place."""
        common = common_prefix(spilled.tokens, leaf.tokens)
        return spilled.owner == leaf.owner and len(leaf.tokens) - common < MIN_SPILLED_CELLS

    def _forget(self, leaf: Leaf) -> Forget:
        self._shelf.remove(leaf)
        self._num_spilled_cells -= len(leaf.tokens)
        return Forget(leaf.handle)

    def _drop(self, leaf: Leaf) -> int:
        if leaf.tag is None:
            raise ValueError("a spilled leaf has no tag")
        self._leaves.remove(leaf)
        self._pool.drop_cached(leaf.cells)
        self._free_tags.append(leaf.tag)
        return leaf.tag


def _usefulness(leaf: Leaf) -> tuple[bool, int]:
    """What goes first is the least: declared leaves last, the others by when they served."""
    return leaf.owner.tenant == DECLARED, leaf.used_at


def usable_length(owner: Owner, tokens: Tokens, num_declared: int, holder: Owner, held: Tokens) -> int:
    """How much of what `holder` computed a prompt of `owner` may take; one token is always left."""
    if owner.adapter != holder.adapter:
        return 0
    common = min(common_prefix(held, tokens), len(tokens) - 1)
    if owner == holder:
        return common
    # Of a stranger only what is declared, and only whole: a part would tell of the stranger's prompt.
    return num_declared if 0 < num_declared <= common else 0


def common_prefix(one: Tokens, two: Tokens) -> int:
    """How many tokens two sequences begin with in common."""
    size = min(len(one), len(two))
    different = one[:size] != two[:size]
    first = int(different.argmax()) if size else 0
    return first if size and different[first] else size
