"""The port between the embedding side of the worker and whatever computes vectors.

Two implementations, as for `Backend`: llama.cpp and, in the tests, a fake one. Only the step thread
talks to an embedder; what the intake thread must know stands in `EmbeddingShape`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]
Pooling = Literal["mean", "cls", "last", "rank"]


class CanNotEmbed(Exception):
    """No vectors now (`out_of_memory`) or never (`unsupported_model`) from this model."""

    def __init__(self, code: Literal["out_of_memory", "unsupported_model"], message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class ComputeFailed(Exception):
    """The library could not compute a batch; the embedder must be closed, a new one may be made."""


@dataclass(frozen=True, slots=True)
class RerankShape:
    """How query and document become one input of a ranking model.

    `template` with {query} and {document} where the model's file has one; else the tokens before,
    between and behind the two.
    """

    template: str = ""
    head: tuple[int, ...] = ()
    middle: tuple[int, ...] = ()
    tail: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class EmbeddingShape:
    """What a loaded model says of its vectors, before anything is made for computing them."""

    n_embd: int
    max_tokens: int  # of one input
    pooling: Pooling  # the model's own; "mean" where it names none
    rerank: RerankShape = RerankShape()


@dataclass(frozen=True, slots=True)
class Slice:
    """Consecutive tokens of one input, from position `begin` on, under a sequence id of this batch."""

    job: str  # request id
    index: int  # of the input in its job
    seq_id: int
    begin: int
    tokens: Sequence[int] = field(repr=False)
    ends: bool  # whether the input is complete with it


class Embedder(Protocol):
    """Computes batches of slices. Owner: the step thread."""

    n_batch: int  # tokens of one batch
    n_seq_max: int  # inputs of one batch
    splits: bool  # whether an input may be computed in several batches

    def compute(self, batch: Sequence[Slice]) -> list[Vector | None]:
        """For each slice that ends its input its raw vector (a ranking model: its score), else None.

        What an ended input held is freed. ComputeFailed where the library gives up.
        """
        ...

    def forget(self, seq_id: int) -> None:
        """Free an input that will not be completed."""
        ...

    def close(self) -> None:
        """Free everything."""
        ...
