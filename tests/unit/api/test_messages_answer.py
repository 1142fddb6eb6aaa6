"""Answers in Anthropic's words: blocks in their order, each event, and why an answer ended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from appliance.api.answering import Choice, Whole
from appliance.api.messages_answer import MessageStream, Teller
from appliance.core import (
    Caller,
    CallPart,
    ChatMessage,
    Delta,
    Finished,
    FinishReason,
    InferenceRequest,
    ModelSpec,
    Part,
    Principal,
    ReasoningPart,
    Role,
    SamplingParams,
    TextPart,
    Usage,
)
from appliance.errors import ApplianceError, Unavailable
from appliance.exchange import Exchange
from appliance.terms import Endpoint

USAGE = Usage(prompt_tokens=30, completion_tokens=9, cached_tokens=20, reasoning_tokens=4)
PARTS: tuple[Part, ...] = (
    ReasoningPart("a "),
    ReasoningPart("town"),
    TextPart("let me "),
    TextPart("see"),
    CallPart(0, "weather"),
    CallPart(0, arguments='{"town":'),
    CallPart(0, arguments='"Köln"}'),
    CallPart(1, "clock", "{}"),
)
Thoughts = Literal["shown", "omitted", "none"]


def ended(reason: FinishReason = FinishReason.STOP, stop: str = "") -> Finished:
    return Finished(reason=reason, usage=USAGE, reasons=(reason,), stops=(stop,))


def exchange() -> Exchange:
    request = InferenceRequest(
        request_id="req_0123456789abcdef0123456789abcdef",
        model="m",
        messages=(ChatMessage("user", "hi"),),
        sampling=SamplingParams(),
        endpoint=Endpoint.MESSAGES,
    )
    model = ModelSpec(id="m", sha256="", size_bytes=0, path=Path())
    made = Exchange(request, Principal("k", "n", Role.KIOSK), Caller(""), model)
    made.prompt_tokens = 30
    return made


def whole(parts: Sequence[Part], finished: Finished, thoughts: Thoughts = "shown") -> dict[str, Any]:
    async def tell() -> dict[str, Any]:
        choice = Choice()
        choice.add(Delta("", parts=tuple(parts)))
        return Teller(exchange(), thoughts).whole(Whole([choice], finished)).model_dump()

    return asyncio.run(tell())


def events(
    parts: Sequence[Part], end: Finished | ApplianceError, thoughts: Thoughts = "shown"
) -> list[dict[str, Any]]:
    """Everything that is sent; each event's name is its data's type."""

    async def tell() -> bytes:
        made = exchange()
        sent: list[bytes] = []
        for part in parts:
            made.deliver(Delta("", parts=(part,)))
        if isinstance(end, Finished):
            made.finish(end)
        else:
            made.fail(end)

        async def send(message: Any) -> None:
            sent.append(message.get("body", b""))

        await MessageStream(Teller(made, thoughts), made, "req_1")({}, asyncio.Event().wait, send)  # type: ignore[arg-type]
        return b"".join(sent)

    found = []
    for frame in asyncio.run(tell()).decode().removesuffix("\n\n").split("\n\n"):
        name, data = frame.split("\n")
        said = json.loads(data.removeprefix("data: "))
        assert name == f"event: {said['type']}"
        found.append(said)
    return found


def accumulated(sent: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks, as a client puts them together."""
    blocks: list[dict[str, Any]] = []
    arguments: dict[int, str] = {}
    for each in sent:
        match each["type"], each.get("delta", {}):
            case "content_block_start", _:
                assert each["index"] == len(blocks)
                blocks.append(dict(each["content_block"]))
            case "content_block_delta", {"type": "text_delta", "text": text}:
                blocks[each["index"]]["text"] += text
            case "content_block_delta", {"type": "thinking_delta", "thinking": text}:
                blocks[each["index"]]["thinking"] += text
            case "content_block_delta", {"type": "input_json_delta", "partial_json": text}:
                arguments[each["index"]] = arguments.get(each["index"], "") + text
    for index, text in arguments.items():
        blocks[index]["input"] = json.loads(text)
    return blocks


