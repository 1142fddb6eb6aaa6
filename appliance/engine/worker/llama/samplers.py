"""From a row of logits to a token: argmax where nothing else is asked, else a chain of llama.cpp's."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as lib

from appliance.engine.question import Sampling
from appliance.engine.worker.backend import Logits, Sampler
from appliance.engine.worker.llama.context import Context
from appliance.engine.worker.sampling import DEFAULT_TOP_K, Bias, is_greedy, wants_penalties

_PENALTY_WINDOW = 256
_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])  # llama_token_data

Mask = npt.NDArray[np.bool_]


def new_sampler(context: Context, n_vocab: int, sampling: Sampling) -> Sampler:
    """The cheapest sampler that does what is asked."""
    if is_greedy(sampling):
        return Greedy(context, sampling)
    return Chain(context, n_vocab, sampling)


class Greedy:
    """Temperature 0 without penalties: the largest logit."""

    def __init__(self, context: Context, sampling: Sampling) -> None:
        self._context = context
        self._bias = Bias(sampling.logit_bias)

    def sample(self, row: int) -> int:
        return int(np.argmax(self._bias.added_to(self._context.logits(row))))

    def choose(self, row: int, allowed: Mask | None) -> int:
        logits = self._bias.added_to(self._context.logits(row))
        if allowed is not None:
            logits = np.where(allowed, logits, -np.inf)
        return int(np.argmax(logits))

    def logits(self, row: int) -> Logits:
        return self._context.logits(row)

    def accept(self, token: int) -> None:
        """Nothing depends on it."""

    def close(self) -> None:
        """Nothing to free."""


class Chain:
    """A llama.cpp sampler chain: biases first, penalties only where set, then top_k, which narrows."""

    def __init__(self, context: Context, n_vocab: int, sampling: Sampling) -> None:
        self._context = context
        self._n_vocab = n_vocab
        self._candidates: npt.NDArray[Any] | None = None
        self._chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        for sampler in self._samplers(n_vocab, sampling):
            lib.llama_sampler_chain_add(self._chain, sampler)

    @staticmethod
    def _samplers(n_vocab: int, sampling: Sampling) -> list[Any]:
        made = []
        if sampling.logit_bias:
            made.append(_bias(n_vocab, Bias(sampling.logit_bias)))
        if wants_penalties(sampling):
            made.append(
                lib.llama_sampler_init_penalties(
                    n_vocab,
                    _PENALTY_WINDOW,
                    sampling.repeat_penalty,
                    sampling.frequency_penalty,
                    sampling.presence_penalty,
                )
            )
        if sampling.temperature <= 0:
            return [*made, lib.llama_sampler_init_greedy()]
        made.append(lib.llama_sampler_init_top_k(sampling.top_k or min(DEFAULT_TOP_K, n_vocab)))
        if sampling.top_p < 1:
            made.append(lib.llama_sampler_init_top_p(sampling.top_p, 1))
        if sampling.min_p > 0:
            made.append(lib.llama_sampler_init_min_p(sampling.min_p, 1))
        made.append(lib.llama_sampler_init_temp(sampling.temperature))
        seed = sampling.seed if sampling.seed is not None else lib.LLAMA_DEFAULT_SEED
        return [*made, lib.llama_sampler_init_dist(seed)]

    def sample(self, row: int) -> int:
        """llama_sampler_sample: chooses, and accepts what it chose."""
        self._context.check_row(row)
        return int(lib.llama_sampler_sample(self._chain, self._context.pointer, row))

    def choose(self, row: int, allowed: Mask | None) -> int:
        """The chain over candidates of our own, so that what a grammar refuses is not accepted."""
        if self._candidates is None:
            self._candidates = np.zeros(self._n_vocab, _CANDIDATE)
            self._candidates["id"] = np.arange(self._n_vocab)
        logits = self._context.logits(row)
        if allowed is None:
            candidates = self._candidates.copy()
            candidates["logit"] = logits
        else:
            candidates = self._candidates[allowed]
            candidates["logit"] = logits[allowed]
        array = lib.llama_token_data_array(
            data=candidates.ctypes.data_as(ctypes.POINTER(lib.llama_token_data)),
            size=len(candidates),
            selected=-1,
            sorted=False,
        )
        lib.llama_sampler_apply(self._chain, ctypes.byref(array))
        if not 0 <= array.selected < array.size:
            raise RuntimeError("the sampler chain chose nothing")
        return int(array.data[array.selected].id)

    def logits(self, row: int) -> Logits:
        return self._context.logits(row)

    def accept(self, token: int) -> None:
        lib.llama_sampler_accept(self._chain, token)

    def close(self) -> None:
        lib.llama_sampler_free(self._chain)


def _bias(n_vocab: int, bias: Bias) -> Any:
    """llama_sampler_init_logit_bias; the library copies what it is given."""
    given = (lib.llama_logit_bias * len(bias.tokens))(
        *(
            lib.llama_logit_bias(int(token), float(value))
            for token, value in zip(bias.tokens, bias.values, strict=True)
        )
    )
    return lib.llama_sampler_init_logit_bias(n_vocab, len(bias.tokens), given)
