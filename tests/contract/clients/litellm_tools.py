"""`litellm`: tools."""

from __future__ import annotations

import json
from typing import Any

import litellm

from tests.contract.clients.checks import calling, check
from tests.contract.clients.litellm_chat import ask

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
BONN = ("weather", '{"city": "Bonn"}')


@check
def tools() -> None:
    (call,) = ask(calling(BONN), tools=[WEATHER]).choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Bonn"})


@check
def streamed_tools() -> None:
    chunks = list(ask(calling(BONN), tools=[WEATHER], stream=True))
    whole = litellm.stream_chunk_builder(chunks)
    (call,) = whole.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Bonn"})
