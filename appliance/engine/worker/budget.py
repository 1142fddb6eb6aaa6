"""What steps cost on this machine, and how many tokens one may hold. Pure.

While answers are being written, a long prompt beside them must not stop them: a step takes at most
`target_us`, and at most so much longer than a step without prompts that a reader does not see it. The
second bound falls where more people wait for their prompt than are reading: they count as much. With
nobody writing there is nobody to disturb, and prompts are read in the largest batches.

Measured, with flash attention: prompts read 8 tokens at a time are read at 0.68 of the speed of 64 at a
time, 56 at a time at 0.83, since from 64 tokens on the library takes another kernel. So small steps and
large ones have a price of their own. With plain attention their prices are the same.

Where two pools take turns, whoever writes in one waits for the step of the other, too: both steps
together keep to the bounds.
"""

from __future__ import annotations

from dataclasses import dataclass

MIN_PREFILL_TOKENS = 8
MAX_STRETCH = 2.4  # a step with prompts, against one without
FIRST_TOKENS = 64  # of the first prompt beside writers, before its price is known
LARGE_STEP = 64  # tokens: from here on steps run on other kernels
SLACK = 4 / 3  # so much over its bound a step may be that becomes a large one by it
_WEIGHT = 0.2  # of the newest step in the running mean
_DECAY = 0.98  # of older steps in the fitted line


class StepCost:
    """The line microseconds = fixed + each * tokens, fitted to small steps; old ones fade."""

    def __init__(self) -> None:
        self._n = self._x = self._y = self._xx = self._xy = 0.0

    @property
    def is_known(self) -> bool:
        """Whether steps of different sizes have been seen."""
        return self._n * self._xx - self._x * self._x > 1e-3 * self._n * self._n

    @property
    def each_us(self) -> float:
        """Of one more token; never below nothing."""
        slope = (self._n * self._xy - self._x * self._y) / (self._n * self._xx - self._x * self._x)
        return max(0.0, slope)

    def step_us(self, num_tokens: int) -> float:
        """A step of so many tokens."""
        mean_tokens, mean_us = self._x / self._n, self._y / self._n
        return max(1.0, mean_us + self.each_us * (num_tokens - mean_tokens))

    def observe(self, num_tokens: int, took_us: int) -> None:
        """One step."""
        if num_tokens > LARGE_STEP or took_us <= 0:
            return
        self._n = self._n * _DECAY + 1
        self._x = self._x * _DECAY + num_tokens
        self._y = self._y * _DECAY + took_us
        self._xx = self._xx * _DECAY + num_tokens * num_tokens
        self._xy = self._xy * _DECAY + num_tokens * took_us


@dataclass(frozen=True, slots=True)
class Crowd:
    """Who is in a pool."""

    num_writing: int = 0
    num_reading: int = 0  # whose prompts are read, or wait to be
    writing_us: float = 0.0  # a step without prompts; 0 where nobody writes, or while it is not known


NOBODY = Crowd()


class StepBudget:
    """Learns what tokens cost on this machine. Owner: the step thread."""

    def __init__(self, *, target_us: int, max_tokens: int) -> None:
        self._target_us = target_us
        self._max_tokens = max_tokens
        self._small_us = 0.0  # a token in small steps with prompts
        self._large_us = 0.0  # in large ones
        self._writing_us = 0.0  # a step without prompts

    def crowd(self, *, num_writing: int, num_reading: int) -> Crowd:
        """What the other pool must know of this one."""
        return Crowd(num_writing, num_reading, self._writing_us if num_writing else 0.0)

    def tokens(self, crowd: Crowd, beside: Crowd = NOBODY) -> int:
        """The next step's budget, decoding tokens included. `beside` is the other pool's crowd."""
        num_writing = crowd.num_writing + beside.num_writing
        if num_writing == 0:
            return self._max_tokens
        if not self._small_us and not self._large_us:
            return self._max_tokens if crowd.num_writing else min(self._max_tokens, FIRST_TOKENS)
        writing_us = crowd.writing_us + beside.writing_us
        turn_us = float(self._target_us)
        if writing_us and crowd.num_reading + beside.num_reading <= num_writing:
            turn_us = min(turn_us, MAX_STRETCH * writing_us)
        # What prompts may add to a turn of both pools; each has half of it while both have prompts.
        more_us = (turn_us - writing_us) / (2 if beside.num_reading else 1)
        affordable = self._affordable(crowd.writing_us + more_us)
        return min(self._max_tokens, max(affordable, crowd.num_writing + MIN_PREFILL_TOKENS))

    def _affordable(self, bound_us: float) -> int:
        small_us, large_us = self._small_us or self._large_us, self._large_us or self._small_us
        slack = SLACK if large_us < small_us else 1.0
        if slack * bound_us >= LARGE_STEP * large_us:
            return max(LARGE_STEP, int(bound_us / large_us))
        return min(LARGE_STEP - 1, int(bound_us / small_us))

    def observe(self, *, num_tokens: int, num_prefill: int, took_us: int) -> None:
        """A step's cost. Steps with a few prompt tokens say nothing about either kind."""
        if took_us <= 0:
            return
        if num_prefill == 0:
            self._writing_us = _mean(self._writing_us, took_us)
        elif num_prefill >= MIN_PREFILL_TOKENS and num_tokens < LARGE_STEP:
            self._small_us = _mean(self._small_us, took_us / num_tokens)
        elif num_tokens >= LARGE_STEP:
            self._large_us = _mean(self._large_us, took_us / num_tokens)


def _mean(mean: float, value: float) -> float:
    return value if mean == 0 else mean + _WEIGHT * (value - mean)
