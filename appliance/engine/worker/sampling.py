"""Which sampler a request needs. Pure.

`top_k` 0 means "no limit of its own": the chain then takes the 1000 likeliest tokens. Sorting a whole
vocabulary for top_p costs milliseconds per token; below rank 1000 there is no mass that matters.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from appliance.engine.question import Sampling

DEFAULT_TOP_K = 1000


def wants_penalties(sampling: Sampling) -> bool:
    """Whether any penalty differs from its neutral value."""
    return (
        sampling.repeat_penalty != 1.0
        or sampling.presence_penalty != 0.0
        or sampling.frequency_penalty != 0.0
    )


def is_greedy(sampling: Sampling) -> bool:
    """Temperature 0 and no penalties: argmax decides, of logits with what `logit_bias` adds."""
    return sampling.temperature <= 0 and not wants_penalties(sampling)


class Bias:
    """What `logit_bias` adds to the logits of single tokens. Falsy where that is nothing.

    Every value is finite, so no set of tokens that a grammar allows is ever emptied by it.
    """

    def __init__(self, logit_bias: tuple[tuple[int, float], ...]) -> None:
        self.tokens = np.array([token for token, _ in logit_bias], np.int32)
        self.values = np.array([value for _, value in logit_bias], np.float32)

    def __bool__(self) -> bool:
        return len(self.tokens) > 0

    def added_to(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """A biased copy; the logits themselves where there is nothing to add."""
        if not self:
            return logits
        biased = logits.copy()
        np.add.at(biased, self.tokens, self.values)  # a token that is named twice gets both
        return biased
