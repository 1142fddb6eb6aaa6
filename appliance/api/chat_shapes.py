"""What callers get back from `/v1/chat/completions`, in OpenAI's shapes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from appliance.api.answering import Called, Choice, call_id
from appliance.api.completion import Usage
from appliance.api.logprobs import ChatLogprobs
from appliance.exchange import Exchange


def _is_none(value: object) -> bool:
    return value is None


class Function(BaseModel):
    """What is to be called. `arguments` is JSON text."""

    name: str
    arguments: str


class ToolCall(BaseModel):
    """A call that the caller is asked to make."""

    id: str
    type: Literal["function"] = "function"
    function: Function


class AssistantMessage(BaseModel):
    """The answer. `content` is null where there are only calls."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    reasoning_content: str | None = Field(default=None, exclude_if=_is_none)
    tool_calls: list[ToolCall] | None = Field(default=None, exclude_if=_is_none)


class ChatChoice(BaseModel):
    """One of `n` answers."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: str


class ChatCompletion(BaseModel):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str


class FunctionDelta(BaseModel):
    """The name comes once, with empty arguments; then only pieces of these."""

    name: str | None = Field(default=None, exclude_if=_is_none)
    arguments: str


class ToolCallDelta(BaseModel):
    """A piece of a call; id and type stand in its first piece only."""

    index: int
    id: str | None = Field(default=None, exclude_if=_is_none)
    type: Literal["function"] | None = Field(default=None, exclude_if=_is_none)
    function: FunctionDelta


class ChatDelta(BaseModel):
    """What a chunk adds to its choice. The first one of each choice has the role."""

    role: Literal["assistant"] | None = Field(default=None, exclude_if=_is_none)
    content: str | None = Field(default=None, exclude_if=_is_none)
    reasoning_content: str | None = Field(default=None, exclude_if=_is_none)
    tool_calls: list[ToolCallDelta] | None = Field(default=None, exclude_if=_is_none)


class ChatChunkChoice(BaseModel):
    """A piece of one answer; `finish_reason` is null until its last chunk."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: str | None


class ChatCompletionChunk(BaseModel):
    """One frame of a stream: the same id and time on each of them."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None


def message_of(exchange: Exchange, index: int, choice: Choice) -> AssistantMessage:
    """A whole answer as a message."""
    return AssistantMessage(
        content=None if choice.calls and not choice.text else choice.text,
        reasoning_content=choice.reasoning or None,
        tool_calls=[_call(exchange, index, at, each) for at, each in enumerate(choice.calls)] or None,
    )


def _call(exchange: Exchange, index: int, at: int, called: Called) -> ToolCall:
    return ToolCall(
        id=call_id(exchange, index, at),
        function=Function(name=called.name, arguments=called.arguments),
    )
