"""Which inputs go into which batch of an embedding context. Pure: no library, no clock.

1. an input that the batch before left unfinished goes on first: at most one is unfinished at any time,
   so that the cells of one longest input and one batch are enough
2. then one input of each waiting job in turn, so that a small request does not wait behind a huge one
3. where the rest of the budget is too small for the next input it is split, if the model allows; a
   model that must see an input as a whole gets it in the next batch, alone if it is that long
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from appliance.engine.worker.embedder import Slice


@dataclass(slots=True)
class _Open:
    """The one input that is computed in part."""

    job: str
    index: int
    seq_id: int
    tokens: Sequence[int] = field(repr=False)
    done: int = 0


class Batcher:
    """Inputs of all jobs. Owner: the step thread."""

    def __init__(self, *, n_batch: int, n_seq_max: int, splits: bool) -> None:
        self._n_batch = n_batch
        self._n_seq_max = n_seq_max
        self._splits = splits
        self._waiting: OrderedDict[str, deque[tuple[int, Sequence[int]]]] = OrderedDict()
        self._open: _Open | None = None

    @property
    def has_work(self) -> bool:
        return self._open is not None or bool(self._waiting)

    def add(self, job: str, inputs: Iterable[Sequence[int]]) -> None:
        """Queue a job's inputs. ValueError for an empty one, or one that no batch could hold."""
        queue = deque(enumerate(inputs))
        for _, tokens in queue:
            if not tokens or (len(tokens) > self._n_batch and not self._splits):
                raise ValueError("an input that no batch can hold")
        if queue:
            self._waiting[job] = queue

    def drop(self, job: str) -> int | None:
        """Forget a job; the sequence id of its unfinished input, where it has one."""
        self._waiting.pop(job, None)
        if self._open is None or self._open.job != job:
            return None
        seq_id, self._open = self._open.seq_id, None
        return seq_id

    def next(self, budget: int) -> list[Slice]:
        """The next batch: about `budget` tokens, at least one input's or slice's. Empty without work."""
        left = max(1, min(budget, self._n_batch))
        batch: list[Slice] = []
        if self._open is not None:  # 1
            batch.append(self._slice(self._open, left))
            left -= len(batch[0].tokens)
        taken = {each.seq_id for each in batch}
        free_ids = iter([each for each in range(self._n_seq_max) if each not in taken])
        while self._waiting and left > 0 and len(batch) < self._n_seq_max:
            job, queue = next(iter(self._waiting.items()))
            index, tokens = queue[0]
            if len(tokens) > left and not self._splits and batch:  # 3
                break
            queue.popleft()
            self._waiting.move_to_end(job)  # 2
            if not queue:
                del self._waiting[job]
            room = left if self._splits else len(tokens)
            batch.append(self._slice(_Open(job, index, next(free_ids), tokens), room))
            left -= len(batch[-1].tokens)
        return batch

    def _slice(self, opened: _Open, room: int) -> Slice:
        """The next tokens of an input; it stays open where some are left."""
        begin = opened.done
        tokens = opened.tokens[begin : begin + room]
        opened.done += len(tokens)
        ends = opened.done == len(opened.tokens)
        self._open = None if ends else opened
        return Slice(opened.job, opened.index, opened.seq_id, begin, tokens, ends)
