"""A llama_batch whose arrays are numpy's."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from llama_cpp import llama_cpp as lib

from appliance.engine.worker.backend import BatchItem


class Batch:
    """A llama_batch whose arrays are numpy's: filled by slices, not element by element."""

    def __init__(self, capacity: int) -> None:
        self._token = np.zeros(capacity, np.int32)
        self._position = np.zeros(capacity, np.int32)
        self._num_ids = np.ones(capacity, np.int32)
        self._id = np.zeros(capacity, np.int32)
        self._wants = np.zeros(capacity, np.int8)
        # One pointer per token, each to its own element of `_id`.
        step = np.arange(capacity, dtype=np.uint64) * self._id.itemsize
        self._id_pointers = np.uint64(self._id.ctypes.data) + step
        self.struct = lib.llama_batch(
            n_tokens=0,
            token=self._token.ctypes.data_as(ctypes.POINTER(lib.llama_token)),
            embd=None,
            pos=self._position.ctypes.data_as(ctypes.POINTER(lib.llama_pos)),
            n_seq_id=self._num_ids.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            seq_id=self._id_pointers.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(lib.llama_seq_id))),
            logits=self._wants.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def fill(self, batch: Sequence[BatchItem]) -> None:
        size = len(batch)
        self._token[:size] = [item.token for item in batch]
        self._position[:size] = [item.position for item in batch]
        self._id[:size] = [item.seq_id for item in batch]
        self._wants[:size] = [item.wants_logits for item in batch]
        self.struct.n_tokens = size
