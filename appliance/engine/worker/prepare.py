"""A question becomes a sequence: rendered, tokenised, measured against the context, its schema compiled.

`read` is of the intake thread, `finish` of the one that compiles, while the step thread computes.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from itertools import takewhile

from appliance.engine.messages import Generate, Rejected
from appliance.engine.question import Tools, Turn
from appliance.engine.worker import grammar
from appliance.engine.worker.backend import Backend
from appliance.engine.worker.constraints import Constraints, UnsupportedError
from appliance.engine.worker.grammar import GrammarError, Grammars, Source
from appliance.engine.worker.prompt import Prompt, PromptBuilder, PromptError
from appliance.engine.worker.sequence import Sequence
from appliance.engine.worker.trial import Pipes

_SYSTEM_ROLES = {"system", "developer"}


class _Wrong(Exception):
    """The caller's fault, as Rejected says it."""

    def __init__(self, code: str, message: str, param: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


@dataclass(frozen=True, slots=True)
class Read:
    """A sequence whose grammar is still to be compiled from `source`; `param` is what the caller sent."""

    sequence: Sequence
    source: Source
    param: str


class Preparer:
    """Template, tokenizer and schemas of one model.

    With `pipes` grammars are compiled in a process of their own first.
    """

    def __init__(self, builder: PromptBuilder, backend: Backend, pipes: Pipes | None = None) -> None:
        self._builder = builder
        self._backend = backend
        self._grammars = Grammars(backend, pipes)
        self._constraints = Constraints(backend, builder.speech)

    def rehearse(self) -> None:
        """Whatever opens a file at its first use does so now: a sealed worker can open none."""
        with contextlib.suppress(PromptError):  # a template may want more than one turn
            self._builder.prompt((Turn("user", "?"),))
        grammar.rehearse()

    def prepare(self, message: Generate) -> Sequence | Rejected:
        """A sequence that fits, or why there can be none. In one go, for those who can wait."""
        read = self.read(message)
        return self.finish(read) if isinstance(read, Read) else read

    def read(self, message: Generate) -> Sequence | Read | Rejected:
        """The same, but for a grammar that was not compiled before."""
        try:
            sequence = self._sequence(message)
            source = self._constraints.source(message, begins_thinking=sequence.begins_thinking)
        except _Wrong as error:
            return Rejected(message.request_id, error.code, error.message, error.param)
        except UnsupportedError as error:
            return Rejected(message.request_id, "unsupported_schema", error.message, error.param)
        if source is None:
            return sequence
        sequence.grammar = self._grammars.find(source, tenant=sequence.tenant)
        if sequence.grammar is not None:
            return sequence
        return Read(sequence, source, self._constraints.place(message))

    def finish(self, read: Read) -> Sequence | Rejected:
        """With its grammar, or why it can have none."""
        sequence = read.sequence
        try:
            sequence.grammar = self._grammars.compile(read.source, tenant=sequence.tenant)
        except GrammarError as error:
            return Rejected(
                sequence.request_id,
                "unsupported_schema",
                f"the schema can not be kept to: {error}",
                read.param,
            )
        return sequence

    def _sequence(self, message: Generate) -> Sequence:
        self._check_model(message.adapter)
        self._check_bias(message.sampling.logit_bias)
        rendered = self._prompt(message)
        prompt = rendered.tokens
        is_chat = message.prompt is None
        limit = self._backend.model.max_tokens
        if not prompt or len(prompt) >= limit:
            raise _Wrong(
                "context_length_exceeded",
                # Clients know this refusal by its first words.
                f"this model's maximum context length is {limit} tokens, its answer among them; "
                f"the {'messages make' if is_chat else 'prompt makes'} {len(prompt)}",
                "messages" if is_chat else "prompt",
            )
        room = limit - len(prompt)
        wanted = message.sampling.max_tokens
        return Sequence(
            request_id=message.request_id,
            prompt=prompt,
            max_tokens=room if wanted is None else min(room, wanted),
            sampling=message.sampling,
            tenant=message.tenant,
            spelt=self._constraints.spelt(calls=message.tools is not None) if is_chat else frozenset(),
            begins_thinking=rendered.begins_thinking,
            setup=message.setup,
            adapter=message.adapter,
            num_system=_num_system(message.messages, message.tools, len(prompt)),
        )

    def _prompt(self, message: Generate) -> Prompt:
        if message.prompt is None:
            try:
                return self._builder.prompt(message.messages, message.tools, message.effort)
            except PromptError as error:
                raise _Wrong(error.code, error.message, error.param) from error
        if isinstance(message.prompt, str):
            # Control tokens' texts stay text: what a caller pastes in opens nobody's turn.
            adds_bos = self._backend.model.adds_bos
            prompt = self._backend.tokenize(message.prompt, parse_special=False, add_bos=adds_bos)
        else:
            prompt = list(message.prompt)
            self._check_tokens(prompt, "prompt")
        # Nothing at all is gone on from the token that begins a text, where there is one.
        prompt = prompt or self._backend.tokenize("", parse_special=False, add_bos=True)
        if not prompt:
            raise _Wrong("invalid_value", "an empty prompt can not be gone on from by this model", "prompt")
        return Prompt(prompt)

    def _check_model(self, adapter: str) -> None:
        model = self._backend.model
        if not model.writes:
            raise _Wrong("unsupported_model", "this model writes no answers: it embeds or ranks", "model")
        if adapter and adapter not in model.adapters:
            raise _Wrong("adapter_not_loaded", "the model was loaded without this adapter", "model")

    def _check_bias(self, logit_bias: tuple[tuple[int, float], ...]) -> None:
        self._check_tokens([token for token, _ in logit_bias], "logit_bias")
        if not all(math.isfinite(value) for _, value in logit_bias):
            raise _Wrong("invalid_value", "a bias must be a finite number", "logit_bias")

    def _check_tokens(self, tokens: list[int], param: str) -> None:
        """Computing a token that does not exist would end the process."""
        if any(not 0 <= each < self._backend.model.n_vocab for each in tokens):
            raise _Wrong("invalid_value", "there is no such token in this model's vocabulary", param)


def _num_system(turns: tuple[Turn, ...], tools: Tools | None, num_prompt: int) -> int:
    """Tokens of system message and tools, by their share of the characters: a few of them change nothing."""
    sizes = [len(each.content) for each in turns]
    offered = sum(len(each.description) + len(each.parameters) for each in tools.tools) if tools else 0
    leading = len(list(takewhile(lambda each: each.role in _SYSTEM_ROLES, turns)))
    return num_prompt * (sum(sizes[:leading]) + offered) // max(1, sum(sizes) + offered)
