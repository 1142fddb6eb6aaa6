"""A clock that only the test moves."""

from __future__ import annotations


class ManualClock:
    """Implements `appliance.clock.Clock`; times in microseconds."""

    def __init__(self, now_us: int = 1_790_000_000_000_000) -> None:
        self.wall_us = now_us
        self.steady_us = 1_000_000

    def now_us(self) -> int:
        return self.wall_us

    def monotonic_us(self) -> int:
        return self.steady_us

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self.wall_us += int(seconds * 1_000_000)
        self.steady_us += int(seconds * 1_000_000)
