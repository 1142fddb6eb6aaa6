"""How many tokens a step may hold, so that it stays near its target time. Pure.

While somebody's answer is being written, a long prompt beside it must not stop it for seconds: the
budget shrinks until a step takes about `target_us`. With nobody writing there is nobody to disturb,
and prompts are read in the largest batches.
"""

from __future__ import annotations

MIN_PREFILL_TOKENS = 16
_WEIGHT = 0.2  # of the newest step in the running mean


class StepBudget:
    """Learns what a token costs on this machine. Owner: the step thread."""

    def __init__(self, *, target_us: int, max_tokens: int) -> None:
        self._target_us = target_us
        self._max_tokens = max_tokens
        self._us_per_token = 0.0

    def tokens(self, *, num_decoding: int) -> int:
        """The next step's budget, decoding tokens included."""
        if num_decoding == 0 or self._us_per_token == 0:
            return self._max_tokens
        affordable = int(self._target_us / self._us_per_token)
        return min(self._max_tokens, max(affordable, num_decoding + MIN_PREFILL_TOKENS))

    def observe(self, *, num_tokens: int, num_prefill: int, took_us: int) -> None:
        """A step's cost. Steps without prompt tokens say nothing about prompts."""
        if num_prefill < MIN_PREFILL_TOKENS or took_us <= 0:
            return
        cost = took_us / num_tokens
        mean = self._us_per_token
        self._us_per_token = cost if mean == 0 else mean + _WEIGHT * (cost - mean)
