"""A second context on the loaded model, for vectors. Owner: the step thread.

A causal model with a cache reads an input in several batches: its context gives one vector for each
token, and pooling happens here, so that a long input neither needs a batch of its length nor stops the
answers beside it. Every other model (encoders, ranking heads) must see an input as a whole: the
library pools, and `n_batch == n_ubatch` holds the longest input, else it would abort (notes §6).

Embedding contexts compute logits for every token too (llama.cpp builds the output layer in any case):
`embedding_n_batch` times the vocabulary times 8 bytes is the largest part of what a context takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as lib

from appliance.engine.worker.backend import BatchItem
from appliance.engine.worker.embedder import CanNotEmbed, ComputeFailed, Pooling, Slice, Vector
from appliance.engine.worker.llama.batch import Batch
from appliance.engine.worker.llama.model import LoadedModel
from appliance.fitting.wanted import MAX_INPUTS

_NAMES: dict[int, Pooling] = {
    lib.LLAMA_POOLING_TYPE_MEAN: "mean",
    lib.LLAMA_POOLING_TYPE_CLS: "cls",
    lib.LLAMA_POOLING_TYPE_LAST: "last",
    lib.LLAMA_POOLING_TYPE_RANK: "rank",
}
_TYPES = {name: number for number, name in _NAMES.items()}

Rows = npt.NDArray[np.float32]


def pooling_of(context: Any) -> Pooling:
    """The model's own pooling, as a context made without a wish resolved it; mean where it has none."""
    return _NAMES.get(int(lib.llama_pooling_type(context)), "mean")


@dataclass(frozen=True, slots=True)
class EmbeddingLimits:
    """What a context is made of. Sizes in tokens."""

    max_tokens: int  # of one input
    n_batch: int
    n_threads: int
    n_threads_batch: int
    flash_attn: bool
    has_cache: bool  # False for encoders: the library keeps nothing of them


class EmbeddingContext:
    """Vectors of batches. CanNotEmbed where the model or the memory does not allow one."""

    def __init__(self, model: LoadedModel, pooling: Pooling, limits: EmbeddingLimits) -> None:
        if model.has_encoder:
            raise CanNotEmbed("unsupported_model", "encoder-decoder models are not embedded with")
        self.splits = model.is_causal and limits.has_cache and pooling != "rank"
        self.n_batch = limits.n_batch if self.splits else max(limits.n_batch, limits.max_tokens)
        # A recurrent state is as large for one token as for a thousand: one input at a time.
        self.n_seq_max = 1 if model.is_recurrent else min(MAX_INPUTS, self.n_batch)
        params = lib.llama_context_default_params()
        # At most one input is unfinished: its cells, and those of one batch.
        params.n_ctx = self.n_batch + (limits.max_tokens if self.splits else 0)
        params.n_batch = params.n_ubatch = self.n_batch
        params.n_seq_max = self.n_seq_max
        params.n_threads = limits.n_threads
        params.n_threads_batch = limits.n_threads_batch
        params.kv_unified = True
        params.embeddings = True
        params.pooling_type = lib.LLAMA_POOLING_TYPE_NONE if self.splits else _TYPES[pooling]
        params.flash_attn_type = 1 if limits.flash_attn else 0
        params.no_perf = True
        self.pointer: Any = lib.llama_init_from_model(model.pointer, params)
        if not self.pointer:
            raise CanNotEmbed(
                "out_of_memory", f"no memory for an embedding context with batches of {self.n_batch} tokens"
            )
        # The library may grant less than was asked: never hand it more than it has.
        self.n_batch = min(self.n_batch, int(lib.llama_n_batch(self.pointer)))
        self._memory = lib.llama_get_memory(self.pointer)
        self._pooling = pooling
        self._n_vocab = model.n_vocab
        self._n_embd = model.n_embd
        self._batch = Batch(self.n_batch)
        self._partial: dict[int, npt.NDArray[np.float64]] = {}

    def compute(self, batch: Sequence[Slice]) -> list[Vector | None]:
        """llama_decode, then pooling. A model without a cache is encoded by the same call."""
        items = [
            BatchItem(token, each.begin + offset, each.seq_id, wants_logits=True)
            for each in batch
            for offset, token in enumerate(each.tokens)
        ]
        self._check(items)
        self._batch.fill(items)
        status = lib.llama_decode(self.pointer, self._batch.struct)
        if status != 0:
            raise ComputeFailed(f"llama_decode failed with {status}")
        found: list[Vector | None] = []
        if self.splits:
            found += self._pool(batch, len(items))
        else:
            found += [self._pooled(each) for each in batch]
        for each in batch:
            if each.ends:
                self.forget(each.seq_id)
        return found

    def forget(self, seq_id: int) -> None:
        """Free an input's cells, and what was pooled of it."""
        self._partial.pop(seq_id, None)
        if self._memory:
            lib.llama_memory_seq_rm(self._memory, seq_id, -1, -1)

    def close(self) -> None:
        lib.llama_free(self.pointer)

    def _pool(self, batch: Sequence[Slice], num_tokens: int) -> list[Vector | None]:
        pointer = lib.llama_get_embeddings(self.pointer)
        if not pointer:
            raise ComputeFailed("the batch has no embeddings")
        rows: Rows = np.ctypeslib.as_array(pointer, shape=(num_tokens, self._n_embd))
        found: list[Vector | None] = []
        begin = 0
        for each in batch:
            end = begin + len(each.tokens)
            found.append(self._pool_one(each, rows[begin:end]))
            begin = end
        return found

    def _pool_one(self, part: Slice, rows: Rows) -> Vector | None:
        """Sum, first or last row of an input that may have come in several parts."""
        if self._pooling == "mean":
            total = rows.sum(axis=0, dtype=np.float64)
            if part.begin:
                total += self._partial[part.seq_id]
            self._partial[part.seq_id] = total
            number = part.begin + len(part.tokens)
            return (total / number).astype(np.float32) if part.ends else None
        if self._pooling == "cls" and part.begin == 0:
            self._partial[part.seq_id] = rows[0].astype(np.float64)
        if not part.ends:
            return None
        if self._pooling == "cls":
            return self._partial[part.seq_id].astype(np.float32)
        return np.array(rows[-1], np.float32)

    def _pooled(self, part: Slice) -> Vector:
        pointer = lib.llama_get_embeddings_seq(self.pointer, part.seq_id)
        if not pointer:
            raise ComputeFailed("a sequence has no embedding")
        # A ranking head gives n_cls_out numbers, of which the first is the score.
        size = 1 if self._pooling == "rank" else self._n_embd
        found: Vector = np.ctypeslib.as_array(pointer, shape=(size,)).copy()
        return found

    def _check(self, items: Sequence[BatchItem]) -> None:
        """RuntimeError for what would abort the process or spoil the batch: a bug of ours."""
        if not 0 < len(items) <= self.n_batch:
            raise RuntimeError("an embedding batch is larger than its context allows")
        for item in items:
            if not 0 <= item.seq_id < self.n_seq_max or not 0 <= item.token < self._n_vocab:
                raise RuntimeError("an embedding batch holds an id that does not exist")
