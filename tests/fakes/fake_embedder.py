"""Vectors without a model: counts of hashed trigrams, so that texts which share words are near.

Words that an input may hold:
    please be slow     50 ms a batch while this input is in it
    please crash       the process kills itself with SIGKILL
    please fail        the library fails on this batch (ComputeFailed)
"""

from __future__ import annotations

import os
import signal
import time
import zlib
from collections.abc import Sequence

import numpy as np

from appliance.engine.worker.embedder import ComputeFailed, Slice, Vector

N_EMBD = 64
N_SEQ_MAX = 8


class FakeEmbedder:
    """Keeps the book that the library would, and refuses what it would abort on."""

    def __init__(self, n_batch: int, *, splits: bool = True) -> None:
        self.n_batch = n_batch
        self.n_seq_max = N_SEQ_MAX
        self.splits = splits
        self.held: dict[int, list[int]] = {}
        self.batches: list[list[Slice]] = []
        self.is_closed = False

    def compute(self, batch: Sequence[Slice]) -> list[Vector | None]:
        self._check(batch)
        self.batches.append(list(batch))
        found: list[Vector | None] = []
        for each in batch:
            tokens = self.held.setdefault(each.seq_id, [])
            if each.begin != len(tokens):
                raise RuntimeError("positions must go on where the input ends")
            tokens += each.tokens
            _obey(bytes(token for token in tokens if token < 256))
            found.append(vector_of(tokens) if each.ends else None)
            if each.ends:
                self.forget(each.seq_id)
        return found

    def forget(self, seq_id: int) -> None:
        del self.held[seq_id]

    def close(self) -> None:
        self.is_closed = True

    def _check(self, batch: Sequence[Slice]) -> None:
        size = sum(len(each.tokens) for each in batch)
        ids = [each.seq_id for each in batch]
        if self.is_closed or not 0 < size <= self.n_batch or len(set(ids)) != len(ids):
            raise RuntimeError("this batch would abort the library")
        if max(ids) >= self.n_seq_max or not all(each.tokens for each in batch):
            raise RuntimeError("this batch would abort the library")


def vector_of(tokens: Sequence[int]) -> Vector:
    """How often each of N_EMBD classes of trigrams occurs; never zero."""
    vector = np.zeros(N_EMBD, np.float32)
    data = [0, *tokens, 0]
    for at in range(len(data) - 2):
        trigram = np.array(data[at : at + 3], "<u4").tobytes()
        vector[zlib.crc32(trigram) % N_EMBD] += 1
    return vector


def _obey(text: bytes) -> None:
    if b"please be slow" in text:
        time.sleep(0.05)
    if b"please crash" in text:
        os.kill(os.getpid(), signal.SIGKILL)
    if b"please fail" in text:
        raise ComputeFailed("the library failed")
