"""What comes back from `/v1/messages` in Anthropic's shapes: the message, its events, its errors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, RootModel

from appliance.core import Usage as CoreUsage

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]
ErrorType = Literal[
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "conflict_error",
    "request_too_large",
    "rate_limit_error",
    "timeout_error",
    "overloaded_error",
    "api_error",
]


class SaidText(BaseModel):
    """What is said to the caller."""

    type: Literal["text"] = "text"
    text: str


class SaidThinking(BaseModel):
    """What the model thought before. There is nothing to sign: the signature is empty."""

    type: Literal["thinking"] = "thinking"
    thinking: str
    signature: Literal[""] = ""


class SaidToolUse(BaseModel):
    """A call of one of the caller's tools."""

    type: Literal["tool_use"] = "tool_use"
    id: str
    name: str
    input: dict[str, Any]


SaidBlock = Annotated[SaidText | SaidThinking | SaidToolUse, Field(discriminator="type")]


class OutputTokensDetails(BaseModel):
    """How many of the answer's tokens were thoughts."""

    thinking_tokens: int


class MessageUsage(BaseModel):
    """Token counts. The prompt is `input_tokens` and `cache_read_input_tokens` together."""

    input_tokens: int  # computed for this answer
    cache_creation_input_tokens: int = 0  # nothing is billed for being kept
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: OutputTokensDetails

    @classmethod
    def of(cls, usage: CoreUsage) -> MessageUsage:
        """From the sentence's words to the wire's."""
        return cls(
            input_tokens=usage.prompt_tokens - usage.cached_tokens,
            cache_read_input_tokens=usage.cached_tokens,
            output_tokens=usage.completion_tokens,
            output_tokens_details=OutputTokensDetails(thinking_tokens=usage.reasoning_tokens),
        )


class Message(BaseModel):
    """The answer."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[SaidBlock]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: MessageUsage


class MessageStart(BaseModel):
    """The message without blocks. Of its usage only the prompt's length is known."""

    type: Literal["message_start"] = "message_start"
    message: Message


class BlockStart(BaseModel):
    """A block begins; it is empty, but for a call's name and id."""

    type: Literal["content_block_start"] = "content_block_start"
    index: int
    content_block: SaidBlock


class TextDelta(BaseModel):
    """More text."""

    type: Literal["text_delta"] = "text_delta"
    text: str


class ThinkingDelta(BaseModel):
    """More of the thoughts."""

    type: Literal["thinking_delta"] = "thinking_delta"
    thinking: str


class InputJsonDelta(BaseModel):
    """More of a call's input, as the text of its JSON."""

    type: Literal["input_json_delta"] = "input_json_delta"
    partial_json: str


BlockPiece = Annotated[TextDelta | ThinkingDelta | InputJsonDelta, Field(discriminator="type")]


class BlockDelta(BaseModel):
    """A block goes on."""

    type: Literal["content_block_delta"] = "content_block_delta"
    index: int
    delta: BlockPiece


class BlockStop(BaseModel):
    """A block has ended."""

    type: Literal["content_block_stop"] = "content_block_stop"
    index: int


class Ending(BaseModel):
    """Why the answer ended."""

    stop_reason: StopReason
    stop_sequence: str | None


class MessageEnd(BaseModel):
    """Why the answer ended, and its token counts."""

    type: Literal["message_delta"] = "message_delta"
    delta: Ending
    usage: MessageUsage


class MessageStop(BaseModel):
    """The last event."""

    type: Literal["message_stop"] = "message_stop"


class MessagesErrorDetails(BaseModel):
    """The appliance's own code, which is stable, and the parameter's path."""

    error_code: str
    param: str | None


class MessagesErrorObject(BaseModel):
    """`message` is for people, and never repeats a value."""

    type: ErrorType
    message: str
    details: MessagesErrorDetails


class MessagesError(BaseModel):
    """Every error under `/v1/messages`, and the event of a stream that fails."""

    type: Literal["error"] = "error"
    error: MessagesErrorObject
    request_id: str


Event = MessageStart | BlockStart | BlockDelta | BlockStop | MessageEnd | MessageStop | MessagesError


class MessageEvent(RootModel[Annotated[Event, Field(discriminator="type")]]):
    """The data of one event; its name is its type."""


class MessageTokensCount(BaseModel):
    """The tokens of the conversation in the model's chat template, up to where its answer begins."""

    input_tokens: int
