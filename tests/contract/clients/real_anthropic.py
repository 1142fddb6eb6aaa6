"""`anthropic` and a real model."""

from __future__ import annotations

from typing import Any

from tests.contract.clients.anthropic_messages import ask, client
from tests.contract.clients.checks import MODEL, check

QUESTION = "Where do I hand in form 12?"
WEATHER: Any = {
    "name": "weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Bonn", "Kiel"]}},
        "required": ["city"],
    },
}


@check
def messages() -> None:
    assert ask(QUESTION, max_tokens=12).content[0].text
    asked: Any = [{"role": "user", "content": QUESTION}]
    with client.messages.stream(model=MODEL, max_tokens=12, messages=asked) as stream:
        assert "".join(stream.text_stream)


@check
def tools() -> None:
    answer = ask(QUESTION, max_tokens=60, tools=[WEATHER], tool_choice={"type": "any"})
    (block, *_) = [each for each in answer.content if each.type == "tool_use"]
    assert block.input["city"] in {"Bonn", "Kiel"}


@check
def counts() -> None:
    asked: Any = [{"role": "user", "content": QUESTION}]
    assert client.messages.count_tokens(model=MODEL, messages=asked).input_tokens > 8
