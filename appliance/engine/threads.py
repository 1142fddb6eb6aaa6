"""How many threads a worker computes with. Pure.

Measured: with as many decode threads as cores a busy gateway beside them makes the barriers of the
library spin, and two streams become slower than one; prefill gains from every core.
"""

from __future__ import annotations


def decode_threads(configured: int, cores: int) -> int:
    """Threads for steps of a single token."""
    return configured or max(1, cores // 2)


def batch_threads(configured: int, cores: int) -> int:
    """Threads for every larger step."""
    return configured or max(1, cores)
