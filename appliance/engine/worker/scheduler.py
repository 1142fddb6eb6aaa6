"""Who computes what in the next step. Pure: no library, no clock, no I/O; it owns queues and cells.

A step computes the sequences of one adapter, which the caller names (`rota`); the others keep their
cells meanwhile. Who is admitted does not depend on it.

Numbered decision tree of `schedule`, where "the sequences" are those of the step's adapter:
1. where the decoding sequences would not all find a free cell, cached leaves go, the least recently
   used first; where none is left, the newest running sequence is preempted: it gives its cells back
   and goes to the head of the queue, to be computed again later
2. every decoding sequence gets one token: nobody's stream stalls because somebody arrived; guesses at
   the tokens behind it are checked in the same step, where cells and outputs are left
3. sequences that are reading their prompt get chunks, oldest first, from the rest of the budget
4. waiting requests are looked at, those of the tenant with the fewest running first, then in order of
   arrival, while a sequence id is free:
   a. one whose prefix a running sequence is computing right now waits for it: it is computed once
   b. one that does not fit holds the line, so that nobody starves behind smaller requests
   c. the others are admitted, on top of the longest prefix that their tenant has in memory, or has
      spilled to the host's memory: such a one is restored in this step and read on in the next
5. an admitted request gets its first chunk from what is left of the budget, or, under another adapter,
   in a step of its own

The library's pool is mirrored by `CellPool`, cell by cell, so that `decode` is never asked for more
than there is.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from appliance.engine.worker.actions import Action, Copy, Free, Restore
from appliance.engine.worker.cells import CellPool
from appliance.engine.worker.prefix_cache import (
    MIN_SHARED_TOKENS,
    PrefixCache,
    Source,
    Tokens,
    common_prefix,
    usable_length,
)
from appliance.engine.worker.sequence import Sequence, Status

GROWTH_CELLS = 32  # room for growth that an admission leaves for each running sequence
MAX_LOOKED_AT = 32  # waiting requests that one step looks at


@dataclass(frozen=True, slots=True)
class Chunk:
    """`num_tokens` of this sequence are computed in the next step, from `num_computed` on.

    The last of them may be a draft: guesses that the sampled tokens will confirm or not.
    """

    sequence: Sequence
    num_tokens: int
    draft: tuple[int, ...] = ()

    @property
    def ends_input(self) -> bool:
        """Whether the sequence can be sampled after this chunk."""
        return self.sequence.num_computed + self.num_known == self.sequence.num_tokens

    @property
    def num_known(self) -> int:
        """Tokens that are no guesses."""
        return self.num_tokens - len(self.draft)


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
        max_drafts: int = 0,
        cache_tags: Iterable[int] = (),
        max_cached_cells: int = 0,
        max_spilled_cells: int = 0,
        declared: Iterable[Tokens] = (),
    ) -> None:
        if budget < n_seq_max:
            raise ValueError("the token budget must hold one token for every running sequence")
        self._budget = budget
        self._max_waiting = max_waiting
        self._pool = CellPool(num_cells)
        self._cache = PrefixCache(
            cache_tags, max_cached_cells, self._pool, max_spilled_cells=max_spilled_cells
        )
        self._shares = max_cached_cells > 0
        self._max_drafts = max_drafts  # guesses in one step, of all sequences together
        self._declared = sorted(declared, key=len, reverse=True)
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
    def num_cells_spilled(self) -> int:
        """Cells' worth of leaves in the host's memory."""
        return self._cache.num_spilled_cells

    @property
    def has_work(self) -> bool:
        return bool(self._waiting or self._running)

    @property
    def num_reading(self) -> int:
        """Whose prompts are read, or wait to be."""
        return len(self._waiting) + len(self._running) - self.num_decoding

    @property
    def decoding(self) -> list[Sequence]:
        """The sequences that write, one token in each step of their adapter."""
        return [each for each in self._running if each.status is Status.DECODE]

    @property
    def num_decoding(self) -> int:
        return len(self.decoding)

    def writing(self, adapter: str) -> list[Sequence]:
        """Those of one adapter."""
        return [each for each in self.decoding if each.adapter == adapter]

    @property
    def adapters(self) -> list[str]:
        """Under which there is something to compute: of those who run, or else of who is admitted next."""
        return list(dict.fromkeys(each.adapter for each in self._running or self._candidates()[:1]))

    def add(self, sequence: Sequence) -> bool:
        """Queue a request; False where the queue is full."""
        if len(self._waiting) >= self._max_waiting:
            return False
        sequence.num_declared = self._num_declared(sequence)
        self._waiting.append(sequence)
        return True

    def in_hand(self, sequence: Sequence) -> int:
        """How many of its first tokens its tenant has here: computed, being computed, or to be."""
        if not self._shares:
            return 0
        cached = self._cache.find(sequence.owner, sequence.prompt_array, self._num_declared(sequence))
        others = (self._in_common(sequence, each) for each in (*self._running, *self._waiting))
        return max(cached.length if cached else 0, *others, 0)

    def schedule(self, budget: int | None = None, adapter: str = "") -> Step:
        """The next step's work under one adapter. No chunks only where nobody is there, all that came is
        restored first, or those under other adapters hold every cell.

        `budget` bounds the tokens of this step, within the budget of the whole.
        """
        actions: list[Action] = []
        chunks: list[Chunk] = []
        self._make_room(adapter, actions)  # 1
        self._continue(adapter, chunks)  # 2
        num_tokens = sum(chunk.num_tokens for chunk in chunks)
        left = max(1, min(self._budget, budget or self._budget) - num_tokens)
        left = min(left, self._budget - num_tokens)
        for each in self._running:  # 3
            if each.status is Status.PREFILL and each.adapter == adapter and left > 0:
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
            if source is not None and source.seq_id is None:
                continue
            if candidate.adapter == adapter:
                left -= self._read(candidate, left, actions, chunks)  # 5
        return Step(tuple(actions), tuple(chunks))

    def computed(self, chunk: Chunk, num_right: int) -> None:
        """A chunk was computed, and of its guesses `num_right` were right: the rest is not there."""
        chunk.sequence.num_computed += chunk.num_known + num_right
        self._return_unused(chunk.sequence)

    def not_restored(self, seq_id: int, handle: int) -> list[Action]:
        """The library had no room for what was spilled: the prompt is read from its beginning."""
        for each in self._running:
            if each.seq_id == seq_id:
                each.num_computed = each.num_cached = 0
                self._return_unused(each)
        return self._cache.forget_spilled(handle)

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
            tag, freed = self._cache.publish(sequence.owner, tokens, sequence.cells)
            actions += freed
            if tag is not None:
                actions.append(Copy(sequence.seq_id, tag, sequence.num_computed))
        self._vacate(sequence, actions)
        return actions + self._cache.trim(is_idle=not self._running)

    def give_back(self, chunks: Iterable[Chunk]) -> list[Action]:
        """The library had no room after all: nothing was computed, and the newest gives way."""
        for chunk in chunks:
            self._return_unused(chunk.sequence)
        actions = self._cache.evict()
        if not actions:
            if len(self._running) < 2:
                raise RuntimeError("the key-value pool has no room for a single sequence")
            self._preempt_newest(actions)
        return actions

    def _make_room(self, adapter: str, actions: list[Action]) -> None:
        while self._pool.num_free < len(self.writing(adapter)):
            evicted = self._cache.evict()
            if evicted:
                actions += evicted
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
            actions += evicted
        size = min(wanted, self._pool.num_free)
        if size:
            self._chunk(sequence, size, chunks)
        return size

    def _continue(self, adapter: str, chunks: list[Chunk]) -> None:
        """One token for everybody who writes; guesses for as long as nobody goes without."""
        decoding = self.writing(adapter)
        room = self._pool.num_free - len(decoding)
        room = max(0, min(room, self._max_drafts, self._budget - len(decoding)))
        for each in decoding:
            draft = tuple(each.draft[:room])
            room -= len(draft)
            self._chunk(each, 1 + len(draft), chunks, draft)

    def _chunk(self, sequence: Sequence, size: int, chunks: list[Chunk], draft: tuple[int, ...] = ()) -> None:
        sequence.cells += self._pool.take(size)
        chunks.append(Chunk(sequence, size, draft))

    def _candidates(self) -> list[Sequence]:
        running = Counter(each.tenant for each in self._running)
        looked_at = [self._waiting[at] for at in range(min(MAX_LOOKED_AT, len(self._waiting)))]
        return sorted(looked_at, key=lambda each: running[each.tenant])  # stable: then by arrival

    def _source(self, sequence: Sequence) -> Source | None:
        """The longest prefix that the tenant has in memory, running or cached."""
        if not self._shares:
            return None
        prompt = sequence.prompt_array
        best = self._cache.find(sequence.owner, prompt, sequence.num_declared)
        for each in self._running:
            length = min(self._in_common(sequence, each), each.num_computed)
            # A restore costs little, but cells that are there already cost nothing.
            beats = best is None or length > best.length or (best.seq_id is None and length == best.length)
            if length >= MIN_SHARED_TOKENS and beats:
                best = Source(each.seq_id, length, each.cells)
        return best

    def _is_computed_by_another(self, sequence: Sequence, source: Source | None) -> bool:
        have = source.length if source else 0
        return self._shares and any(
            each.status is Status.PREFILL
            and self._in_common(sequence, each) >= max(have, each.num_computed) + MIN_SHARED_TOKENS
            for each in self._running
        )

    def _in_common(self, sequence: Sequence, other: Sequence) -> int:
        """What of the other's prompt, computed or still to be, the sequence may take."""
        return usable_length(
            sequence.owner, sequence.prompt_array, sequence.num_declared, other.owner, other.prompt_array
        )

    def _num_declared(self, sequence: Sequence) -> int:
        prompt = sequence.prompt_array
        for tokens in self._declared:  # the longest first
            if len(tokens) < len(prompt) and common_prefix(tokens, prompt) == len(tokens):
                return len(tokens)
        return 0

    def _fits(self, sequence: Sequence, source: Source | None) -> bool:
        if not self._running:  # alone it always fits: the intake refuses what never could
            return True
        to_come = sum(each.num_tokens - len(each.cells) for each in self._running)
        growth = GROWTH_CELLS * (len(self._running) + 1)
        needed = sequence.num_tokens - (source.length if source and source.seq_id is not None else 0)
        available = self._pool.num_free + self._pool.num_cached_only
        return to_come + needed + growth <= available

    def _admit(self, sequence: Sequence, source: Source | None, actions: list[Action]) -> None:
        self._waiting.remove(sequence)
        sequence.seq_id = self._free_ids.pop()
        sequence.status = Status.PREFILL
        self._running.append(sequence)
        if source is None:
            return
        if source.leaf is not None:
            self._cache.touch(source.leaf)
        if source.seq_id is not None:
            actions.append(Copy(source.seq_id, sequence.seq_id, source.length))
            sequence.cells = list(source.cells[: source.length])
            self._pool.share_running(sequence.cells)
        elif source.leaf is not None:
            # The library brings back the whole leaf before it forgets what is not wanted of it.
            while self._pool.num_free < len(source.leaf.tokens) and (evicted := self._cache.evict()):
                actions += evicted
            if self._pool.num_free < len(source.leaf.tokens) or not self._cache.is_spilled(source.leaf):
                return  # it is read from its beginning
            actions.append(Restore(source.leaf.handle, sequence.seq_id, source.length))
            sequence.cells = self._pool.take(source.length)
        sequence.num_computed = sequence.num_cached = source.length
