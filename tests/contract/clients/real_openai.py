"""`openai` and a real model: what it says is its own affair, the shapes are ours."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel

from tests.contract.clients.checks import MODEL, check
from tests.contract.clients.openai_made import chat, client

QUESTION = "Where do I hand in form 12?"
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a town.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Bonn", "Kiel"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class Verdict(BaseModel):
    subject: Literal["form", "weather"]
    urgent: bool


@check
def chats() -> None:
    whole = chat(QUESTION, temperature=0, max_tokens=12, logprobs=True, top_logprobs=3)
    assert whole.choices[0].message.content
    assert whole.usage.completion_tokens <= 12
    assert len(whole.choices[0].logprobs.content) == whole.usage.completion_tokens
    chunks = list(chat(QUESTION, max_tokens=12, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices)
    assert chunks[-1].usage.completion_tokens <= 12


@check
def tools() -> None:
    """One call: several would go on as long as a small model likes."""
    must: Any = {"tools": [WEATHER], "tool_choice": "required", "parallel_tool_calls": False}
    for stream in (False, True):
        answer = chat(QUESTION, **must, max_tokens=80, stream=stream)
        if stream:
            deltas = [d for chunk in answer for c in chunk.choices for d in c.delta.tool_calls or ()]
            assert deltas[0].function.name == "weather"
            mine = [each for each in deltas if each.index == 0]
            told = "".join(each.function.arguments or "" for each in mine)
        else:
            assert answer.choices[0].finish_reason == "tool_calls", answer
            told = answer.choices[0].message.tool_calls[0].function.arguments
        assert json.loads(told)["city"] in {"Bonn", "Kiel"}


@check
def types() -> None:
    parsed = client.chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": QUESTION}],
        response_format=Verdict,
        max_tokens=60,
    )
    assert isinstance(parsed.choices[0].message.parsed, Verdict)
    answered = client.responses.parse(model=MODEL, input=QUESTION, text_format=Verdict, max_output_tokens=60)
    assert isinstance(answered.output_parsed, Verdict)


@check
def responses() -> None:
    answer = client.responses.create(model=MODEL, input=QUESTION, max_output_tokens=12)
    assert answer.output_text
    events = list(client.responses.create(model=MODEL, input=QUESTION, max_output_tokens=12, stream=True))
    assert events[-1].type in {"response.completed", "response.incomplete"}


@check
def completions() -> None:
    answer = client.completions.create(model=MODEL, prompt="The form lies", max_tokens=8, logprobs=1)
    assert answer.choices[0].text
    assert answer.choices[0].logprobs is not None


@check
def embeddings() -> None:
    answer = client.embeddings.create(model=MODEL, input=[QUESTION, "Rain"], encoding_format="float")
    assert len(answer.data[0].embedding) == len(answer.data[1].embedding) > 100
