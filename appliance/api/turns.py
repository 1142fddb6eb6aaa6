"""The turns of a conversation in the shape of `/v1/chat/completions`, and their way to `core`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from appliance.api.body import Body
from appliance.core import ChatMessage, ToolCall
from appliance.errors import RequestError

MAX_MESSAGES = 2048
MAX_CALLS = 128  # of one turn


class TextPart(Body):
    """A piece of a message's content."""

    type: Literal["text"]
    text: str


class RefusalPart(Body):
    """What an assistant had refused with: text like the rest."""

    type: Literal["refusal"]
    refusal: str


class ForeignPart(Body):
    """Known to clients, and to no model of this appliance: refused by name."""

    model_config = ConfigDict(extra="allow")

    type: Literal["image_url", "input_audio", "file", "image", "video_url", "audio_url"]


ContentPart = Annotated[TextPart | RefusalPart | ForeignPart, Field(discriminator="type")]
Content = str | Annotated[list[ContentPart], Field(min_length=1, fail_fast=True)]


class FunctionCalled(Body):
    """What was called. `arguments` is JSON text, as the model had written it."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    arguments: str


class CallMade(Body):
    """A call of an earlier turn. `index` is left over in clients that collect streams."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    type: Literal["function"] | None = None
    function: FunctionCalled
    index: int | None = None


class Message(Body):
    """One turn. `developer` is OpenAI's newer word for `system`."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    name: Annotated[str, StringConstraints(max_length=64)] | None = None
    # Of an assistant's turns.
    tool_calls: Annotated[list[CallMade], Field(max_length=MAX_CALLS)] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None  # the same by its other name
    refusal: str | None = None
    # Of a tool's turns.
    tool_call_id: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    # What answers carry along that has no effect, or is not known here.
    function_call: None = None
    audio: None = None
    annotations: list[Any] | None = None


def conversation(turns: Sequence[Message], *, param: str = "messages") -> tuple[ChatMessage, ...]:
    """The turns in core's words. RequestError names the turn that can not be one."""
    called: set[str] = set()
    return tuple(_turn(each, f"{param}[{at}]", called) for at, each in enumerate(turns))


def _turn(turn: Message, path: str, called: set[str]) -> ChatMessage:
    """One turn; `called` are the calls of the turns before it."""
    text = _text(turn.content, f"{path}.content")
    if turn.role == "assistant":
        return _assistant(turn, text, path, called)
    for name in ("tool_calls", "reasoning_content", "reasoning", "refusal"):
        if getattr(turn, name):
            raise RequestError(
                f"only an assistant's turn has {name}", code="invalid_value", param=f"{path}.{name}"
            )
    if turn.role == "tool":
        _check_call(turn.tool_call_id, f"{path}.tool_call_id", called)
    elif turn.tool_call_id is not None:
        raise RequestError(
            "only a tool's turn answers a call", code="invalid_value", param=f"{path}.tool_call_id"
        )
    if text is None:
        raise _missing(f"{path}.content")
    role = "system" if turn.role == "developer" else turn.role
    return ChatMessage(role=role, content=text, tool_call_id=turn.tool_call_id or "")


def _assistant(turn: Message, text: str | None, path: str, called: set[str]) -> ChatMessage:
    calls = tuple(
        ToolCall(each.id, each.function.name, each.function.arguments) for each in turn.tool_calls or ()
    )
    reasoning = turn.reasoning_content or turn.reasoning or ""
    if turn.tool_call_id is not None:
        raise RequestError(
            "only a tool's turn answers a call", code="invalid_value", param=f"{path}.tool_call_id"
        )
    if text is None:
        if turn.refusal is None and not calls and not reasoning:
            raise _missing(f"{path}.content")
        text = turn.refusal or ""
    called.update(each.id for each in calls)
    return ChatMessage("assistant", text, tool_calls=calls, reasoning=reasoning)


def _check_call(call: str | None, path: str, called: set[str]) -> None:
    if call is None:
        raise _missing(path)
    if call not in called:
        raise RequestError(
            "a tool's turn answers a call of an earlier assistant's turn: no call has this id",
            code="invalid_value",
            param=path,
        )


def _text(content: Content | None, path: str) -> str | None:
    if content is None or isinstance(content, str):
        return content
    pieces = []
    for at, part in enumerate(content):
        match part:
            case TextPart():
                pieces.append(part.text)
            case RefusalPart():
                pieces.append(part.refusal)
            case ForeignPart():
                raise RequestError(
                    "content of this type is not supported by this appliance: it reads text",
                    code="unsupported_parameter",
                    param=f"{path}[{at}].type",
                )
    return "".join(pieces)


def _missing(path: str) -> RequestError:
    return RequestError(f"missing required parameter: {path}", code="missing_required_parameter", param=path)
