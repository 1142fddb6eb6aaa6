"""What steps cost on this machine, and how many tokens one may hold. Pure.

While answers are being written, a long prompt beside them must not stop them: a step takes at most
`target_us`, and at most so much longer than a step without prompts that a reader does not see it.
Measured: prompts read 8 tokens at a time are read at 0.97 of the speed of 64 at a time with plain
attention, at 0.77 with flash attention. With nobody writing there is nobody to disturb, and prompts are
read in the largest batches.

Where two pools take turns, whoever writes in one waits for the step of the other, too: both steps
together keep to the bound.
"""

from __future__ import annotations

from dataclasses import dataclass

MIN_PREFILL_TOKENS = 8
MAX_STRETCH = 2.0  # a step with prompts, against one without
FIRST_TOKENS = 64  # of the first prompt beside writers, before its price is known
_WEIGHT = 0.2  # of the newest step in the running mean
_DECAY = 0.98  # of older steps in the fitted line
_SMALL_STEP = 64  # tokens: larger steps run on other kernels


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
        if num_tokens > _SMALL_STEP or took_us <= 0:
            return
        self._n = self._n * _DECAY + 1
        self._x = self._x * _DECAY + num_tokens
        self._y = self._y * _DECAY + took_us
        self._xx = self._xx * _DECAY + num_tokens * num_tokens
        self._xy = self._xy * _DECAY + num_tokens * took_us


@dataclass(frozen=True, slots=True)
class Beside:
    """What the other pool does, whose step comes in turn with ours."""

    is_writing: bool = False
    writing_us: float = 0.0  # its step without prompts, while it writes
    is_reading: bool = False


NOBODY = Beside()


class StepBudget:
    """Learns what tokens cost on this machine. Owner: the step thread."""

    def __init__(self, *, target_us: int, max_tokens: int) -> None:
        self._target_us = target_us
        self._max_tokens = max_tokens
        self._us_per_token = 0.0  # of steps with prompts
        self._writing_us = 0.0  # of steps without

    @property
    def writing_us(self) -> float:
        """What a step without prompts takes; 0 while that is not known."""
        return self._writing_us

    def tokens(self, *, num_decoding: int, beside: Beside = NOBODY) -> int:
        """The next step's budget, decoding tokens included."""
        if num_decoding == 0 and not beside.is_writing:
            return self._max_tokens
        if self._us_per_token == 0:
            return self._max_tokens if num_decoding else min(self._max_tokens, FIRST_TOKENS)
        own_us = self._writing_us if num_decoding else 0.0
        writing_us = own_us + beside.writing_us
        target_us = float(self._target_us)
        if writing_us:
            target_us = min(target_us, MAX_STRETCH * writing_us)
        # What prompts may add to a turn of both pools; each has half of it while both have prompts.
        more_us = (target_us - writing_us) / (2 if beside.is_reading else 1)
        affordable = int((own_us + more_us) / self._us_per_token)
        return min(self._max_tokens, max(affordable, num_decoding + MIN_PREFILL_TOKENS))

    def observe(self, *, num_tokens: int, num_prefill: int, took_us: int) -> None:
        """A step's cost. Steps with a few prompt tokens say nothing about either kind."""
        if took_us <= 0:
            return
        if num_prefill == 0:
            self._writing_us = _mean(self._writing_us, took_us)
        elif num_prefill >= MIN_PREFILL_TOKENS:
            self._us_per_token = _mean(self._us_per_token, took_us / num_tokens)


def _mean(mean: float, value: float) -> float:
    return value if mean == 0 else mean + _WEIGHT * (value - mean)
