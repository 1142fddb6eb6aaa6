"""`anthropic`: tools, whole and streamed."""

from __future__ import annotations

from typing import Any

from tests.contract.clients.anthropic_messages import ask, client
from tests.contract.clients.checks import MODEL, calling, check

WEATHER: Any = {
    "name": "weather",
    "description": "The weather of a town.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
BONN = ("weather", '{"city": "Bonn"}')


@check
def a_call() -> None:
    answer = ask(calling(BONN), tools=[WEATHER])
    assert answer.stop_reason == "tool_use"
    (block,) = [each for each in answer.content if each.type == "tool_use"]
    assert (block.name, block.input) == ("weather", {"city": "Bonn"})


@check
def a_streamed_call() -> None:
    with client.messages.stream(
        model=MODEL,
        max_tokens=400,
        messages=[{"role": "user", "content": calling(BONN)}],
        tools=[WEATHER],
    ) as stream:
        final = stream.get_final_message()
    (block,) = [each for each in final.content if each.type == "tool_use"]
    assert block.input == {"city": "Bonn"}


@check
def a_call_that_must_be() -> None:
    for choice in ({"type": "any"}, {"type": "tool", "name": "weather"}):
        answer = ask("tell me", tools=[WEATHER], tool_choice=choice)
        (block,) = [each for each in answer.content if each.type == "tool_use"]
        assert isinstance(block.input["city"], str)


@check
def what_the_tool_said_goes_back() -> None:
    """The client's own blocks go back as they came."""
    first = ask(calling(BONN), tools=[WEATHER])
    (block,) = [each for each in first.content if each.type == "tool_use"]
    result: Any = {"type": "tool_result", "tool_use_id": block.id, "content": "9 °C"}
    answer = client.messages.create(
        model=MODEL,
        max_tokens=64,
        tools=[WEATHER],
        messages=[
            {"role": "user", "content": calling(BONN)},
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": [result, {"type": "text", "text": "echo: nine degrees"}]},
        ],
    )
    assert [each.text for each in answer.content if each.type == "text"] == ["nine degrees"]
