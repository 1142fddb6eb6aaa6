"""`openai`: tools in responses, whole and streamed."""

from __future__ import annotations

import json
from typing import Any

from tests.contract.clients.checks import MODEL, calling, check
from tests.contract.clients.openai_made import client
from tests.contract.clients.openai_responses import ask

WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a town.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
BONN = ("weather", '{"city": "Bonn"}')


@check
def a_call() -> None:
    answer = ask(calling(BONN), tools=[WEATHER])
    (call,) = [item for item in answer.output if item.type == "function_call"]
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Bonn"})
    assert call.call_id


@check
def a_streamed_call() -> None:
    events = list(ask(calling(BONN), tools=[WEATHER], stream=True))
    deltas = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
    (done,) = [e for e in events if e.type == "response.function_call_arguments.done"]
    assert json.loads("".join(deltas)) == json.loads(done.arguments) == {"city": "Bonn"}


@check
def a_call_that_must_be() -> None:
    answer = ask("tell me", tools=[WEATHER], tool_choice="required", max_output_tokens=400)
    (call,) = [item for item in answer.output if item.type == "function_call"]
    assert isinstance(json.loads(call.arguments)["city"], str)


@check
def what_the_tool_said_goes_back() -> None:
    """The client's own items go back as they came."""
    first = ask(calling(BONN), tools=[WEATHER])
    (call,) = [item for item in first.output if item.type == "function_call"]
    items: list[Any] = [{"role": "user", "content": calling(BONN)}, *first.output]
    items += [{"type": "function_call_output", "call_id": call.call_id, "output": "9 °C"}]
    items += [{"role": "user", "content": [{"type": "input_text", "text": "echo: nine degrees"}]}]
    answer = client.responses.create(model=MODEL, input=items, tools=[WEATHER])
    assert answer.output_text == "nine degrees"
