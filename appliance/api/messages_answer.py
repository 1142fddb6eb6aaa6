"""An answer in Anthropic's words: one message of blocks, whole or as named events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal

from appliance.api import messages_errors
from appliance.api.answering import Choice, Whole, call_id
from appliance.api.messages_shapes import (
    BlockDelta,
    BlockPiece,
    BlockStart,
    BlockStop,
    Ending,
    Event,
    InputJsonDelta,
    Message,
    MessageEnd,
    MessageStart,
    MessageStop,
    MessageUsage,
    SaidBlock,
    SaidText,
    SaidThinking,
    SaidToolUse,
    StopReason,
    TextDelta,
    ThinkingDelta,
)
from appliance.api.streaming import EventStream, event
from appliance.core import CallPart, Delta, Finished, FinishReason, Part, ReasoningPart, TextPart, Usage
from appliance.errors import ApplianceError
from appliance.exchange import Exchange

_REASONS: Mapping[FinishReason, StopReason] = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.CONTENT_FILTER: "refusal",
}


class Teller:
    """Tells one answer. `thoughts`: whether what was thought is told, and with its words."""

    def __init__(self, exchange: Exchange, thoughts: Literal["shown", "omitted", "none"]) -> None:
        self._exchange = exchange
        self._thoughts = thoughts
        self._index = -1  # of the block that was begun last
        self._open: tuple[str, int] | None = None  # its type, and which call it is

    def whole(self, answer: Whole) -> Message:
        """The whole answer as one object."""
        end = _ending(answer.finished)
        return self._message(self._blocks(answer.choices[0]), end, answer.finished.usage)

    async def frames(self) -> AsyncIterator[bytes]:
        """The message's start, its blocks piece by piece, why it ended, and its end."""
        prompt = Usage(prompt_tokens=self._exchange.prompt_tokens)
        yield _frame(MessageStart(message=self._message([], None, prompt)))
        async for item in self._exchange.events():
            match item:
                case Delta():
                    for part in item.parts:
                        for frame in self._pieces(part):
                            yield frame
                case Finished():
                    for frame in self._closed():
                        yield frame
                    yield _frame(MessageEnd(delta=_ending(item), usage=MessageUsage.of(item.usage)))
        yield _frame(MessageStop())

    def _message(self, blocks: list[SaidBlock], end: Ending | None, usage: Usage) -> Message:
        return Message(
            id=f"msg_{self._exchange.request.request_id.removeprefix('req_')}",
            model=self._exchange.model.id,
            content=blocks,
            stop_reason=end.stop_reason if end else None,
            stop_sequence=end.stop_sequence if end else None,
            usage=MessageUsage.of(usage),
        )

    def _blocks(self, choice: Choice) -> list[SaidBlock]:
        blocks: list[SaidBlock] = []
        if choice.reasoning and self._thoughts != "none":
            blocks.append(SaidThinking(thinking=choice.reasoning if self._thoughts == "shown" else ""))
        if choice.text:
            blocks.append(SaidText(text=choice.text))
        for index, call in enumerate(choice.calls):
            if (arguments := _object(call.arguments)) is not None:
                blocks.append(self._call(index, call.name, arguments))
        return blocks

    def _call(self, index: int, name: str, arguments: dict[str, Any]) -> SaidToolUse:
        number = call_id(self._exchange, 0, index).removeprefix("call_")
        return SaidToolUse(id=f"toolu_{number}", name=name, input=arguments)

    def _pieces(self, part: Part) -> list[bytes]:
        """One part of the answer as events: it goes on in the open block, or begins one."""
        match part:
            case TextPart():
                begun = self._begun(("text", 0), SaidText(text=""))
                return [*begun, self._delta(TextDelta(text=part.text))]
            case ReasoningPart() if self._thoughts != "none":
                begun = self._begun(("thinking", 0), SaidThinking(thinking=""))
                shown = self._thoughts == "shown"
                return [*begun, self._delta(ThinkingDelta(thinking=part.text))] if shown else begun
            case CallPart():
                begun = self._begun(("tool_use", part.index), self._call(part.index, part.name, {}))
                more = [self._delta(InputJsonDelta(partial_json=part.arguments))] if part.arguments else []
                return [*begun, *more]
        return []

    def _begun(self, block: tuple[str, int], start: SaidBlock) -> list[bytes]:
        if self._open == block:
            return []
        frames = self._closed()
        self._index += 1
        self._open = block
        return [*frames, _frame(BlockStart(index=self._index, content_block=start))]

    def _closed(self) -> list[bytes]:
        if self._open is None:
            return []
        self._open = None
        return [_frame(BlockStop(index=self._index))]

    def _delta(self, piece: BlockPiece) -> bytes:
        return _frame(BlockDelta(index=self._index, delta=piece))


class MessageStream(EventStream):
    """Named events; a failure in the middle is one of them, in Anthropic's shape."""

    def __init__(self, teller: Teller, exchange: Exchange, request_id: str) -> None:
        super().__init__(teller.frames(), exchange.gone)
        self._request_id = request_id  # of this request: the exchange may be that of an earlier one

    def failure(self, error: ApplianceError) -> bytes:
        return b"event: error\n" + event(messages_errors.body_of(error, self._request_id))


def _frame(said: Event) -> bytes:
    return b"event: " + said.type.encode("ascii") + b"\n" + event(said.model_dump_json().encode("utf-8"))


def _ending(finished: Finished) -> Ending:
    """Why it ended, and the stop sequence where one ended it."""
    reason = finished.reasons[0]
    stop = finished.stops[0] if finished.stops else ""
    if reason is FinishReason.STOP and stop:
        return Ending(stop_reason="stop_sequence", stop_sequence=stop)
    return Ending(stop_reason=_REASONS[reason], stop_sequence=None)


def _object(arguments: str) -> dict[str, Any] | None:
    """A call's arguments; None where the answer was cut off within them: that is no call."""
    try:
        read = json.loads(arguments or "{}")
    except ValueError:
        return None
    return read if isinstance(read, dict) else None
