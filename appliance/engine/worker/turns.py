"""Turns and tools in the shape that chat templates are written for.

The shape is that of Hugging Face's templates: `tool_calls` with a `function` in each, a turn of role
`tool` for each result, `reasoning_content`, and tools as functions with their JSON Schema. A template
that knows no tools gets plain turns, and the tools in words.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from appliance.core import Tool, ToolCall, Tooling
from appliance.dialects import Speech, words
from appliance.engine.question import Call, Tools, Turn
from appliance.engine.worker.swapping import Swapper

Message = dict[str, Any]
_SYSTEM = {"system", "developer"}


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a template is given."""

    messages: list[Message]
    tools: list[Message] | None = None


def tooling_of(tools: Tools | None) -> Tooling | None:
    """Tools in the words of the dialects."""
    if tools is None:
        return None
    return Tooling(
        tools=tuple(Tool(each.name, each.description, each.parameters) for each in tools.tools),
        choice=tools.choice,
        parallel=tools.parallel,
    )


def conversations(
    turns: Sequence[Turn], tools: Tools | None, speech: Speech, swapper: Swapper
) -> list[Conversation]:
    """The ways to tell a template this, the best one first: some refuse what others want.

    ValueError, RecursionError where a tool's parameters are no JSON.
    """
    if not speech.is_native:
        return _in_words(turns, tools, swapper)
    if speech.dialect.has_single_calls:
        turns = _one_call_each(turns)
    ways = (False, True) if any(turn.tool_calls for turn in turns) else (False,)
    told = [_native(turns, tools, speech, swapper, as_text=as_text) for as_text in ways]
    if tools is None:  # some go through a list of them without looking whether there is one
        told += [Conversation(each.messages, []) for each in told]
    return told


def _native(
    turns: Sequence[Turn], tools: Tools | None, speech: Speech, swapper: Swapper, *, as_text: bool
) -> Conversation:
    names = {call.id: call.name for turn in turns for call in turn.tool_calls}
    messages = [_message(turn, names, speech, swapper, as_text=as_text) for turn in turns]
    if tools is None:
        return Conversation(messages)
    offered: list[Message] = [
        {
            "type": "function",
            "function": {
                "name": swapper.piece(each.name),
                "description": swapper.piece(each.description),
                "parameters": swapper.value(json.loads(each.parameters)),
            },
        }
        for each in tools.tools
    ]
    if not speech.tools_in_system:
        return Conversation(messages, offered)
    if not messages or messages[0]["role"] not in _SYSTEM:
        messages.insert(0, {"role": "system", "content": ""})
    messages[0]["tools"] = json.dumps([each["function"] for each in offered], ensure_ascii=False)
    return Conversation(messages, offered)


def _message(
    turn: Turn, names: dict[str, str], speech: Speech, swapper: Swapper, *, as_text: bool
) -> Message:
    dialect = speech.dialect
    message: Message = {"role": turn.role, "content": swapper.text(turn.content)}
    if turn.reasoning:
        thought = swapper.text(turn.reasoning)
        if dialect.reasoning_key == "thinking" and turn.tool_calls and turn.content:
            # These templates take one of the two, and show it as reasoning.
            thought, message["content"] = f"{thought}\n{message['content']}", ""
        message[dialect.reasoning_key] = thought
    if turn.tool_calls:
        message["tool_calls"] = [
            {
                "id": dialect.call_id(_safe_id(each.id)),
                "type": "function",
                "function": {
                    "name": swapper.piece(each.name),
                    "arguments": _arguments(each, swapper, as_text=as_text),
                },
            }
            for each in turn.tool_calls
        ]
    if turn.role == "tool":
        message["tool_call_id"] = dialect.call_id(_safe_id(turn.tool_call_id))
        if turn.tool_call_id in names:
            message["name"] = swapper.piece(names[turn.tool_call_id])
    return message


def _arguments(call: Call, swapper: Swapper, *, as_text: bool) -> Any:
    """A mapping, as templates want it; text where it is none, or where they want that."""
    try:
        arguments = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        return swapper.piece(call.arguments)
    swapped = swapper.value(arguments)
    return json.dumps(swapped, ensure_ascii=False) if as_text else swapped


def _safe_id(asked: str) -> str:
    """An id holds nothing that a vocabulary could mean: letters, digits, and what callers put between."""
    if asked.replace("_", "").replace("-", "").isalnum() and asked.isascii():
        return asked
    return hashlib.sha256(asked.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _one_call_each(turns: Sequence[Turn]) -> list[Turn]:
    """A turn with several calls becomes one turn for each, with its result behind it."""
    results = {turn.tool_call_id: turn for turn in turns if turn.role == "tool"}
    split: list[Turn] = []
    placed: set[str] = set()
    for turn in turns:
        if len(turn.tool_calls) <= 1:
            if turn.role != "tool" or turn.tool_call_id not in placed:
                split.append(turn)
            continue
        for at, call in enumerate(turn.tool_calls):
            first = {} if at == 0 else {"content": "", "reasoning": ""}
            split.append(msgspec.structs.replace(turn, tool_calls=(call,), **first))
            if call.id in results:
                split.append(results[call.id])
                placed.add(call.id)
    return split


def _in_words(turns: Sequence[Turn], tools: Tools | None, swapper: Swapper) -> list[Conversation]:
    """Plain turns: calls and results as text, tools in the system message, or before the first question."""
    plain: list[Turn] = []
    was_result = False
    for given in turns:
        turn = given
        is_result = given.role == "tool"
        if is_result:
            turn = Turn("user", words.answered(given.content))
        elif given.tool_calls:
            calls = tuple(ToolCall(each.id, each.name, each.arguments) for each in given.tool_calls)
            turn = Turn(given.role, words.called(given.content, calls))
        if plain and plain[-1].role == turn.role == "user" and (was_result or is_result):
            turn = Turn("user", f"{plain.pop().content}\n{turn.content}")
        plain.append(turn)
        was_result = is_result
    tooling = tooling_of(tools)
    if tooling is None:
        return [_plain(plain, swapper)]
    told = words.told(tooling)
    has_system = bool(plain) and plain[0].role in _SYSTEM
    system = f"{plain[0].content}\n\n{told}" if has_system else told
    rest = plain[1:] if has_system else plain
    ways = [_plain([Turn("system", system), *rest], swapper)]
    if rest and rest[0].role == "user":
        ways.append(_plain([Turn("user", f"{system}\n\n{rest[0].content}"), *rest[1:]], swapper))
    return ways


def _plain(turns: Sequence[Turn], swapper: Swapper) -> Conversation:
    messages: list[Message] = [{"role": each.role, "content": swapper.text(each.content)} for each in turns]
    for message, turn in zip(messages, turns, strict=True):
        if turn.reasoning:
            message["reasoning_content"] = swapper.text(turn.reasoning)
    return Conversation(messages)
