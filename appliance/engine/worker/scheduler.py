"""Who computes what in the next step. Pure: no library, no clock, no I/O; it owns queues and cells.

Numbered decision tree of `schedule`:
1. where the decoding sequences would not all find a free cell, cached leaves go, the least recently
   used first; where none is left, the newest running sequence is preempted: it gives its cells back
   and goes to the head of the queue, to be computed again later
2. every decoding sequence gets one token: nobody's stream stalls because somebody arrived
3. sequences that are reading their prompt get chunks, oldest first, from the rest of the budget
4. waiting requests are looked at, those of the tenant with the fewest running first, then in order of
   arrival, while a sequence id is free:
   a. one whose prefix a running sequence is computing right now waits for it: it is computed once
   b. one that does not fit holds the line, so that nobody starves behind smaller requests
   c. the others are admitted, on top of the longest prefix that their tenant has in memory
5. an admitted request gets its first chunk from what is left of the budget

The library's pool is mirrored by `CellPool`, cell by cell, so that `decode` is never asked for more
than there is.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from appliance.engine.worker.cells import CellPool
from appliance.engine.worker.prefix_cache import MIN_SHARED_TOKENS, PrefixCache, Source, common_prefix
from appliance.engine.worker.sequence import Sequence, Status

GROWTH_CELLS = 32  # room for growth that an admission leaves for each running sequence
MAX_LOOKED_AT = 32  # waiting requests that one step looks at


@dataclass(frozen=True, slots=True)
class Chunk:
    """`num_tokens` of this sequence are computed in the next step, from `num_computed` on."""

    sequence: Sequence
    num_tokens: int

    @property
    def ends_input(self) -> bool:
        """Whether the sequence can be sampled after this chunk."""
        return self.sequence.num_computed + self.num_tokens == self.sequence.num_tokens


@dataclass(frozen=True, slots=True)
class Free:
    """The library forgets everything under this id."""

    seq_id: int


@dataclass(frozen=True, slots=True)
class Copy:
    """The first `length` cells of one id belong to another id too; nothing is moved."""

    source: int
    target: int
    length: int


Action = Free | Copy


@dataclass(frozen=True, slots=True)
class Step:
    """What the core is to do, in this order: the actions, then one batch of the chunks."""

    actions: tuple[Action, ...]
    chunks: tuple[Chunk, ...]


class Scheduler:
    """Waiting and running sequences. Owner: the step thread."""

    def __init__(
        self,
        *,
        num_cells: int,
        n_seq_max: int,
        budget: int,
        max_waiting: int,
        cache_tags: Iterable[int] = (),
        max_cached_cells: int = 0,
    ) -> None:
        if budget < n_seq_max:
            raise ValueError("the token budget must hold one token for every running sequence")
        self._budget = budget
        self._max_waiting = max_waiting
        self._pool = CellPool(num_cells)
        self._cache = PrefixCache(cache_tags, max_cached_cells, self._pool)
        self._shares = max_cached_cells > 0
        self._free_ids = list(range(n_seq_max - 1, -1, -1))
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []  # oldest admission first

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def num_cells_used(self) -> int:
        return self._pool.num_used

    @property
    def num_cells_cached(self) -> int:
        """Cells that only the prefix cache holds."""
        return self._pool.num_cached_only

    @property
    def has_work(self) -> bool:
        return bool(self._waiting or self._running)

    @property
    def num_decoding(self) -> int:
        return sum(each.status is Status.DECODE for each in self._running)

    def add(self, sequence: Sequence) -> bool:
        """Queue a request; False where the queue is full."""
        if len(self._waiting) >= self._max_waiting:
            return False
        self._waiting.append(sequence)
        return True

    def schedule(self, budget: int | None = None) -> Step:
        """The next step's work. No chunks only where nothing is running and nothing waits.

        `budget` bounds the tokens of this step, within the budget of the whole.
        """
        actions: list[Action] = []
        chunks: list[Chunk] = []
        self._make_room(actions)  # 1
        for each in self._running:  # 2
            if each.status is Status.DECODE:
                self._chunk(each, 1, chunks)
        left = max(1, min(self._budget, budget or self._budget) - len(chunks))
        left = min(left, self._budget - len(chunks))
        for each in self._running:  # 3
            if each.status is Status.PREFILL and left > 0:
                left -= self._read(each, left, actions, chunks)
        for candidate in self._candidates():  # 4
            if left <= 0 or not self._free_ids:
                break
            source = self._source(candidate)
            if self._is_computed_by_another(candidate, source):  # 4a
                continue
            if not self._fits(candidate, source):  # 4b
                break
            self._admit(candidate, source, actions)  # 4c
            left -= self._read(candidate, left, actions, chunks)  # 5
        return Step(tuple(actions), tuple(chunks))

    def release(self, sequence: Sequence) -> list[Action]:
        """A sequence is over. What it computed stays for its tenant, within the cache's bound."""
        if sequence.status is Status.WAITING:
            self._waiting.remove(sequence)
            return []
        actions: list[Action] = []
        self._running.remove(sequence)
        self._return_unused(sequence)
        if self._shares and sequence.num_computed:
            tokens = np.array(sequence.known(0, sequence.num_computed), np.int32)
            tag, freed = self._cache.publish(sequence.tenant, tokens, sequence.cells)
            actions += [Free(each) for each in freed]
            if tag is not None:
                actions.append(Copy(sequence.seq_id, tag, sequence.num_computed))
        self._vacate(sequence, actions)
        actions += [Free(each) for each in self._cache.trim()]
        return actions

    def give_back(self, chunks: Iterable[Chunk]) -> list[Action]:
        """The library had no room after all: nothing was computed, and the newest gives way."""
        for chunk in chunks:
            self._return_unused(chunk.sequence)
        actions: list[Action] = [Free(tag) for tag in self._cache.evict()]
        if not actions:
            if len(self._running) < 2:
                raise RuntimeError("the key-value pool has no room for a single sequence")
            self._preempt_newest(actions)
        return actions

    def _make_room(self, actions: list[Action]) -> None:
        while self._pool.num_free < self.num_decoding:
            evicted = self._cache.evict()
            if evicted:
                actions += [Free(tag) for tag in evicted]
            elif len(self._running) > 1:
                self._preempt_newest(actions)
            else:
                return

    def _preempt_newest(self, actions: list[Action]) -> None:
        sequence = self._running.pop()
        self._vacate(sequence, actions)
        sequence.num_computed = sequence.num_cached = 0
        sequence.cells = []
        sequence.status = Status.WAITING
        self._waiting.appendleft(sequence)

    def _vacate(self, sequence: Sequence, actions: list[Action]) -> None:
        actions.append(Free(sequence.seq_id))
        self._pool.drop_running(sequence.cells)
        self._free_ids.append(sequence.seq_id)
        sequence.seq_id = -1

    def _return_unused(self, sequence: Sequence) -> None:
        """Cells that were taken for a step which did not happen."""
        unused = sequence.cells[sequence.num_computed :]
        self._pool.drop_running(unused)
        del sequence.cells[sequence.num_computed :]

    def _read(self, sequence: Sequence, left: int, actions: list[Action], chunks: list[Chunk]) -> int:
        """A chunk of prompt; leaves give way to it, running sequences do not."""
        wanted = min(left, sequence.num_tokens - sequence.num_computed)
        while self._pool.num_free < wanted and (evicted := self._cache.evict()):
            actions += [Free(tag) for tag in evicted]
        size = min(wanted, self._pool.num_free)
        if size:
            self._chunk(sequence, size, chunks)
        return size

    def _chunk(self, sequence: Sequence, size: int, chunks: list[Chunk]) -> None:
        sequence.cells += self._pool.take(size)
        chunks.append(Chunk(sequence, size))

    def _candidates(self) -> list[Sequence]:
        running = Counter(each.tenant for each in self._running)
        looked_at = [self._waiting[at] for at in range(min(MAX_LOOKED_AT, len(self._waiting)))]
        return sorted(looked_at, key=lambda each: running[each.tenant])  # stable: then by arrival

    def _source(self, sequence: Sequence) -> Source | None:
        """The longest prefix that the tenant has in memory, running or cached."""
        if not self._shares:
            return None
        best = self._cache.find(sequence.tenant, sequence.prompt_array)
        for each in self._running:
            if each.tenant != sequence.tenant:
                continue
            length = min(self._in_common(sequence, each), each.num_computed)
            if length >= MIN_SHARED_TOKENS and (best is None or length > best.length):
                best = Source(each.seq_id, length, each.cells)
        return best

    def _is_computed_by_another(self, sequence: Sequence, source: Source | None) -> bool:
        have = source.length if source else 0
        return self._shares and any(
            each.tenant == sequence.tenant
            and each.status is Status.PREFILL
            and self._in_common(sequence, each) >= max(have, each.num_computed) + MIN_SHARED_TOKENS
            for each in self._running
        )

    def _in_common(self, sequence: Sequence, other: Sequence) -> int:
        # At least one token of the newcomer's own is left, for its logits.
        return min(common_prefix(sequence.prompt_array, other.prompt_array), sequence.num_prompt - 1)

    def _fits(self, sequence: Sequence, source: Source | None) -> bool:
        if not self._running:  # alone it always fits: the intake refuses what never could
            return True
        to_come = sum(each.num_tokens - len(each.cells) for each in self._running)
        growth = GROWTH_CELLS * (len(self._running) + 1)
        needed = sequence.num_tokens - (source.length if source else 0)
        available = self._pool.num_free + self._pool.num_cached_only
        return to_come + needed + growth <= available

    def _admit(self, sequence: Sequence, source: Source | None, actions: list[Action]) -> None:
        self._waiting.remove(sequence)
        sequence.seq_id = self._free_ids.pop()
        sequence.status = Status.PREFILL
        if source is not None:
            actions.append(Copy(source.seq_id, sequence.seq_id, source.length))
            sequence.cells = list(source.cells[: source.length])
            self._pool.share_running(sequence.cells)
            sequence.num_computed = sequence.num_cached = source.length
            if source.leaf is not None:
                self._cache.touch(source.leaf)
        self._running.append(sequence)
