"""The port between the engine's core and whatever computes. Two implementations: llama.cpp and,
in the tests, a fake one. Nothing above it knows token ids' meaning or tensors' shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from appliance.engine.amounts import Buffer, Memory
from appliance.engine.messages import Setup, Trial, Tuning
from appliance.engine.question import Sampling
from appliance.engine.worker.embedder import Embedder, EmbeddingShape

Logits = npt.NDArray[np.float32]
MAX_SEQUENCE_IDS = 256  # LLAMA_MAX_SEQ: ids from n_seq_max on hold cells and are never decoded


class LoadError(Exception):
    """The model can not be loaded; the message is for the operator. `code` as in `messages.LoadFailed`."""

    def __init__(self, message: str, *, code: str = "load_failed") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Model:
    """What a loaded model says of itself."""

    n_ctx: int  # cells of all pools together
    n_ctx_train: int
    n_seq_max: int
    n_batch: int
    n_vocab: int
    n_params: int
    description: str
    backend: str
    library: str
    template: str
    bos_text: str
    eos_text: str
    adds_bos: bool
    can_share_prefixes: bool  # False for recurrent, hybrid and sliding-window models
    max_drafts: int  # rows that a step may sample beyond one for each running sequence
    cell_bytes: int  # of one token in the key-value pool
    embedding: EmbeddingShape
    on_gpu: bool = False  # whether a GPU answers
    fallback: str = ""  # why none does, though its backend is installed (devices.py)
    fallback_says: str = ""
    adapters: frozenset[str] = frozenset()  # the ids that `use` takes
    writes: bool = True  # False for a model that only embeds or ranks: it has no pool to decode in
    buffers: tuple[Buffer, ...] = ()  # that the library took for it
    memories: tuple[Memory, ...] = ()  # of the GPUs, before
    n_gpu_layers: int = 0

    @property
    def max_tokens(self) -> int:
        """Of one request, prompt and answer together; of one input where no answers are written."""
        return self.embedding.max_tokens if not self.writes else min(self.n_ctx, self.n_ctx_train)


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One token of a batch: where it goes, and whether its logits are wanted."""

    token: int
    position: int
    seq_id: int
    wants_logits: bool


class DecodeStatus(IntEnum):
    """llama_decode's answer (llama.h): done, or no room in the key-value pool (nothing changed)."""

    OK = 0
    NO_ROOM = 1


class Sampler(Protocol):
    """Chooses tokens for one sequence; remembers what it chose."""

    def sample(self, row: int) -> int:
        """The next token from the batch's row (index into the batch)."""
        ...

    def choose(self, row: int, allowed: npt.NDArray[np.bool_] | None) -> int:
        """The next token among the allowed ones (all, where None), without remembering it."""
        ...

    def logits(self, row: int) -> Logits:
        """A row as the model computed it: a view, valid until the next batch."""
        ...

    def accept(self, token: int) -> None:
        """Remember a token that `choose` gave."""
        ...

    def close(self) -> None:
        """Free it. Safe to call once."""
        ...


class Lane(Protocol):
    """A context for one sequence alone (id 0), the same each time for the same setup."""

    def decode(self, batch: Sequence[BatchItem]) -> DecodeStatus: ...

    def new_sampler(self, sampling: Sampling) -> Sampler: ...

    def digest(self, row: int) -> bytes:
        """DIGEST_BYTES of the SHA-256 of a row's logits."""
        ...

    def remove(self, seq_id: int) -> None: ...

    def close(self) -> None: ...


class Pool(Protocol):
    """Cells that many sequences share, and the context that computes in them. Owned by the step thread."""

    n_ctx: int  # cells
    change_us: int  # what a change of adapters adds to the batch behind it, as it was measured

    def use(self, adapter: str) -> None:
        """What is decoded from here on is computed under this adapter, or none. Cells stay as they are."""
        ...

    def decode(self, batch: Sequence[BatchItem]) -> DecodeStatus:
        """Compute one batch. RuntimeError where the library fails for good."""
        ...

    def new_sampler(self, sampling: Sampling) -> Sampler:
        """A sampler for one sequence."""
        ...

    def copy(self, source: int, target: int, length: int) -> None:
        """The first `length` cells of `source` belong to `target` too. `target` must be empty."""
        ...

    def remove(self, seq_id: int, begin: int = 0) -> None:
        """Free a sequence's cells from position `begin` on."""
        ...

    def save(self, seq_id: int) -> npt.NDArray[np.uint8]:
        """A sequence's cells as bytes, for `restore` in this pool. Ids below n_seq_max only."""
        ...

    def restore(self, seq_id: int, data: npt.NDArray[np.uint8]) -> bool:
        """Cells from `save` into fresh ones of an empty sequence; False where there is no room."""
        ...


class Backend(Pool, Protocol):
    """Everything that the core needs. Owned by the step thread; `tokenize`, `encode` and `spell` may be
    called from any. As a pool it is the one in which prefixes are shared.
    """

    model: Model
    tuning: Tuning
    trials: tuple[Trial, ...]
    setup: Setup  # what a lane is opened with where nobody asks for another one
    apart: Pool | None  # for requests that share nothing, where that is quicker here

    def tokenize(self, text: str, *, parse_special: bool, add_bos: bool) -> list[int]:
        """Token ids of a text, behind the BOS token where asked. Never an EOS: an answer follows."""
        ...

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Token ids of a text, with what the vocabulary puts around one (BOS, EOS, SEP) where asked."""
        ...

    def piece(self, token: int) -> bytes:
        """The bytes of a token; empty for control tokens."""
        ...

    def spell(self, token: int) -> bytes:
        """The bytes of a token, control tokens too. The caller has checked that it exists."""
        ...

    def is_end(self, token: int) -> bool:
        """Whether this token ends a generation."""
        ...

    def vocabulary(self) -> tuple[list[bytes], list[int]]:
        """The bytes of every token (empty for control tokens), and the tokens that end an answer."""
        ...

    def control_texts(self) -> Sequence[str]:
        """The texts of all control tokens, longest first."""
        ...

    def open_lane(self, setup: Setup, adapter: str) -> Lane:
        """A context of its own for reproducible requests, under this adapter alone. Any error: it can
        not be had.
        """
        ...

    def new_embedder(self) -> Embedder:
        """A context of its own for vectors. CanNotEmbed where there can be none."""
        ...

    def close(self) -> None:
        """Free everything, in order."""
        ...
