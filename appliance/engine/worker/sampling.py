"""Which sampler a request needs. Pure.

`top_k` 0 means "no limit of its own": the chain then takes the 1000 likeliest tokens. Sorting a whole
vocabulary for top_p costs milliseconds per token; below rank 1000 there is no mass that matters.
"""

from __future__ import annotations

from appliance.engine.messages import Sampling

DEFAULT_TOP_K = 1000


def wants_penalties(sampling: Sampling) -> bool:
    """Whether any penalty differs from its neutral value."""
    return (
        sampling.repeat_penalty != 1.0
        or sampling.presence_penalty != 0.0
        or sampling.frequency_penalty != 0.0
    )


def is_greedy(sampling: Sampling) -> bool:
    """Temperature 0 and nothing that changes the order: argmax decides."""
    return sampling.temperature <= 0 and not wants_penalties(sampling)
