"""One answer being written: from rows of logits to text, within its schema, its stops and its limit."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from appliance.engine.messages import Logprob
from appliance.engine.worker.backend import Backend, Sampler
from appliance.engine.worker.detokenizer import Detokenizer
from appliance.engine.worker.logprobs import weigh
from appliance.engine.worker.prefix_cache import Tokens
from appliance.engine.worker.sequence import Sequence
from appliance.engine.worker.speculation import Acceptance

Reason = Literal["stop", "length"]
SCHEMA_TOO_COMPLEX = "schema_too_complex"  # code of an answer that ended in GrammarExhausted


@dataclass(frozen=True, slots=True)
class Said:
    """What one step added to an answer. `reason` is set where it is the last of it."""

    text: str = field(repr=False)
    num_tokens: int
    reason: Reason | None = None
    logprobs: tuple[Logprob, ...] = field(default=(), repr=False)  # one for each token, where wanted


class Writer:
    """Sampler, schema and detokenizer of one sequence. Owner: the engine's core."""

    def __init__(self, backend: Backend, sequence: Sequence, sampler: Sampler) -> None:
        self._backend = backend
        self._sequence = sequence
        self._sampler = sampler
        self._detokenizer = Detokenizer(sequence.sampling.stop)
        self._weighed: list[Logprob] = []  # of what was chosen last, where wanted
        self.acceptance = Acceptance()
        self._history = np.empty(sequence.num_tokens + 256, np.int32)
        self._num_history = 0
        self._remember([*sequence.prompt, *sequence.output])

    @property
    def history(self) -> Tokens:
        """Prompt and answer so far."""
        return self._history[: self._num_history]

    def choose(self, row: int, draft: Items[int]) -> list[int]:
        """The tokens that this step gives: guesses that came true, and one behind them.

        `row` is the sequence's first row of the batch, the draft's rows follow it. GrammarExhausted
        where the schema lets nothing follow: this answer has failed, and no other one.
        """
        chosen: list[int] = []
        num_top = self._sequence.sampling.top_logprobs
        self._weighed.clear()
        for offset in range(len(draft) + 1):
            token = self._sample(row + offset)
            chosen.append(token)
            if num_top is not None and not self._backend.is_end(token):
                logits = self._sampler.logits(row + offset)
                self._weighed.append(weigh(logits, token, num_top, self._backend.spell))
            if offset == len(draft) or token != draft[offset]:
                break
            if self._is_complete or self._backend.is_end(token):
                break
        return chosen

    def say(self, tokens: Items[int]) -> Said:
        """Add what `choose` gave to the answer, up to its end."""
        sequence = self._sequence
        text: list[str] = []
        num_tokens = 0
        reason: Reason | None = None
        last = len(tokens) - 1
        for at, token in enumerate(tokens):
            if self._backend.is_end(token):
                reason = "stop"
                break
            sequence.output.append(token)
            self._remember([token])
            num_tokens += 1
            spell = self._backend.spell if token in sequence.spelt else self._backend.piece
            text.append(self._detokenizer.add(spell(token)))
            if self._detokenizer.is_stopped or (at == last and self._is_complete):
                reason = "stop"
                break
            if len(sequence.output) >= sequence.max_tokens:
                reason = "length"
                break
        if reason is not None:
            text.append(self._detokenizer.finish())
            sequence.stop = self._detokenizer.met
        return Said("".join(text), num_tokens, reason, tuple(self._weighed[:num_tokens]))

    def close(self) -> None:
        self._sampler.close()

    @property
    def _is_complete(self) -> bool:
        grammar = self._sequence.grammar
        return grammar is not None and grammar.is_complete

    def _sample(self, row: int) -> int:
        grammar = self._sequence.grammar
        if grammar is None:
            return self._sampler.sample(row)
        token = self._sampler.choose(row, None)
        if not grammar.allows(token):
            token = self._sampler.choose(row, grammar.mask())
        self._sampler.accept(token)
        grammar.accept(token)
        return token

    def _remember(self, tokens: Items[int]) -> None:
        end = self._num_history + len(tokens)
        if end > len(self._history):
            self._history = np.resize(self._history, max(end, 2 * len(self._history)))
        self._history[self._num_history : end] = tokens
        self._num_history = end
