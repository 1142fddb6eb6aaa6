"""The desk: tasks are checked, answered at once where nothing has to be computed, else made a job.

It runs on the intake thread and touches only what any thread may: the tokenizer. Whatever would end
the process inside the library, or would not fit into a frame, is refused here.
"""

from __future__ import annotations

from collections.abc import Sequence

from appliance.engine.channel import MAX_FRAME_BYTES
from appliance.engine.messages import (
    Count,
    Counted,
    Detokenize,
    Detokenized,
    Embed,
    Rank,
    Rejected,
    TaskMessage,
    ToGateway,
    Tokenize,
    Tokenized,
)
from appliance.engine.question import Tools, Turn
from appliance.engine.worker import ranking
from appliance.engine.worker.backend import Backend
from appliance.engine.worker.embedding import Job
from appliance.engine.worker.prompt import PromptBuilder, PromptError

_ENVELOPE_BYTES = 4096  # of a frame, for everything but its vectors


class _Wrong(Exception):
    """The caller's fault."""

    def __init__(self, code: str, message: str, param: str | None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


class Desk:
    """Owner: the intake thread."""

    def __init__(self, backend: Backend, builder: PromptBuilder) -> None:
        self._backend = backend
        self._builder = builder
        self._model = backend.model
        self._shape = backend.model.embedding

    def take(self, message: TaskMessage) -> Job | ToGateway:
        """A job for the step thread, or the task's one answer."""
        try:
            match message:
                case Embed():
                    return self._embed(message)
                case Rank():
                    return self._rank(message)
                case Tokenize():
                    return self._tokenize(message)
                case Detokenize():
                    return self._detokenize(message)
                case Count():
                    tokens = self._prompt(message.messages, "input", message.tools, message.effort)
                    return Counted(message.request_id, len(tokens))
        except _Wrong as error:
            return Rejected(message.request_id, error.code, error.message, error.param)

    def _embed(self, message: Embed) -> Job:
        shape = self._shape
        if shape.pooling == "rank":
            raise _Wrong("unsupported_model", "this model ranks documents and has no embeddings", "model")
        if message.dimensions not in {None, shape.n_embd}:
            raise _Wrong(
                "unsupported_parameter",
                f"this model's embeddings have {shape.n_embd} dimensions and can not be cut",
                "dimensions",
            )
        if len(message.inputs) * shape.n_embd * 4 > MAX_FRAME_BYTES - _ENVELOPE_BYTES:
            raise _Wrong("invalid_value", "too many inputs for one answer of this model", "input")
        inputs = []
        for at, each in enumerate(message.inputs):
            tokens = self._whole(each) if isinstance(each, str) else self._known(each, f"input[{at}]")
            inputs.append(self._fitting(tokens, f"input[{at}]"))
        return Job(message.request_id, inputs)

    def _rank(self, message: Rank) -> Job:
        if self._shape.pooling == "rank":
            pairs = (
                ranking.pair(self._shape.rerank, message.query, document, self._plain)
                for document in message.documents
            )
            fitting = [self._fitting(each, f"documents[{at}]") for at, each in enumerate(pairs)]
            return Job(message.request_id, fitting, "rank")
        query = self._fitting(self._whole(message.query), "query")
        documents = [
            self._fitting(self._whole(each), f"documents[{at}]") for at, each in enumerate(message.documents)
        ]
        return Job(message.request_id, [query, *documents], "cosine")

    def _tokenize(self, message: Tokenize) -> Tokenized:
        if isinstance(message.source, str):
            tokens = self._backend.encode(
                message.source, add_special=message.add_special, parse_special=message.parse_special
            )
        else:
            tokens = self._prompt(message.source, "messages")
        return Tokenized(
            message.request_id,
            tuple(tokens),
            tuple(self._backend.spell(each) for each in tokens) if message.with_pieces else (),
            self._model.max_tokens,
        )

    def _detokenize(self, message: Detokenize) -> Detokenized:
        tokens = self._known(message.tokens, "tokens")
        text = b"".join(self._backend.spell(each) for each in tokens).decode("utf-8", "replace")
        return Detokenized(message.request_id, text)

    def _prompt(
        self, turns: Sequence[Turn], param: str, tools: Tools | None = None, effort: str = ""
    ) -> list[int]:
        if not self._model.template:
            raise _Wrong("unsupported_model", "this model has no chat template", "model")
        try:
            return self._builder.prompt(turns, tools, effort).tokens
        except PromptError as error:
            raise _Wrong(
                error.code, error.message, param if error.param == "messages" else error.param
            ) from error

    def _whole(self, text: str) -> list[int]:
        return self._backend.encode(text, add_special=True, parse_special=False)

    def _plain(self, text: str, parse_special: bool) -> list[int]:  # noqa: FBT001 - ranking.Tokenize
        return self._backend.encode(text, add_special=False, parse_special=parse_special)

    def _known(self, tokens: Sequence[int], param: str) -> list[int]:
        """Spelling or computing a token that does not exist would end the process (id_to_token.at)."""
        if any(not 0 <= each < self._model.n_vocab for each in tokens):
            raise _Wrong("invalid_value", "there is no such token in this model's vocabulary", param)
        return list(tokens)

    def _fitting(self, tokens: list[int], param: str) -> list[int]:
        limit = self._shape.max_tokens
        if not tokens:
            raise _Wrong("invalid_value", "the input makes no tokens", param)
        if len(tokens) > limit:
            raise _Wrong(
                "context_length_exceeded",
                f"{param} makes {len(tokens)} tokens; this model takes {limit} in one input",
                param,
            )
        return tokens