def test_every_event_in_its_order() -> None:
    """Thoughts, words and calls: each block begins, goes on and ends before the next one begins."""
    sent = events(PARTS, ended(FinishReason.TOOL_CALLS))
    shapes = [(each["type"], each.get("index"), each.get("delta", {}).get("type")) for each in sent]

    def block(index: int, kind: str, num: int) -> list[tuple[str, int | None, str | None]]:
        deltas = [("content_block_delta", index, kind)] * num
        return [("content_block_start", index, None), *deltas, ("content_block_stop", index, None)]

    assert shapes == [
        ("message_start", None, None),
        *block(0, "thinking_delta", 2),
        *block(1, "text_delta", 2),
        *block(2, "input_json_delta", 2),
        *block(3, "input_json_delta", 1),
        ("message_delta", None, None),
        ("message_stop", None, None),
    ]
    assert sent[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}


@pytest.mark.parametrize("thoughts", ["shown", "omitted", "none"])
def test_streams_and_whole_answers_say_the_same(thoughts: Thoughts) -> None:
    """The same blocks with the same ids, the same usage and the same end."""
    finished = ended(FinishReason.TOOL_CALLS)
    sent = events(PARTS, finished, thoughts)
    message = whole(PARTS, finished, thoughts)

    assert accumulated(sent) == message["content"]
    assert sent[0]["message"] | {"content": 0, "stop_reason": 0, "usage": 0} == message | {
        "content": 0,
        "stop_reason": 0,
        "usage": 0,
    }
    assert sent[-2]["usage"] == message["usage"]
    assert sent[-2]["delta"]["stop_reason"] == message["stop_reason"]


def test_blocks_have_the_fields_that_clients_require() -> None:
    """A signature is there and empty; ids are derived, so that the same answer has the same ones."""
    content = whole(PARTS, ended(FinishReason.TOOL_CALLS))["content"]

    assert content == [
        {"type": "thinking", "thinking": "a town", "signature": ""},
        {"type": "text", "text": "let me see"},
        {
            "type": "tool_use",
            "id": "toolu_0123456789abcdef01230000",
            "name": "weather",
            "input": {"town": "Köln"},
        },
        {"type": "tool_use", "id": "toolu_0123456789abcdef01230001", "name": "clock", "input": {}},
    ]


def test_thoughts_come_only_where_they_were_asked_for() -> None:
    """Omitted ones leave an empty block, unasked ones none."""
    assert whole(PARTS[:3], ended(), "omitted")["content"][0]["thinking"] == ""
    assert [each["type"] for each in whole(PARTS[:3], ended(), "none")["content"]] == ["text"]


def test_usage_counts_cached_tokens_apart() -> None:
    """`input_tokens` is what was computed; a stream's start knows the prompt's length only."""
    start, *_, delta, _stop = events(PARTS, ended())

    assert start["message"]["usage"]["input_tokens"] == 30
    assert delta["usage"] == {
        "input_tokens": 10,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 20,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 4},
    }


@pytest.mark.parametrize(
    ("finished", "expected"),
    [
        (ended(), ("end_turn", None)),
        (ended(stop="\n\nHuman:"), ("stop_sequence", "\n\nHuman:")),
        (ended(FinishReason.LENGTH), ("max_tokens", None)),
        (ended(FinishReason.TOOL_CALLS, stop="x"), ("tool_use", None)),
        (ended(FinishReason.CONTENT_FILTER), ("refusal", None)),
    ],
)
def test_each_end_has_its_reason(finished: Finished, expected: tuple[str, str | None]) -> None:
    """Whole and streamed alike; a stop sequence is told by its text."""
    message = whole([TextPart("a")], finished)
    delta = events([TextPart("a")], finished)[-2]["delta"]

    assert (message["stop_reason"], message["stop_sequence"]) == expected
    assert delta == {"stop_reason": expected[0], "stop_sequence": expected[1]}


def test_a_call_that_was_cut_off_is_none() -> None:
    """What has no end could be carried out wrongly: a whole answer leaves it out."""
    cut: list[Part] = [TextPart("a"), CallPart(0, "weather", '{"town": "K')]

    assert [each["type"] for each in whole(cut, ended(FinishReason.LENGTH))["content"]] == ["text"]


def test_an_answer_may_be_empty() -> None:
    """No block at all, and all the other events."""
    assert whole([], ended())["content"] == []
    assert [each["type"] for each in events([], ended())] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]


def test_a_failure_in_the_middle_is_an_event() -> None:
    """It has Anthropic's shape, and nothing comes behind it."""
    sent = events([TextPart("a")], Unavailable("the model's worker has died", code="engine_failed"))

    assert [each["type"] for each in sent] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "error",
    ]
    assert sent[-1]["error"]["type"] == "api_error"
    assert sent[-1]["request_id"] == "req_1"
