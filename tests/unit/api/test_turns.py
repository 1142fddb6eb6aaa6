"""Conversations with tools and thoughts: what becomes of each turn, and which can not be one."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.core import ChatMessage, ToolCall
from tests.unit.api.asking import USER, chat, chat_mistake


def call(id: str = "call_1", **changes: Any) -> dict[str, Any]:  # noqa: A002 - the wire's own word
    return {"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}, **changes}


def assistant(*calls: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **changes}


def tool(id: str = "call_1", content: Any = "7") -> dict[str, Any]:  # noqa: A002
    return {"role": "tool", "tool_call_id": id, "content": content}


def test_calls_and_their_results_are_carried_on() -> None:
    """An assistant's calls and the tools' answers keep ids, names and arguments."""
    asked = chat(
        messages=[
            USER,
            assistant(call("a"), call("b", index=1)),
            tool("b", [{"type": "text", "text": "7"}, {"type": "text", "text": "8"}]),
            tool("a"),
        ]
    )

    assert asked.messages == (
        ChatMessage("user", "hi"),
        ChatMessage("assistant", "", tool_calls=(ToolCall("a", "f", "{}"), ToolCall("b", "f", "{}"))),
        ChatMessage("tool", "78", tool_call_id="b"),
        ChatMessage("tool", "7", tool_call_id="a"),
    )


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thoughts_are_carried_on_by_either_name(name: str) -> None:
    """What an assistant had thought goes back to the model's template, under both names that clients use."""
    turn = {"role": "assistant", "content": "4", name: "two and two"}

    assert chat(messages=[turn, USER]).messages[0] == ChatMessage("assistant", "4", reasoning="two and two")


def test_a_refusal_of_another_server_is_what_the_assistant_said() -> None:
    """Conversations that began elsewhere go on: refusals are text, as a field and as a part."""
    asked = chat(
        messages=[
            {"role": "assistant", "content": None, "refusal": "no"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "never"}]},
            USER,
        ]
    )

    assert [each.content for each in asked.messages] == ["no", "never", "hi"]


def test_an_answer_as_the_official_client_dumps_it_is_taken_back() -> None:
    """All the neutral fields of an answer's message are tolerated in the next question."""
    dumped: dict[str, Any] = {
        "role": "assistant",
        "content": "ok",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
        "reasoning_content": None,
    }

    assert chat(messages=[USER, dumped, USER]).messages[1] == ChatMessage("assistant", "ok")


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([{"role": "user", "content": None}], ("missing_required_parameter", "messages[0].content")),
        ([{"role": "assistant", "content": None}], ("missing_required_parameter", "messages[0].content")),
        ([assistant()], ("missing_required_parameter", "messages[0].content")),
        (
            [USER, {"role": "tool", "content": "7"}],
            ("missing_required_parameter", "messages[1].tool_call_id"),
        ),
        ([USER, tool("none")], ("invalid_value", "messages[1].tool_call_id")),
        ([tool("a"), assistant(call("a"))], ("invalid_value", "messages[0].tool_call_id")),
        ([USER | {"tool_calls": [call()]}], ("invalid_value", "messages[0].tool_calls")),
        ([USER | {"tool_call_id": "a"}], ("invalid_value", "messages[0].tool_call_id")),
        ([assistant(call(), tool_call_id="a")], ("invalid_value", "messages[0].tool_call_id")),
        ([USER | {"reasoning": "x"}], ("invalid_value", "messages[0].reasoning")),
        ([assistant(call(id=""))], ("invalid_value", "messages[0].tool_calls[0].id")),
        ([assistant(call(type="custom"))], ("invalid_value", "messages[0].tool_calls[0].type")),
        (
            [assistant(call(function={"name": "f", "arguments": {}}))],
            ("invalid_type", "messages[0].tool_calls[0].function.arguments"),
        ),
        ([assistant(*[call()] * 129)], ("invalid_value", "messages[0].tool_calls")),
        ([{"role": "function", "name": "f", "content": "7"}], ("invalid_value", "messages[0].role")),
        ([USER | {"content": []}], ("invalid_value", "messages[0].content")),
        ([USER | {"content": [5]}], ("invalid_type", "messages[0].content[0]")),
        (
            [USER | {"content": [{"text": "a"}]}],
            ("missing_required_parameter", "messages[0].content[0].type"),
        ),
        (
            [USER | {"content": [{"type": "text"}]}],
            ("missing_required_parameter", "messages[0].content[0].text"),
        ),
        (
            [USER | {"content": [{"type": "text", "text": 5}]}],
            ("invalid_type", "messages[0].content[0].text"),
        ),
        ([USER | {"content": [{"type": "smell"}]}], ("invalid_value", "messages[0].content[0].type")),
    ],
)
def test_each_turn_that_can_not_be_one_is_named(
    turns: list[dict[str, Any]], expected: tuple[str, str | None]
) -> None:
    """The mistake's path leads to the very field of the very turn."""
    assert chat_mistake(messages=turns) == expected


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-1"}},
    ],
)
def test_pictures_and_sounds_are_refused_by_their_path(part: dict[str, Any]) -> None:
    """Content that no model here reads is refused, not dropped."""
    turns = [USER, USER | {"content": [{"type": "text", "text": "what is this"}, part]}]

    assert chat_mistake(messages=turns) == ("unsupported_parameter", "messages[1].content[1].type")
