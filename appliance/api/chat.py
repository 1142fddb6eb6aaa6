"""`POST /v1/chat/completions`: from wire to sentence and back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from fastapi import APIRouter, Request, Response

from appliance.accounts.roles import Permission
from appliance.api.access import require
from appliance.api.answering import Whole, ask, call_id, whole
from appliance.api.body import answer, parse, schema_of
from appliance.api.border import visit_of
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
from appliance.api.completion import stamp_of, usage_of
from appliance.api.logprobs import ChatLogprobs, chat_logprobs
from appliance.api.schemas import ChatCompletionRequest
from appliance.api.streaming import DONE, EventStream, event
from appliance.core import CallPart, Delta, Finished, Part, ReasoningPart, TextPart, TokenLogprob
from appliance.exchange import Exchange
from appliance.services import Services, services_of

router = APIRouter()


@router.post(
    "/v1/chat/completions",
    dependencies=[require(Permission.INFER)],
    openapi_extra=schema_of(ChatCompletionRequest),
    response_model=ChatCompletion,
)
async def create_chat_completion(request: Request) -> Response:
    """Answer a conversation, in one piece or as a stream of server-sent events."""
    services = services_of(request.app)
    asked = await parse(request, ChatCompletionRequest)
    model = services.catalog.resolve(asked.model)
    exchange = await ask(request, asked.to_core(visit_of(request.scope).request_id, model))
    reply = _Reply(services, exchange, asked)
    if asked.stream:
        return EventStream(reply.frames(), exchange.gone)
    return answer(reply.completion(await whole(request, exchange)))


class _Reply:
    """One answer on its way into the wire shape."""

    def __init__(self, services: Services, exchange: Exchange, asked: ChatCompletionRequest) -> None:
        self._exchange = exchange
        self._wants_usage = asked.wants_usage
        self._wants_logprobs = bool(asked.logprobs)
        self._envelope = stamp_of(services, exchange).envelope(exchange, "chatcmpl")
        self._begun: set[int] = set()  # choices whose role has been said
        self._held: dict[int, list[TokenLogprob]] = {}  # by choice: their text has not come yet

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
                        yield self._chunk(index, ChatDelta(), self._logprobs(index), reason)
                    if self._wants_usage:
                        usage = usage_of(item.usage)
                        yield self._frame(ChatCompletionChunk(**self._envelope, choices=[], usage=usage))
        yield DONE

    def _piece(self, piece: Delta) -> Iterator[bytes]:
        """Its parts; the first of them takes the log-probabilities along."""
        self._held.setdefault(piece.index, []).extend(piece.logprobs)
        for part in piece.parts:
            says = isinstance(part, TextPart)
            yield from self._role(piece.index, ChatDelta(role="assistant", content="" if says else None))
            for delta in self._deltas(piece.index, part):
                yield self._chunk(piece.index, delta, self._logprobs(piece.index))

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

    def _logprobs(self, index: int) -> ChatLogprobs | None:
        """What is held, once."""
        held = self._held.pop(index, [])
        return chat_logprobs(held) if held and self._wants_logprobs else None

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
