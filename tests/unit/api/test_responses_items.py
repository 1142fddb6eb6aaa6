"""Items of an input become the turns of a conversation, or a refusal that names the place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from appliance.api import errors as wire
from appliance.api.responses_schemas import OFF_VALUES, ResponseRequest
from appliance.core import ChatMessage, Tool, ToolCall, Tooling
from appliance.errors import RequestError

F = {"type": "function", "name": "f", "description": "does f", "parameters": {"type": "object"}}
G = {"type": "function", "name": "g", "strict": True}


def parse(**body: Any) -> ResponseRequest:
    data = json.dumps({"model": "default", "input": "x"} | body).encode()
    try:
        asked = ResponseRequest.model_validate_json(data)
    except ValidationError as error:
        raise wire.from_validation(error, data) from None
    asked.refuse_unsupported()
    return asked


def call(call_id: str, name: str = "f") -> dict[str, str]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": "{}"}


def output(call_id: str, text: Any = "done") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": text}


def test_what_one_assistant_said_is_one_turn() -> None:
    """Thoughts, text and calls are items of their own on the wire, and one turn for a template."""
    turns = parse(
        instructions="be brief",
        input=[
            {"role": "developer", "content": "rules"},
            {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [],
             "content": [{"type": "reasoning_text", "text": "hm"}]},
            {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
             "content": [{"type": "output_text", "text": "I ask", "annotations": [], "logprobs": []}]},
            {"id": "fc_1", "status": "completed"} | call("c1"),
            call("c2", "g"),
            output("c1"),
            output("c2", [{"type": "input_text", "text": "4"}, {"type": "input_text", "text": "2"}]),
            {"role": "assistant", "content": "so"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        ],
    ).messages()  # fmt: skip

    assert turns == (
        ChatMessage("system", "be brief"),
        ChatMessage("system", "rules"),
        ChatMessage("user", "a"),
        ChatMessage(
            "assistant",
            "I ask",
            tool_calls=(ToolCall("c1", "f", "{}"), ToolCall("c2", "g", "{}")),
            reasoning="hm",
        ),
        ChatMessage("tool", "done", tool_call_id="c1"),
        ChatMessage("tool", "42", tool_call_id="c2"),
        ChatMessage("assistant", "so"),
        ChatMessage("assistant", "no"),
    )


def test_rounds_of_calls_stay_apart() -> None:
    """A call behind an output belongs to the next turn; thoughts open it, whatever follows."""
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "more"}]}
    turns = parse(input=[call("c1"), output("c1"), thought, call("c2"), output("c2")]).messages()

    assert [each.role for each in turns] == ["assistant", "tool", "assistant", "tool"]
    assert [each.reasoning for each in turns] == ["", "", "more", ""]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"input": 5}, "invalid_type", "input"),
        ({"input": []}, "invalid_value", "input"),
        ({"input": [{"role": "user"}]}, "missing_required_parameter", "input[0].content"),
        ({"input": [{"role": "boss", "content": "x"}]}, "invalid_value", "input[0].role"),
        ({"input": [{"role": "user", "content": "x", "b": 1}]}, "unknown_parameter", "input[0].b"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
         "missing_required_parameter", "input[0].content[0].text"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
         "unsupported_parameter", "input[0].content[0].type"),
        ({"input": [call("c"), output("c", [{"type": "input_file"}])]},
         "unsupported_parameter", "input[1].output[0].type"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "unsupported_parameter", "input[0].type"),
        ({"input": [{"type": "secret"}]}, "invalid_value", "input[0].type"),
        ({"input": [output("c9")]}, "invalid_value", "input[0].call_id"),
        ({"input": [{"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}]},
         "invalid_value", "input[0].encrypted_content"),
        ({"tools": [{"type": "web_search"}]}, "unsupported_parameter", "tools[0].type"),
        ({"tools": [{"type": "secret"}]}, "invalid_value", "tools[0].type"),
        ({"tools": [F | {"name": "two words"}]}, "invalid_value", "tools[0].name"),
        ({"tools": [F, F]}, "invalid_value", "tools"),
        ({"tools": [F], "tool_choice": {"type": "function", "name": "g"}},
         "invalid_value", "tool_choice.name"),
        ({"tools": [F], "tool_choice": {"type": "mcp", "server_label": "x"}},
         "unsupported_parameter", "tool_choice.type"),
        ({"tools": [F], "tool_choice": "sometimes"}, "invalid_value", "tool_choice"),
        ({"tool_choice": "required"}, "invalid_value", "tool_choice"),
        ({"tool_choice": {"type": {}}}, "invalid_type", "tool_choice.type"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}},
         "missing_required_parameter", "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "name": "a", "schema": {"title": "x" * 70_000}}}},
         "unsupported_schema", "text.format.schema"),
        ({"reasoning": {"effort": "boundless"}}, "invalid_value", "reasoning.effort"),
        ({"top_logprobs": 21}, "invalid_value", "top_logprobs"),
        ({"include": ["everything"]}, "invalid_value", "include[0]"),
        ({"metadata": {"k": "v" * 513}}, "invalid_value", "metadata.k"),
        ({"prompt_cache_options": {"prewarm": True}}, "invalid_value", "prompt_cache_options.prewarm"),
        ({"stream_options": {}}, "invalid_value", "stream_options"),
        ({"frequency": 1}, "unknown_parameter", "frequency"),
    ],
)  # fmt: skip
def test_mistakes_are_named_by_their_place(body: dict[str, Any], code: str, param: str) -> None:
    """The code and the place of the first mistake, and no word of the caller's in the message."""
    with pytest.raises(RequestError) as refused:
        parse(**body).to_core("req_1", None)

    assert (refused.value.code, refused.value.param) == (code, param)
    assert "secret" not in refused.value.message


