"""A pool besides the main one: a unified context that also makes samplers. Owner: the step thread."""

from __future__ import annotations

from appliance.engine.messages import Sampling
from appliance.engine.worker.backend import Sampler
from appliance.engine.worker.llama import samplers
from appliance.engine.worker.llama.context import Context, ContextShape
from appliance.engine.worker.llama.model import LoadedModel


class LlamaPool(Context):
    """`Pool`, as the core knows it."""

    def __init__(self, model: LoadedModel, shape: ContextShape) -> None:
        super().__init__(model, shape)
        self._num_tokens = model.n_vocab

    def new_sampler(self, sampling: Sampling) -> Sampler:
        return samplers.new_sampler(self, self._num_tokens, sampling)
