"""A context for one sequence alone, the same each time that it is opened with the same setup."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from appliance.engine.messages import DIGEST_BYTES, Setup
from appliance.engine.question import Sampling
from appliance.engine.worker.backend import BatchItem, DecodeStatus, Sampler
from appliance.engine.worker.llama import memory, samplers
from appliance.engine.worker.llama.adapters import Adapters
from appliance.engine.worker.llama.context import Context, ContextShape
from appliance.engine.worker.llama.model import LoadedModel


class LlamaLane:
    """Not unified, one id, as many threads for one token as for many. Owner: the step thread."""

    def __init__(self, model: LoadedModel, setup: Setup, adapters: Adapters, adapter: str) -> None:
        memory.check_context(
            n_ctx=setup.n_ctx,
            cell_bytes=model.cell_bytes,
            buffer_bytes=(setup.n_batch * model.width * 16 + model.n_vocab) * 4,
        )
        self._n_vocab = model.n_vocab
        self._context = Context(
            model,
            ContextShape(
                n_ctx=setup.n_ctx,
                n_seq_max=1,
                n_batch=setup.n_batch,
                n_outputs_max=1,
                n_threads=setup.n_threads,
                n_threads_batch=setup.n_threads,
                kv_unified=False,
                flash_attn=setup.flash_attn,
            ),
        )
        adapters.lay(self._context.pointer, adapter)

    def decode(self, batch: Sequence[BatchItem]) -> DecodeStatus:
        return self._context.decode(batch)

    def new_sampler(self, sampling: Sampling) -> Sampler:
        return samplers.new_sampler(self._context, self._n_vocab, sampling)

    def digest(self, row: int) -> bytes:
        """Of one row's logits as the library computed them, bit by bit."""
        return hashlib.sha256(self._context.logits(row).tobytes()).digest()[:DIGEST_BYTES]

    def remove(self, seq_id: int) -> None:
        self._context.remove(seq_id)

    def close(self) -> None:
        self._context.close()
