"""`LlamaBackend`: the port of the engine's core, over one loaded model and its contexts."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from appliance.clock import SystemClock
from appliance.engine.messages import LoadModel, Setup, Trial
from appliance.engine.question import Sampling
from appliance.engine.worker.backend import BatchItem, DecodeStatus, Lane, Logits, Model, Pool, Sampler
from appliance.engine.worker.embedder import EmbeddingShape
from appliance.engine.worker.llama import library, memory, tune
from appliance.engine.worker.llama.adapters import Adapters
from appliance.engine.worker.llama.alone import LlamaLane
from appliance.engine.worker.llama.context import ContextShape
from appliance.engine.worker.llama.embedding import EmbeddingContext, EmbeddingLimits, pooling_of
from appliance.engine.worker.llama.library import LoadError
from appliance.engine.worker.llama.model import LoadedModel, files_of
from appliance.engine.worker.llama.placing import place
from appliance.engine.worker.llama.pool import LlamaPool
from appliance.engine.worker.llama.words import Words
from appliance.fitting.wanted import MAX_DRAFTS, REPRODUCIBLE_CHUNK, divide


class LlamaBackend(Words):
    """One model and its main context, unified, so that sequences share cells; and the pool apart."""

    def __init__(self, load: LoadModel) -> None:
        if load.n_batch < load.n_seq_max + 1:
            raise LoadError("n_batch must be above n_seq_max")
        self._placing = place(
            load,
            library.init_library(
                device=load.device, n_gpu_layers=load.n_gpu_layers, cpu_variant=load.cpu_variant
            ),
        )
        self._computing, on_host = self._placing.computing, self._placing.on_host
        if on_host:
            memory.check_weights(files_of(load))
        loaded = LoadedModel(
            load.path,
            n_gpu_layers=self._placing.n_gpu_layers,
            parts=load.parts,
            tensor_split=self._placing.tensor_split,
        )
        super().__init__(loaded)
        if not loaded.is_causal:
            raise LoadError("this model embeds, and writes no answers: it is no model for chat")
        if not self._loaded.template:
            raise LoadError("the model's file has no chat template")
        outputs = load.n_seq_max + MAX_DRAFTS
        cells = (load.n_ctx, 0)
        if self._may_part(load):
            cells = divide(load.n_ctx, self._loaded.n_ctx_train)
        if on_host:
            memory.check_context(
                n_ctx=load.n_ctx,
                cell_bytes=self._loaded.cell_bytes,
                buffer_bytes=(load.n_batch * self._loaded.width * 16 + outputs * self._loaded.n_vocab)
                * (8 if cells[1] else 4),  # floats, of each context
            )
        self.trials: tuple[Trial, ...] = ()
        if load.tuning is not None and load.tuning.backend in {"", self._computing.label}:
            self.tuning = load.tuning
        else:
            tuning, self.trials = tune.measure(
                self._loaded,
                len(os.sched_getaffinity(0)),
                n_ctx=load.n_ctx,
                on_host=on_host,
                thorough=load.thorough,
                n_threads=load.n_threads,
                n_threads_batch=load.n_threads_batch,
            )
            self.tuning = msgspec.structs.replace(tuning, backend=self._computing.label)
        n_ctx, n_ctx_apart = cells if self.tuning.apart else (load.n_ctx, 0)
        shape = ContextShape(
            n_ctx=n_ctx,
            n_seq_max=load.n_seq_max + 1,  # one to carry leaves to the host's memory
            n_batch=load.n_batch,
            n_outputs_max=outputs,
            n_threads=self.tuning.n_threads,
            n_threads_batch=self.tuning.n_threads_batch,
            kv_unified=True,
            flash_attn=self.tuning.flash_attn,
        )
        self._adapters = Adapters(loaded.pointer, load.parts or (load.path,), load.adapters)
        self._context = LlamaPool(loaded, shape, self._adapters)
        self.n_ctx = self._context.n_ctx
        self._apart = (
            LlamaPool(loaded, dataclasses.replace(shape, n_ctx=n_ctx_apart, flash_attn=True), self._adapters)
            if n_ctx_apart
            else None
        )
        self.apart: Pool | None = self._apart
        self._context.try_adapters(SystemClock())
        self.change_us = self._context.change_us
        if self._apart is not None:
            self._apart.change_us = self.change_us
        self._limits = EmbeddingLimits(
            max_tokens=min(load.embedding_n_ctx, self._loaded.n_ctx_train),
            n_batch=load.embedding_n_batch,
            n_threads=self.tuning.n_threads,
            n_threads_batch=self.tuning.n_threads_batch,
            # Without it a vector does not depend on where its input was split, or on its neighbours.
            flash_attn=not on_host,
            has_cache=self._context.has_memory,
        )
        self.model = self._describe()
        self.setup = Setup(
            n_ctx=self.model.max_tokens,
            n_batch=REPRODUCIBLE_CHUNK,
            n_threads=self.tuning.n_threads_batch,
            flash_attn=False,  # its kernels change with the number of tokens and of threads
        )

    def decode(self, batch: Sequence[BatchItem]) -> DecodeStatus:
        return self._context.decode(batch)

    def logits(self, row: int) -> Logits:
        return self._context.logits(row)

    def new_sampler(self, sampling: Sampling) -> Sampler:
        return self._context.new_sampler(sampling)

    def use(self, adapter: str) -> None:
        self._context.use(adapter)

    def open_lane(self, setup: Setup, adapter: str) -> Lane:
        return LlamaLane(self._loaded, setup, self._adapters, adapter)

    def copy(self, source: int, target: int, length: int) -> None:
        self._context.copy(source, target, length)

    def remove(self, seq_id: int, begin: int = 0) -> None:
        self._context.remove(seq_id, begin)

    def save(self, seq_id: int) -> npt.NDArray[np.uint8]:
        return self._context.save(seq_id)

    def restore(self, seq_id: int, data: npt.NDArray[np.uint8]) -> bool:
        return self._context.restore(seq_id, data)

    def new_embedder(self) -> EmbeddingContext:
        """The caller closes it, and before this backend."""
        return EmbeddingContext(self._loaded, self.model.embedding.pooling, self._limits)

    def close(self) -> None:
        self._context.close()
        if self._apart is not None:
            self._apart.close()
        self._loaded.close()

    def _may_part(self, load: LoadModel) -> bool:
        """Whether there may be a pool apart: not where nothing is shared anyway."""
        wanted = load.tuning is None or load.tuning.apart
        return wanted and load.prefix_cache_cells > 0 and self._loaded.can_share_prefixes

    def _describe(self) -> Model:
        loaded, context = self._loaded, self._context
        bos, eos = library.special_tokens(loaded.vocab)
        return Model(
            n_ctx=context.n_ctx + (self.apart.n_ctx if self.apart else 0),
            n_ctx_train=loaded.n_ctx_train,
            n_seq_max=context.n_seq_max - 1,
            n_batch=context.n_batch,
            n_vocab=loaded.n_vocab,
            n_params=loaded.n_params,
            description=loaded.description,
            backend=self._computing.label,
            on_gpu=not self._placing.on_host,
            fallback=self._computing.fallback,
            fallback_says=self._computing.fallback_says,
            library=library.version(),
            template=loaded.template,
            bos_text=loaded.text_of(bos),
            eos_text=loaded.text_of(eos),
            adds_bos=library.adds_bos(loaded.vocab),
            can_share_prefixes=loaded.can_share_prefixes,
            max_drafts=MAX_DRAFTS,
            cell_bytes=loaded.cell_bytes,
            embedding=EmbeddingShape(
                n_embd=loaded.n_embd,
                max_tokens=self._limits.max_tokens,
                pooling=pooling_of(context.pointer),
                rerank=loaded.rerank,
            ),
            adapters=self._adapters.ids,
            memories=self._placing.memories,
            n_gpu_layers=max(0, self._placing.n_gpu_layers),
            buffers=(
                *loaded.buffers,
                *self._context.buffers,
                *(self._apart.buffers if self._apart is not None else ()),
            ),
        )
