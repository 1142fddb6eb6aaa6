"""Tools and how much they must be called: what the model may call, and what can not be offered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.api.tooling import MAX_OFFERED_CHARACTERS, NO_PARAMETERS
from appliance.core import Tool, Tooling
from tests.unit.api.asking import chat, chat_mistake

ZIP: dict[str, Any] = {"type": "object", "properties": {"zip": {"type": "string"}}, "required": ["zip"]}


def offered(name: str, **function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **function}}


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def some(mode: str, *names: str) -> dict[str, Any]:
    return {
        "type": "allowed_tools",
        "allowed_tools": {"mode": mode, "tools": [named(each) for each in names]},
    }


A, B, C = offered("a"), offered("b"), offered("c")


def names_of(tooling: Tooling | None) -> list[str]:
    assert tooling is not None
    return [each.name for each in tooling.tools]


def test_tools_are_offered_as_they_are_described() -> None:
    """Name, description and schema reach the model; without a choice it decides, and may call several."""
    asked = chat(tools=[offered("find_office", description="By zip code.", parameters=ZIP, strict=True)])

    assert asked.tooling == Tooling(
        (Tool("find_office", "By zip code.", json.dumps(ZIP, separators=(",", ":"))),), "auto", parallel=True
    )


@pytest.mark.parametrize("function", [{}, {"parameters": {}}, {"parameters": None}])
def test_a_tool_without_parameters_takes_none(function: dict[str, Any]) -> None:
    """A function whose parameters are not described is called with an empty object."""
    tooling = chat(tools=[offered("now", **function)]).tooling

    assert tooling is not None
    assert tooling.tools[0].parameters == NO_PARAMETERS


def test_parameters_are_an_object_even_where_their_schema_does_not_say_so() -> None:
    """`type: object` is added: arguments are an object always."""
    tooling = chat(tools=[offered("f", parameters={"properties": {}})]).tooling

    assert tooling is not None
    assert json.loads(tooling.tools[0].parameters) == {"type": "object", "properties": {}}


def test_choices_say_what_must_be_called() -> None:
    """`required` and a named tool (put first) oblige; `none` offers nothing; some may be left out."""
    tools = [A, B, C]

    assert chat(tools=tools, tool_choice="none").tooling is None
    assert chat(tools=[]).tooling is None
    assert chat(tool_choice="none").tooling is None
    assert chat(tool_choice="auto").tooling is None
    required = chat(tools=tools, tool_choice="required", parallel_tool_calls=False).tooling
    assert required is not None
    assert (required.choice, required.parallel) == ("required", False)
    one = chat(tools=tools, tool_choice=named("b")).tooling
    assert one is not None
    assert (one.choice, names_of(one)) == ("named", ["b", "a", "c"])
    few = chat(tools=tools, tool_choice=some("required", "c", "a")).tooling
    assert few is not None
    assert (few.choice, names_of(few)) == ("required", ["a", "c"])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"tools": "a"}, ("invalid_type", "tools")),
        ({"tools": [{"type": "function"}]}, ("missing_required_parameter", "tools[0].function")),
        ({"tools": [{"function": {"name": "a"}}]}, ("missing_required_parameter", "tools[0].type")),
        (
            {"tools": [{"type": "custom", "custom": {"name": "a"}}]},
            ("unsupported_parameter", "tools[0].type"),
        ),
        ({"tools": [{"type": "web_search"}]}, ("invalid_value", "tools[0].type")),
        ({"tools": [A, offered("a b")]}, ("invalid_value", "tools[1].function.name")),
        ({"tools": [offered("a" * 65)]}, ("invalid_value", "tools[0].function.name")),
        ({"tools": [offered("a\n")]}, ("invalid_value", "tools[0].function.name")),
        ({"tools": [A, A]}, ("invalid_value", "tools")),
        ({"tools": [offered(f"f{at}") for at in range(129)]}, ("invalid_value", "tools")),
        ({"tools": [offered("a", description="x" * MAX_OFFERED_CHARACTERS)]}, ("invalid_value", "tools")),
        ({"tools": [offered("a", parameters=[])]}, ("invalid_type", "tools[0].function.parameters")),
        (
            {"tools": [offered("a", parameters={"type": "string"})]},
            ("unsupported_schema", "tools[0].function.parameters"),
        ),
        (
            {"tools": [offered("a", parameters={"maximum": float("inf")})]},
            ("unsupported_schema", "tools[0].function.parameters"),
        ),
        (
            {"tools": [offered("a", parameters={"enum": ["x" * 70_000]})]},
            ("unsupported_schema", "tools[0].function.parameters"),
        ),
        ({"tools": [A], "tool_choice": "any"}, ("invalid_value", "tool_choice")),
        ({"tool_choice": "required"}, ("invalid_value", "tool_choice")),
        ({"tools": [A], "tool_choice": named("b")}, ("invalid_value", "tool_choice.function.name")),
        (
            {"tools": [A], "tool_choice": {"type": "function"}},
            ("missing_required_parameter", "tool_choice.function"),
        ),
        (
            {"tools": [A], "tool_choice": {"type": "custom", "custom": {"name": "a"}}},
            ("unsupported_parameter", "tool_choice.type"),
        ),
        ({"tools": [A], "tool_choice": some("auto", "b")}, ("invalid_value", "tool_choice.allowed_tools")),
        (
            {"tools": [A], "tool_choice": {"type": "allowed_tools"}},
            ("missing_required_parameter", "tool_choice.allowed_tools"),
        ),
        (
            {
                "tools": [A],
                "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "all", "tools": [A]}},
            },
            ("invalid_value", "tool_choice.allowed_tools.mode"),
        ),
    ],
)
def test_what_can_not_be_offered_is_named(changes: dict[str, Any], expected: tuple[str, str | None]) -> None:
    """Each mistake about tools has its code and its path."""
    assert chat_mistake(**changes) == expected
