"""Guessing tokens ahead, where it pays: which guesses, and how many of them. Pure.

A guess costs nothing but its place in the next step: the model computes it beside the token before it,
and what is sampled there confirms it or not. So answers are the same with and without. Guesses come
from the sequence itself (a kiosk's answer repeats its system prompt word by word: prompt lookup) and
from what the same tenant was answered when it asked exactly the same before.
"""

from __future__ import annotations

import hashlib

import numpy as np

from appliance.engine.worker.budget import StepCost
from appliance.engine.worker.prefix_cache import Tokens
from appliance.engine.worker.sequence import Owner, Sequence

MAX_ANSWERS = 512
MIN_REMEMBERED, MAX_REMEMBERED = 4, 2048  # tokens of an answer
MAX_DRAFT = 8  # guesses for one sequence in one step
MIN_GAIN = 1.05  # below it the estimate is noise
_NGRAMS = (4, 3, 2)  # how many last tokens must have stood somewhere before, the most telling first
_WEIGHT = 0.25  # of the newest result in the running acceptance
_HOPE = 0.7  # acceptance before anything is known
_HOPE_OF_REPEATS = 0.97  # where the same question was asked before
_RETRY = 0.02  # what acceptance regains with each step without a guess


class AnswerMemory:
    """What a tenant was answered to exactly the same prompt: the best guess when it asks again, under
    the same adapter.

    Token ids only, the latest first to stay; prompts are remembered by their digest. Owner: the core.
    """

    def __init__(self) -> None:
        self._answers: dict[tuple[Owner, bytes], Tokens] = {}

    def remember(self, sequence: Sequence) -> None:
        """An answer that has come to its own end."""
        if not MIN_REMEMBERED <= len(sequence.output) <= MAX_REMEMBERED:
            return
        key = self._key(sequence)
        self._answers.pop(key, None)
        self._answers[key] = np.array(sequence.output, np.int32)
        if len(self._answers) > MAX_ANSWERS:
            del self._answers[next(iter(self._answers))]

    def recall(self, sequence: Sequence) -> Tokens | None:
        """What was answered before; None where nothing was."""
        return self._answers.get(self._key(sequence))

    @staticmethod
    def _key(sequence: Sequence) -> tuple[Owner, bytes]:
        return sequence.owner, hashlib.sha256(sequence.prompt_array.tobytes()).digest()


class Acceptance:
    """How many guesses of one request came true, by where they came from. Owner: the step thread."""

    def __init__(self) -> None:
        self._looked_up = _HOPE
        self._repeated = _HOPE_OF_REPEATS

    def rate(self, *, from_reference: bool) -> float:
        """The share of guesses that come true, each on top of those before it."""
        return self._repeated if from_reference else self._looked_up

    def observe(self, num_guessed: int, num_right: int, *, from_reference: bool) -> None:
        """The result of one step. A wrong guess spoils those behind it: they say nothing."""
        result = num_right / min(num_guessed, num_right + 1)
        if from_reference:
            self._repeated += _WEIGHT * (result - self._repeated)
        else:
            self._looked_up += _WEIGHT * (result - self._looked_up)

    def rest(self) -> None:
        """A step without guesses: texts change, and so may their luck."""
        self._looked_up = min(_HOPE, self._looked_up + _RETRY)


def draft_length(cost: StepCost, num_decoding: int, rate: float) -> int:
    """How many guesses for one sequence make the whole room quicker; 0 where none do.

    With `n` sequences a step gives n tokens; with k guesses of acceptance p it gives
    p + p² + … + pᵏ more, and takes longer by k tokens.
    """
    if not cost.is_known:
        return 1  # learn what a token more costs
    best, best_gain = 0, MIN_GAIN
    without_us = cost.step_us(num_decoding)
    more = 0.0
    for length in range(1, MAX_DRAFT + 1):
        more += rate**length
        slower = (without_us + cost.each_us * length) / without_us
        gain = (num_decoding + more) / num_decoding / slower
        if gain > best_gain:
            best, best_gain = length, gain
    return best


def propose(sequence: Sequence, history: Tokens, most: int) -> list[int]:
    """At most `most` guesses at what follows. `history` is the sequence's prompt and answer."""
    most = min(most, sequence.max_tokens - len(sequence.output) - 1)
    if most <= 0:
        return []
    written = len(sequence.output)
    reference = sequence.reference
    if reference is not None and len(reference) > written:
        if np.array_equal(reference[:written], history[sequence.num_prompt :]):
            return [int(token) for token in reference[written : written + most]]
        sequence.reference = None  # this answer goes another way
    return look_up(history, most)


def look_up(history: Tokens, most: int) -> list[int]:
    """What followed the last time that the last few tokens stood there."""
    for size in _NGRAMS:
        if len(history) <= size:
            continue
        tail = history[-size:]
        matches = np.ones(len(history) - size, np.bool_)
        for offset in range(size):
            matches &= history[offset : offset + len(matches)] == tail[offset]
        found = np.flatnonzero(matches)
        if len(found):
            begin = int(found[-1]) + size
            return [int(token) for token in history[begin : begin + most]]
    return []
