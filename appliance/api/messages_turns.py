"""A conversation in Anthropic's blocks → the turns that the model's template knows."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence

from appliance.api.messages_schemas import (
    Block,
    Conversation,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    Turn,
)
from appliance.core import ChatMessage, ToolCall
from appliance.errors import RequestError

_FITTING: Mapping[str, tuple[type[Block], ...]] = {
    "system": (TextBlock,),
    "user": (TextBlock, ToolResultBlock),
    "assistant": (TextBlock, ThinkingBlock, RedactedThinkingBlock, ToolUseBlock),
}
_ERROR = "Error: "  # what the model reads before the result of a call that failed


def turns_of(asked: Conversation) -> tuple[ChatMessage, ...]:
    """The turns, the system's first. RequestError names the block that does not belong where it stands.

    Neighbours of one role become one turn, as Anthropic has it. Texts are joined by a line break.
    """
    turns = [ChatMessage("system", _text(asked.system))] if asked.system else []
    known: set[str] = set()  # ids of calls so far
    for index, turn in enumerate(asked.messages):
        place = f"messages[{index}]"
        _refuse_strangers(turn, place)
        for message in _messages_of(turn, known, place):
            known.update(call.id for call in message.tool_calls)
            if turns and message.role != "tool" and turns[-1].role == message.role:
                turns[-1] = _together(turns[-1], message)
            else:
                turns.append(message)
    if asked.messages[-1].role == "assistant":
        raise RequestError(
            "the last turn is the assistant's: an answer that has begun can not be gone on with here",
            code="unsupported_parameter",
            param=f"messages[{len(asked.messages) - 1}]",
        )
    return tuple(turns)


def _refuse_strangers(turn: Turn, place: str) -> None:
    for at, block in enumerate(turn.content):
        if not isinstance(block, _FITTING[turn.role]):
            raise RequestError(
                f"a turn of the {turn.role} has no {block.type} blocks",
                code="invalid_value",
                param=f"{place}.content[{at}]",
            )


def _messages_of(turn: Turn, known: set[str], place: str) -> Iterator[ChatMessage]:
    """One turn as the template's messages: each result of a tool is one of its own."""
    if turn.role == "assistant":
        yield _assistant(turn.content)
        return
    texts: list[TextBlock] = []
    for at, block in enumerate(turn.content):
        if isinstance(block, TextBlock):
            texts.append(block)
        elif isinstance(block, ToolResultBlock):
            if block.tool_use_id not in known:
                raise RequestError(
                    "no earlier turn has a call of this id",
                    code="invalid_value",
                    param=f"{place}.content[{at}].tool_use_id",
                )
            if texts:
                yield ChatMessage(turn.role, _text(texts))
                texts = []
            yield _result(block)
    if texts or not turn.content:
        yield ChatMessage(turn.role, _text(texts))


def _assistant(blocks: Sequence[Block]) -> ChatMessage:
    """Thoughts that only Anthropic can read are left out: no model here could."""
    return ChatMessage(
        role="assistant",
        content=_text([each for each in blocks if isinstance(each, TextBlock)]),
        tool_calls=tuple(
            ToolCall(each.id, each.name, json.dumps(each.input, ensure_ascii=False))
            for each in blocks
            if isinstance(each, ToolUseBlock)
        ),
        reasoning="\n".join(each.thinking for each in blocks if isinstance(each, ThinkingBlock)),
    )


def _result(block: ToolResultBlock) -> ChatMessage:
    text = _text(block.content or [])
    return ChatMessage("tool", f"{_ERROR}{text}" if block.is_error else text, tool_call_id=block.tool_use_id)


def _together(first: ChatMessage, second: ChatMessage) -> ChatMessage:
    return dataclasses.replace(
        first,
        content=_joined(first.content, second.content),
        tool_calls=first.tool_calls + second.tool_calls,
        reasoning=_joined(first.reasoning, second.reasoning),
    )


def _text(blocks: Sequence[TextBlock]) -> str:
    return "\n".join(each.text for each in blocks)


def _joined(*texts: str) -> str:
    return "\n".join(text for text in texts if text)
