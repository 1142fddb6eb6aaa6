"""A chat's answer on its way out: from the sentence's pieces to objects and chunks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from appliance.api.answering import Whole, call_id
from appliance.api.attribution import Tokens
from appliance.api.chat_shapes import (
    ChatChoice,
    ChatChunkChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChatDelta,
    FunctionDelta,
    ToolCallDelta,
    message_of,
)
from appliance.api.completion import Stamp, usage_of
from appliance.api.logprobs import ChatLogprobs, chat_logprobs
from appliance.api.streaming import DONE, event
from appliance.core import CallPart, Delta, Finished, Part, ReasoningPart, TextPart, TokenLogprob
from appliance.exchange import Exchange


class ChatReply:
    """One answer on its way into the wire shape."""

    def __init__(
        self, exchange: Exchange, stamp: Stamp, *, wants_usage: bool = False, wants_logprobs: bool = False
    ) -> None:
        self._exchange = exchange
        self._wants_usage = wants_usage
        self._wants_logprobs = wants_logprobs
        self._envelope = stamp.envelope(exchange, "chatcmpl")
        self._begun: set[int] = set()  # choices whose role has been said
        self._tokens: dict[int, Tokens] = {}  # by choice

    def completion(self, answered: Whole) -> ChatCompletion:
        """The whole answer as one object."""
        return ChatCompletion(
            **self._envelope,
            choices=[
                ChatChoice(
                    index=index,
                    message=message_of(self._exchange, index, choice),
                    logprobs=chat_logprobs(choice.logprobs) if self._wants_logprobs else None,
                    finish_reason=answered.reason(index),
                )
                for index, choice in enumerate(answered.choices)
            ],
            usage=usage_of(answered.finished.usage),
        )

    async def frames(self) -> AsyncIterator[bytes]:
        """For each choice its role first, then pieces, its finish reason; usage where asked for."""
        async for item in self._exchange.events():
            match item:
                case Delta():
                    for frame in self._piece(item):
                        yield frame
                case Finished():
                    for index, reason in enumerate(item.reasons):
                        for frame in self._role(index, ChatDelta(role="assistant", content="")):
                            yield frame
                        yield self._chunk(index, ChatDelta(), finish_reason=reason)
                    if self._wants_usage:
                        usage = usage_of(item.usage)
                        yield self._frame(ChatCompletionChunk(**self._envelope, choices=[], usage=usage))
        yield DONE

    def _piece(self, piece: Delta) -> Iterator[bytes]:
        """Its parts; text takes the log-probabilities of its own tokens along."""
        tokens = self._tokens.setdefault(piece.index, Tokens())
        tokens.add(piece.logprobs)
        for part in piece.parts:
            found = tokens.of(part)
            says = isinstance(part, TextPart)
            yield from self._role(piece.index, ChatDelta(role="assistant", content="" if says else None))
            for delta in self._deltas(piece.index, part):
                yield self._chunk(piece.index, delta, self._shaped(found) if says else None)

    def _role(self, index: int, delta: ChatDelta) -> Iterator[bytes]:
        if index not in self._begun:
            self._begun.add(index)
            yield self._chunk(index, delta)

    def _deltas(self, index: int, part: Part) -> Iterator[ChatDelta]:
        match part:
            case TextPart():
                yield ChatDelta(content=part.text)
            case ReasoningPart():
                yield ChatDelta(reasoning_content=part.text)
            case CallPart():
                if part.name:
                    begin = ToolCallDelta(
                        index=part.index,
                        id=call_id(self._exchange, index, part.index),
                        type="function",
                        function=FunctionDelta(name=part.name, arguments=""),
                    )
                    yield ChatDelta(tool_calls=[begin])
                if part.arguments:
                    more = ToolCallDelta(index=part.index, function=FunctionDelta(arguments=part.arguments))
                    yield ChatDelta(tool_calls=[more])

    def _shaped(self, found: Sequence[TokenLogprob]) -> ChatLogprobs | None:
        return chat_logprobs(found) if found and self._wants_logprobs else None

    def _chunk(
        self,
        index: int,
        delta: ChatDelta,
        logprobs: ChatLogprobs | None = None,
        finish_reason: str | None = None,
    ) -> bytes:
        choice = ChatChunkChoice(index=index, delta=delta, logprobs=logprobs, finish_reason=finish_reason)
        return self._frame(ChatCompletionChunk(**self._envelope, choices=[choice]))

    def _frame(self, chunk: ChatCompletionChunk) -> bytes:
        # `usage` stands on the other chunks only where the caller asked for it, and is null there.
        excluded = set() if self._wants_usage else {"usage"}
        return event(chunk.model_dump_json(exclude=excluded).encode("utf-8"))
