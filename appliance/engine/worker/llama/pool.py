"""A unified context that also makes samplers, under one adapter or another. Owner: the step thread."""

from __future__ import annotations

import numpy as np

from appliance.clock import Clock
from appliance.engine.question import Sampling
from appliance.engine.worker.backend import BatchItem, DecodeStatus, Sampler
from appliance.engine.worker.llama import samplers
from appliance.engine.worker.llama.adapters import Adapters
from appliance.engine.worker.llama.context import Context, ContextShape
from appliance.engine.worker.llama.library import LoadError
from appliance.engine.worker.llama.model import LoadedModel

_ROUNDS = 3


class LlamaPool(Context):
    """`Pool`, as the core knows it."""

    def __init__(self, model: LoadedModel, shape: ContextShape, adapters: Adapters) -> None:
        super().__init__(model, shape)
        self._num_tokens = model.n_vocab
        self._adapters = adapters
        self.change_us = 0

    def new_sampler(self, sampling: Sampling) -> Sampler:
        return samplers.new_sampler(self, self._num_tokens, sampling)

    def use(self, adapter: str) -> None:
        """The id of one that was loaded; empty: none."""
        self._adapters.lay(self.pointer, adapter)

    def try_adapters(self, clock: Clock) -> None:
        """Compute under each: what can not be computed shows here, and not in somebody's answer. What a
        change costs is seen by the way, the least of some, since others compute on this machine.
        """
        times: list[list[int]] = [[], []]
        for adapter in [*sorted(self._adapters.ids), ""] * _ROUNDS if self._adapters.ids else ():
            self.use(adapter)
            for position, found in enumerate(times):
                began_us = clock.monotonic_us()
                status = self.decode([BatchItem(0, position, 0, wants_logits=True)])
                if status is not DecodeStatus.OK or not np.isfinite(self.logits(0)).all():
                    raise LoadError(f"the adapter {adapter} computes no numbers with this model")
                found.append(clock.monotonic_us() - began_us)
            self.remove(0)
        if all(times):
            self.change_us = max(0, min(times[0]) - min(times[1]))
