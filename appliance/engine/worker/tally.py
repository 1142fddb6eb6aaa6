"""What a worker has done since it started: counts that only grow, for the gateway's metrics."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from appliance.engine.messages import STEP_BUCKETS_US


@dataclass(slots=True)
class Tally:
    """Owner: the step thread."""

    steps: int = 0
    step_us: int = 0
    step_buckets: list[int] = field(default_factory=lambda: [0] * (len(STEP_BUCKETS_US) + 1))
    prompt_tokens: int = 0  # computed, not taken from somebody else
    completion_tokens: int = 0
    cached_tokens: int = 0
    restored_tokens: int = 0  # of the cached ones, from the host's memory
    drafted_tokens: int = 0
    accepted_tokens: int = 0

    def step(self, took_us: int) -> None:
        """One step's whole time, sampling included."""
        self.steps += 1
        self.step_us += took_us
        self.step_buckets[bisect_left(STEP_BUCKETS_US, took_us)] += 1
