"""`litellm` and a real model."""

from __future__ import annotations

import json
from typing import Any

import litellm

from tests.contract.clients.checks import MODEL, check
from tests.contract.clients.litellm_chat import WHERE, ask

QUESTION = "Where do I hand in form 12?"
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Bonn", "Kiel"]}},
            "required": ["city"],
        },
    },
}


@check
def chats() -> None:
    assert ask(QUESTION, max_tokens=12).choices[0].message.content
    chunks = list(ask(QUESTION, max_tokens=12, stream=True))
    assert "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices)


@check
def tools() -> None:
    answer = ask(QUESTION, max_tokens=60, tools=[WEATHER], tool_choice="required")
    call = answer.choices[0].message.tool_calls[0]
    assert json.loads(call.function.arguments)["city"] in {"Bonn", "Kiel"}


@check
def embeddings() -> None:
    answer = litellm.embedding(model=f"openai/{MODEL}", input=[QUESTION], encoding_format="float", **WHERE)
    assert len(answer.data[0]["embedding"]) > 100