@pytest.mark.parametrize("name", OFF_VALUES)
def test_what_is_not_here_is_refused_unless_it_is_off(name: str) -> None:
    """Never ignored in silence; null means that it was not given."""
    for off in (*OFF_VALUES[name], None):
        parse(**{name: off})
    with pytest.raises(RequestError) as refused:
        parse(**{name: "something else"})

    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", name)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ("f g", "auto")),
        ("auto", ("f g", "auto")),
        ("required", ("f g", "required")),
        ({"type": "function", "name": "g"}, ("g f", "named")),
        ({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]},
         ("g", "required")),
    ],
)  # fmt: skip
def test_choices_of_tools(choice: Any, expected: tuple[str, str]) -> None:
    """Each way to choose, in core's words; the one that must be called comes first."""
    offered = parse(tools=[F, G], tool_choice=choice).tooling()

    assert offered is not None
    assert (" ".join(each.name for each in offered.tools), offered.choice) == expected


def test_tools_are_told_whole_and_none_means_none() -> None:
    """Description and parameters reach the model; where there is nothing to call, nothing is told of it."""
    offered = parse(tools=[F], parallel_tool_calls=False).tooling()

    assert offered == Tooling((Tool("f", "does f"),), "auto", parallel=False)
    assert parse(tools=[F], tool_choice="none").tooling() is None
    assert parse(tools=[]).tooling() is None


def test_a_question_carries_everything() -> None:
    """Limits, logprobs, schema and effort in core's words; what has no effect goes on the record."""
    asked = parse(
        max_output_tokens=5,
        temperature=0.5,
        top_p=0.9,
        include=["message.output_text.logprobs"],
        text={"format": {"type": "json_schema", "name": "a", "schema": {"type": "string"}}},
        reasoning={"effort": "low", "summary": "auto"},
        metadata={"session_id": "s"},
        user="u",
        store=False,
    ).to_core("req_1", None)

    assert (asked.sampling.max_tokens, asked.sampling.temperature, asked.sampling.top_p) == (5, 0.5, 0.9)
    assert (asked.sampling.top_logprobs, asked.schema, asked.effort) == (0, '{"type":"string"}', "low")
    assert asked.annotations == {
        "include": ["message.output_text.logprobs"],
        "metadata": {"session_id": "s"},
        "reasoning": {"summary": "auto"},
        "store": False,
        "user": "u",
    }
