"""A question becomes a sequence: rendered, tokenised, measured against the context, its schema compiled.

On the intake thread, while the step thread computes.
"""

from __future__ import annotations

from itertools import takewhile

from appliance.engine.messages import Generate, Rejected, Turn
from appliance.engine.worker.backend import Backend
from appliance.engine.worker.grammar import GrammarError, Grammars
from appliance.engine.worker.prompt import PromptBuilder, PromptError
from appliance.engine.worker.sequence import Sequence

_SYSTEM_ROLES = {"system", "developer"}


class Preparer:
    """Template, tokenizer and schemas of one model. Owner: the intake thread."""

    def __init__(self, builder: PromptBuilder, backend: Backend) -> None:
        self._builder = builder
        self._backend = backend
        self._grammars = Grammars(backend)

    def prepare(self, message: Generate) -> Sequence | Rejected:
        """A sequence that fits, or why there can be none."""
        try:
            prompt = self._builder.build(message.messages)
        except PromptError as error:
            return Rejected(message.request_id, error.code, error.message, "messages")
        limit = self._backend.model.max_tokens
        if not prompt or len(prompt) >= limit:
            return Rejected(
                message.request_id,
                "context_length_exceeded",
                f"the messages make {len(prompt)} tokens; the model takes {limit} with its answer",
                "messages",
            )
        try:
            grammar = self._grammars.compile(message.schema) if message.schema else None
        except GrammarError as error:
            return Rejected(
                message.request_id,
                "unsupported_schema",
                f"the schema can not be kept to: {error}",
                "response_format.json_schema.schema",
            )
        room = limit - len(prompt)
        wanted = message.sampling.max_tokens
        return Sequence(
            request_id=message.request_id,
            prompt=prompt,
            max_tokens=room if wanted is None else min(room, wanted),
            sampling=message.sampling,
            tenant=message.tenant,
            grammar=grammar,
            setup=message.setup,
            num_system=_num_system(message.messages, len(prompt)),
        )


def _num_system(turns: tuple[Turn, ...], num_prompt: int) -> int:
    """Tokens of the system message, by its share of the characters: nothing depends on a few of them."""
    sizes = [len(each.content) for each in turns]
    leading = len(list(takewhile(lambda each: each.role in _SYSTEM_ROLES, turns)))
    return num_prompt * sum(sizes[:leading]) // max(1, sum(sizes))
