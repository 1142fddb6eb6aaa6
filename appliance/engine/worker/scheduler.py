"""Who computes what in the next step. Pure: no library, no clock, no I/O; it owns the queues.

Numbered decision tree of `schedule`:
1. where the decoding sequences would not all find a free cell, the newest running one is preempted:
   it gives its cells back and goes to the head of the queue, to be computed again later
2. every decoding sequence gets one token: nobody's stream stalls because somebody arrived
3. sequences that are reading their prompt get chunks, oldest first, from the rest of the budget
4. waiting requests are admitted in order of arrival, while there is a free sequence id and room for
   their prompt and a little growth; the first that does not fit holds the line (no starvation)
5. an admitted request gets its first chunk from what is left of the budget

Cells are counted, not asked for: the pool is shared and no sequence shares cells yet, so what is used
is the sum of what was computed. Reserving prompt + max_tokens at admission would never preempt, but
most callers name no limit, and two of them would fill the pool with room that nobody writes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from appliance.engine.worker.sequence import Sequence, Status

GROWTH_CELLS = 32  # room for growth that an admission leaves for each running sequence


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
class Step:
    """What the core is to do: free these sequence ids, then compute these chunks."""

    freed_ids: tuple[int, ...]
    chunks: tuple[Chunk, ...]


class Scheduler:
    """Waiting and running sequences. Owner: the step thread."""

    def __init__(self, *, num_cells: int, n_seq_max: int, budget: int, max_waiting: int) -> None:
        if budget < n_seq_max:
            raise ValueError("the token budget must hold one token for every running sequence")
        self._num_cells = num_cells
        self._budget = budget
        self._max_waiting = max_waiting
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
        return sum(each.num_computed for each in self._running)

    @property
    def has_work(self) -> bool:
        return bool(self._waiting or self._running)

    def add(self, sequence: Sequence) -> bool:
        """Queue a request; False where the queue is full."""
        if len(self._waiting) >= self._max_waiting:
            return False
        self._waiting.append(sequence)
        return True

    def schedule(self) -> Step:
        """The next step's work. No chunks only where nothing is running and nothing waits."""
        freed = self._make_room()  # 1
        chunks = [Chunk(each, 1) for each in self._running if each.status is Status.DECODE]  # 2
        left = min(self._budget, self._num_cells - self.num_cells_used) - len(chunks)
        for each in self._running:  # 3
            if each.status is Status.PREFILL and left > 0:
                left -= self._chunk(each, left, chunks)
        while self._waiting and left > 0 and self._fits(self._waiting[0]):  # 4
            left -= self._chunk(self._admit(), left, chunks)  # 5
        return Step(freed, tuple(chunks))

    def release(self, sequence: Sequence) -> None:
        """A sequence is over: its id and its cells are free. Waiting ones just leave the queue."""
        if sequence.status is Status.WAITING:
            self._waiting.remove(sequence)
            return
        self._running.remove(sequence)
        self._free_ids.append(sequence.seq_id)

    def preempt_newest(self) -> int:
        """Take the newest running sequence off the machine; the id whose cells are to be freed."""
        sequence = self._running.pop()
        freed = sequence.seq_id
        self._free_ids.append(freed)
        sequence.seq_id = -1
        sequence.num_computed = 0
        sequence.status = Status.WAITING
        self._waiting.appendleft(sequence)
        return freed

    def _make_room(self) -> tuple[int, ...]:
        freed = []
        while len(self._running) > 1:
            growing = sum(each.status is Status.DECODE for each in self._running)
            if self.num_cells_used + growing <= self._num_cells:
                break
            freed.append(self.preempt_newest())
        return tuple(freed)

    def _chunk(self, sequence: Sequence, left: int, chunks: list[Chunk]) -> int:
        size = min(left, sequence.num_tokens - sequence.num_computed)
        chunks.append(Chunk(sequence, size))
        return size

    def _fits(self, sequence: Sequence) -> bool:
        if not self._free_ids:
            return False
        if not self._running:  # alone it always fits: the intake refuses what never could
            return True
        promised = sum(max(each.num_computed, each.num_tokens) for each in self._running)
        growth = GROWTH_CELLS * (len(self._running) + 1)
        return promised + sequence.num_tokens + growth <= self._num_cells

    def _admit(self) -> Sequence:
        sequence = self._waiting.popleft()
        sequence.seq_id = self._free_ids.pop()
        sequence.status = Status.PREFILL
        self._running.append(sequence)
        return sequence
