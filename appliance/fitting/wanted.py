"""What is asked of a model: the settings that decide how much memory it takes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_DRAFTS: Final = 24  # rows for guesses in one step; each costs a row of logits in the buffers
MAX_INPUTS: Final = 64  # of one batch of embeddings; the library's loops over sequences grow with the square
REPRODUCIBLE_CHUNK: Final = 32  # tokens: small enough to take turns with everybody else's steps
ALIGNMENT: Final = 256  # the library's: a context has a multiple of it
# The tuner's contexts (engine/worker/llama/tune.py), two of which stand while it measures.
TRIAL_CELLS: Final = 2368
TRIAL_BESIDE: Final = 2048
TRIAL_BATCH: Final = 64
TRIAL_SEQUENCES: Final = 10


@dataclass(frozen=True, slots=True)
class Pool:
    """One context that answers: its cells, and how it computes attention."""

    n_ctx: int
    flash_attn: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """A load's settings, by the names of `[engine]`. `tuned`: None where the worker will measure first."""

    n_ctx: int
    n_seq_max: int
    n_batch: int
    prefix_cache_cells: int = 0
    spill_bytes: int = 0
    embedding_n_ctx: int = 2048
    embedding_n_batch: int = 256
    tuned: tuple[bool, bool] | None = None  # flash attention, and whether there is a pool apart
    cell_type: int = 1  # ggml's type of keys and values: F16
    adapters: int = 0  # bytes of LoRA files
    chats: bool = True  # False: for vectors alone, and only their context is made

    def pools(self, n_ctx_train: int, *, can_share: bool, tuned: tuple[bool, bool]) -> tuple[Pool, ...]:
        """As the worker divides its cells."""
        flash_attn, apart = tuned
        cells = (self.n_ctx, 0)
        if apart and can_share and self.prefix_cache_cells > 0:
            cells = divide(self.n_ctx, n_ctx_train)
        shared = Pool(cells[0], flash_attn)
        return (shared, Pool(cells[1], flash_attn=True)) if cells[1] else (shared,)


def divide(n_ctx: int, longest: int) -> tuple[int, int]:
    """The cells of the shared pool, which holds the longest request, and of the one apart: 0 where too
    few are left for one.
    """
    longest = min(n_ctx, longest)
    apart = min(n_ctx // 2, n_ctx - longest) // ALIGNMENT * ALIGNMENT
    return (n_ctx - apart, apart) if apart >= n_ctx // 4 else (n_ctx, 0)


def padded(n_ctx: int) -> int:
    """Cells as the library grants them."""
    return -(-n_ctx // ALIGNMENT) * ALIGNMENT
