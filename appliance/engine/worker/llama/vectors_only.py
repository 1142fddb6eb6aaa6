"""`VectorBackend`: a model that only embeds or ranks. It has no pool, and no tuning to measure."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from appliance.engine.messages import LoadModel, Setup, Trial, Tuning
from appliance.engine.question import Sampling
from appliance.engine.worker.backend import BatchItem, DecodeStatus, Lane, Model, Pool, Sampler
from appliance.engine.worker.embedder import EmbeddingShape, Pooling
from appliance.engine.worker.llama import library, memory
from appliance.engine.worker.llama.context import Context, ContextShape
from appliance.engine.worker.llama.embedding import EmbeddingContext, EmbeddingLimits, pooling_of
from appliance.engine.worker.llama.library import LoadError
from appliance.engine.worker.llama.model import LoadedModel, files_of
from appliance.engine.worker.llama.placing import place
from appliance.engine.worker.llama.words import Words

_PROBE_CELLS = 256  # the least that the library gives


class VectorBackend(Words):
    """Weights and vocabulary, without cells for answers. What decodes is a bug of ours: RuntimeError."""

    apart: Pool | None = None
    trials: tuple[Trial, ...] = ()
    n_ctx = 0
    change_us = 0

    def __init__(self, load: LoadModel) -> None:
        if load.adapters:
            raise LoadError("adapters are laid over models for chat only")
        placing = place(
            load,
            library.init_library(
                device=load.device, n_gpu_layers=load.n_gpu_layers, cpu_variant=load.cpu_variant
            ),
        )
        computing, on_host = placing.computing, placing.on_host
        if on_host:
            memory.check_weights(files_of(load))
        loaded = LoadedModel(
            load.path,
            n_gpu_layers=placing.n_gpu_layers,
            parts=load.parts,
            tensor_split=placing.tensor_split,
        )
        super().__init__(loaded)
        cores = len(os.sched_getaffinity(0))
        self.tuning = Tuning(
            flash_attn=False,
            n_threads=load.n_threads or max(1, cores // 2),
            n_threads_batch=load.n_threads_batch or cores,
        )
        self.setup = Setup(n_ctx=0, n_batch=0, n_threads=self.tuning.n_threads, flash_attn=False)
        pooling, has_cache = _probed(loaded)
        if load.purpose == "embedding" and pooling == "rank":
            raise LoadError("this model ranks documents, and has no embeddings: it is no model for embedding")
        self._limits = EmbeddingLimits(
            max_tokens=min(load.embedding_n_ctx, loaded.n_ctx_train),
            n_batch=load.embedding_n_batch,
            n_threads=self.tuning.n_threads,
            n_threads_batch=self.tuning.n_threads_batch,
            flash_attn=not on_host,
            has_cache=has_cache,
        )
        bos, eos = library.special_tokens(loaded.vocab)
        self.model = Model(
            n_ctx=0,
            n_ctx_train=loaded.n_ctx_train,
            n_seq_max=load.n_seq_max,
            n_batch=load.n_batch,
            n_vocab=loaded.n_vocab,
            n_params=loaded.n_params,
            description=loaded.description,
            backend=computing.label,
            on_gpu=not on_host,
            fallback=computing.fallback,
            fallback_says=computing.fallback_says,
            library=library.version(),
            template=loaded.template,
            bos_text=loaded.text_of(bos),
            eos_text=loaded.text_of(eos),
            adds_bos=library.adds_bos(loaded.vocab),
            can_share_prefixes=False,
            max_drafts=0,
            cell_bytes=loaded.cell_bytes,
            embedding=EmbeddingShape(
                n_embd=loaded.n_embd,
                max_tokens=self._limits.max_tokens,
                pooling=pooling,
                rerank=loaded.rerank,
            ),
            writes=False,
            buffers=loaded.buffers,
            memories=placing.memories,
            n_gpu_layers=max(0, placing.n_gpu_layers),
        )

    def new_embedder(self) -> EmbeddingContext:
        """The caller closes it, and before this backend."""
        return EmbeddingContext(self._loaded, self.model.embedding.pooling, self._limits)

    def close(self) -> None:
        self._loaded.close()

    def use(self, adapter: str) -> None:
        if adapter:
            raise _unasked(adapter)

    def decode(self, batch: Sequence[BatchItem]) -> DecodeStatus:
        raise _unasked(batch)

    def new_sampler(self, sampling: Sampling) -> Sampler:
        raise _unasked(sampling)

    def open_lane(self, setup: Setup, adapter: str) -> Lane:
        raise _unasked(setup, adapter)

    def copy(self, source: int, target: int, length: int) -> None:
        raise _unasked(source, target, length)

    def remove(self, seq_id: int, begin: int = 0) -> None:
        raise _unasked(seq_id, begin)

    def save(self, seq_id: int) -> npt.NDArray[np.uint8]:
        raise _unasked(seq_id)

    def restore(self, seq_id: int, data: npt.NDArray[np.uint8]) -> bool:
        raise _unasked(seq_id, data)


def _probed(loaded: LoadedModel) -> tuple[Pooling, bool]:
    """How the model pools, and whether the library keeps anything of it: a context tells."""
    shape = ContextShape(
        n_ctx=_PROBE_CELLS,
        n_seq_max=1,
        n_batch=8,
        n_outputs_max=1,
        n_threads=1,
        n_threads_batch=1,
        kv_unified=False,
        flash_attn=False,
    )
    context = Context(loaded, shape)
    try:
        return pooling_of(context.pointer), context.has_memory
    finally:
        context.close()


def _unasked(*_asked: object) -> RuntimeError:
    return RuntimeError("a model that only embeds was asked for an answer")
