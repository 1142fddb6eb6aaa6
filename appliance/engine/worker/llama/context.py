"""One context of a model: its cells, and what was computed last. Owner: the step thread.

A context is unified (all sequences share one pool, and may share cells) or not. Everything that would
abort() inside the library, or fail a whole batch, is checked here (notes on the engine, §6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as lib

from appliance.engine.worker.backend import MAX_SEQUENCE_IDS, BatchItem, DecodeStatus, Logits
from appliance.engine.worker.llama import heard
from appliance.engine.worker.llama.batch import Batch
from appliance.engine.worker.llama.library import LoadError
from appliance.engine.worker.llama.model import LoadedModel


@dataclass(frozen=True, slots=True)
class ContextShape:
    """What a context is made of; the library's names where they go down as they are."""

    n_ctx: int
    n_seq_max: int
    n_batch: int
    n_outputs_max: int
    n_threads: int
    n_threads_batch: int
    kv_unified: bool
    flash_attn: bool


class Context:
    """Cells and logits."""

    def __init__(self, model: LoadedModel, shape: ContextShape) -> None:
        if shape.n_batch < shape.n_seq_max:  # aborts inside the library
            raise LoadError("n_batch must not be below n_seq_max")
        if shape.n_outputs_max < shape.n_seq_max:  # so does this
            raise LoadError("n_outputs_max must not be below n_seq_max")
        params = lib.llama_context_default_params()
        params.n_ctx = shape.n_ctx
        params.n_batch = params.n_ubatch = shape.n_batch
        params.n_seq_max = shape.n_seq_max
        params.n_outputs_max = shape.n_outputs_max
        params.n_threads = shape.n_threads
        params.n_threads_batch = shape.n_threads_batch
        params.kv_unified = shape.kv_unified
        params.flash_attn_type = 1 if shape.flash_attn else 0
        params.no_perf = True
        heard.forget()
        self.pointer: Any = lib.llama_init_from_model(model.pointer, params)
        if not self.pointer:
            raise LoadError(f"no memory for a context of {shape.n_ctx} cells, {shape.n_seq_max} sequences")
        self.buffers = heard.take()
        self._memory = lib.llama_get_memory(self.pointer)
        self.n_ctx = int(lib.llama_n_ctx(self.pointer))
        self.n_seq_max = int(lib.llama_n_seq_max(self.pointer))
        self.n_batch = min(int(lib.llama_n_batch(self.pointer)), shape.n_batch)
        self._n_outputs_max = shape.n_outputs_max
        self._num_ids = MAX_SEQUENCE_IDS if shape.kv_unified else self.n_seq_max
        self._n_vocab = model.n_vocab
        self._batch = Batch(self.n_batch)
        self._outputs: frozenset[int] = frozenset()

    @property
    def has_memory(self) -> bool:
        """Whether the library keeps anything of what it computed; False for encoders."""
        return bool(self._memory)

    def decode(self, batch: Sequence[BatchItem]) -> DecodeStatus:
        """llama_decode. RuntimeError where the library fails for good."""
        self._check(batch)
        self._batch.fill(batch)
        self._outputs = frozenset(row for row, item in enumerate(batch) if item.wants_logits)
        status = lib.llama_decode(self.pointer, self._batch.struct)
        if status == 1:
            return DecodeStatus.NO_ROOM
        if status != 0:
            raise RuntimeError(f"llama_decode failed with {status}")
        return DecodeStatus.OK

    def logits(self, row: int) -> Logits:
        """A view of one row of the last batch, valid until the next."""
        self.check_row(row)
        pointer = lib.llama_get_logits_ith(self.pointer, row)
        return np.ctypeslib.as_array(pointer, shape=(self._n_vocab,))

    def check_row(self, row: int) -> None:
        """RuntimeError for a row without logits: sampling it would abort the process."""
        if row not in self._outputs:
            raise RuntimeError("this row has no logits")

    def copy(self, source: int, target: int, length: int) -> None:
        """llama_memory_seq_cp of the first `length` cells: it tags them, and moves nothing."""
        # Memory operations take ids up to LLAMA_MAX_SEQ in a unified pool; decode does not.
        for seq_id in (source, target):
            self._check_id(seq_id, self._num_ids)
        if length <= 0 or length > lib.llama_memory_seq_pos_max(self._memory, source) + 1:
            raise RuntimeError("a copy of more than there is")
        lib.llama_memory_seq_cp(self._memory, source, target, 0, length)

    def remove(self, seq_id: int, begin: int = 0) -> None:
        """Free a sequence's cells from position `begin` on."""
        self._check_id(seq_id, self._num_ids)
        if not lib.llama_memory_seq_rm(self._memory, seq_id, begin or -1, -1):
            raise RuntimeError("this model can not forget a part of a sequence")

    def save(self, seq_id: int) -> npt.NDArray[np.uint8]:
        """A sequence's cells as bytes. Only ids that can be decoded are written by the library."""
        self._check_id(seq_id, self.n_seq_max)
        size = int(lib.llama_state_seq_get_size(self.pointer, seq_id))
        data = np.empty(size, np.uint8)
        written = lib.llama_state_seq_get_data(self.pointer, _bytes_of(data), size, seq_id)
        if written != size:
            raise RuntimeError("the library wrote less of a sequence than it said")
        return data

    def restore(self, seq_id: int, data: npt.NDArray[np.uint8]) -> bool:
        """Cells from `save`, into fresh ones. False where there is no room; nothing has changed then."""
        self._check_id(seq_id, self.n_seq_max)
        return bool(lib.llama_state_seq_set_data(self.pointer, _bytes_of(data), len(data), seq_id))

    def set_threads(self, n_threads: int, n_threads_batch: int) -> None:
        lib.llama_set_n_threads(self.pointer, n_threads, n_threads_batch)

    def close(self) -> None:
        lib.llama_free(self.pointer)

    def _check(self, batch: Sequence[BatchItem]) -> None:
        wanted = sum(item.wants_logits for item in batch)
        if not 0 < len(batch) <= self.n_batch or wanted > self._n_outputs_max:
            raise RuntimeError("a batch is larger than the context allows")
        for item in batch:
            self._check_id(item.seq_id, self.n_seq_max)
            if not 0 <= item.token < self._n_vocab or item.position < 0:
                raise RuntimeError("a batch holds a token or a position that does not exist")

    def _check_id(self, seq_id: int, limit: int) -> None:
        if not 0 <= seq_id < limit:
            raise RuntimeError("a sequence id that does not exist")


def _bytes_of(data: npt.NDArray[np.uint8]) -> Any:
    return data.ctypes.data_as(lib.ctypes.POINTER(lib.ctypes.c_uint8))
