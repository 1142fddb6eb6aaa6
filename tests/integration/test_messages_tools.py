"""Tools and thoughts through a whole gateway, in Anthropic's blocks."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness import Gateway, appliance, gateway
from tests.homes import make_home
from tests.integration.test_messages_api import COUNT, PATH, asked, assert_error, good, post, streamed
from tests.records import closing_of

pytestmark = pytest.mark.integration

SCHEMA = {
    "type": "object",
    "properties": {"town": {"type": "string", "maxLength": 10}},
    "required": ["town"],
    "additionalProperties": False,
}
WEATHER = {"name": "weather", "description": "The weather of a town", "input_schema": SCHEMA}
CLOCK = {"name": "clock", "input_schema": {"type": "object", "properties": {}}}
BONN = '<tool_call>␤{"name": "weather", "arguments": {"town": "Bonn"}}␤</tool_call>'
TIME = '<tool_call>␤{"name": "clock", "arguments": {}}␤</tool_call>'
BUDGET = {"type": "enabled", "budget_tokens": 1024}
THOUGHT = "echo: <think>a town on the Rhine</think>Bonn"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("tools") / "home") as started:
        started.wait_ready()
        yield started


@pytest.fixture(scope="module")
def thinking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose model thinks."""
    program = [sys.executable, "-m", "tests.fakes.serve", "--worker", "tests.fakes.thinking_worker"]
    started = Gateway(home=make_home(tmp_path_factory.mktemp("thinking") / "home"), program=program)
    try:
        started.start().wait_ready()
        yield started
    finally:
        if started.process is not None and started.process.poll() is None:
            started.stop()


def calls_of(message: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(each["name"], each["input"]) for each in message["content"] if each["type"] == "tool_use"]


def opening(running: Gateway, request_id: str) -> dict[str, Any]:
    """What the record seals of a question."""
    shown = appliance("audit", "show", request_id, "--json", home=running.home)
    content: dict[str, Any] = json.loads(shown.stdout)["records"][0]["content"]
    return content


def test_calls_are_blocks_with_their_input_as_an_object(running: Gateway) -> None:
    """Words first, then each call with an id of its own; the reason is `tool_use`."""
    answer = post(running, asked(f"echo: I look.␤{BONN}␤{TIME}", tools=[WEATHER, CLOCK]))
    told = answer.json()

    assert [each["type"] for each in told["content"]] == ["text", "tool_use", "tool_use"]
    assert told["content"][0]["text"] == "I look."
    assert calls_of(told) == [("weather", {"town": "Bonn"}), ("clock", {})]
    ids = [each["id"] for each in told["content"][1:]]
    assert len(set(ids)) == 2
    assert all(each.startswith("toolu_") for each in ids)
    assert (told["stop_reason"], told["stop_sequence"]) == ("tool_use", None)
    assert closing_of(running.home, answer.headers["request-id"]).public["outcome"] == "tool_calls"


def test_streamed_calls_come_in_blocks_of_their_own(running: Gateway) -> None:
    """A block of a call begins with its name and an empty input; its pieces join to JSON."""
    sent = streamed(running, asked(f"echo: {BONN}␤{TIME}", tools=[WEATHER, CLOCK]))
    starts = [each for each in sent if each["type"] == "content_block_start"]
    pieces: dict[int, str] = {}
    for each in sent:
        if each["type"] == "content_block_delta":
            assert each["delta"]["type"] == "input_json_delta"
            pieces[each["index"]] = pieces.get(each["index"], "") + each["delta"]["partial_json"]

    assert [(each["index"], each["content_block"]["name"]) for each in starts] == [
        (0, "weather"),
        (1, "clock"),
    ]
    assert all(each["content_block"]["input"] == {} for each in starts)
    assert [json.loads(pieces[index]) for index in (0, 1)] == [{"town": "Bonn"}, {}]
    assert sent[-2]["delta"]["stop_reason"] == "tool_use"


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
def test_a_call_that_must_be_is_made(running: Gateway, choice: dict[str, Any]) -> None:
    """Whatever the model would rather say."""
    told = good(running, asked("echo: I would rather talk", tools=[WEATHER], tool_choice=choice))
    ((name, given),) = calls_of(told)

    assert (name, told["stop_reason"]) == ("weather", "tool_use")
    assert given.keys() == {"town"}


def test_one_call_at_most_and_none(running: Gateway) -> None:
    """`disable_parallel_tool_use` lets one call through, `none` leaves the text as it is."""
    both = asked(f"echo: {BONN}␤{BONN}", tools=[WEATHER])
    one = good(running, both | {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}})
    none = good(running, both | {"tool_choice": {"type": "none"}})

    assert len(calls_of(one)) == 1
    assert [each["type"] for each in none["content"]] == ["text"]


def test_what_a_tool_said_goes_back(running: Gateway) -> None:
    """The answer's own blocks come back with the result, and the record has the round as it was."""
    question = asked(f"echo: I look.␤{BONN}", tools=[WEATHER])
    first = good(running, question)
    call = first["content"][1]
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": [{"type": "text", "text": "9 °C"}]}
    more = {"type": "text", "text": "echo: nine degrees"}
    turns = [
        *question["messages"],
        {"role": "assistant", "content": first["content"]},
        {"role": "user", "content": [result, more]},
    ]
    answer = post(running, question | {"messages": turns})

    assert answer.json()["content"] == [{"type": "text", "text": "nine degrees"}]
    told = opening(running, answer.headers["request-id"])["messages"]
    assert [each["role"] for each in told] == ["user", "assistant", "tool", "user"]
    assert told[1]["tool_calls"][0] | {"arguments": ""} == {
        "id": call["id"],
        "name": "weather",
        "arguments": "",
    }
    assert (told[2]["content"], told[2]["tool_call_id"]) == ("9 °C", call["id"])
    failed = [*turns[:2], {"role": "user", "content": [result | {"is_error": True}, more]}]
    answer = post(running, question | {"messages": failed})
    assert opening(running, answer.headers["request-id"])["messages"][2]["content"] == "Error: 9 °C"


def test_tools_are_counted(running: Gateway) -> None:
    """`count_tokens` counts what the model is told of them, as the answer's usage does."""
    body = asked("echo: hi", tools=[WEATHER])
    usage = good(running, body)["usage"]
    del body["max_tokens"]
    count = good(running, body, COUNT)["input_tokens"]

    assert count == usage["input_tokens"] + usage["cache_read_input_tokens"]
    assert count > good(running, body | {"tools": []}, COUNT)["input_tokens"] + 100


def test_schemas_that_can_not_be_kept_to_are_refused(running: Gateway) -> None:
    """By the worker, in Anthropic's envelope."""
    odd = {"type": "object", "properties": {"a": {"type": "string", "contentEncoding": "base64"}}}
    answer = post(running, asked(tools=[WEATHER, CLOCK | {"input_schema": odd}]))

    assert_error(answer, 400, "invalid_request_error", "unsupported_schema")


def test_thoughts_come_in_a_block_before_the_words(thinking: Gateway) -> None:
    """With an empty signature; what they took is counted."""
    told = good(thinking, asked(THOUGHT, max_tokens=2000, thinking=BUDGET))

    assert told["content"] == [
        {"type": "thinking", "thinking": "a town on the Rhine", "signature": ""},
        {"type": "text", "text": "Bonn"},
    ]
    assert told["usage"]["output_tokens_details"]["thinking_tokens"] > 0


def test_streamed_thoughts_have_a_block_of_their_own(thinking: Gateway) -> None:
    """It ends before the text begins."""
    sent = streamed(thinking, asked(THOUGHT, max_tokens=2000, thinking={"type": "adaptive"}))
    starts = [each["content_block"]["type"] for each in sent if each["type"] == "content_block_start"]
    thought = [
        each["delta"]["thinking"]
        for each in sent
        if each["type"] == "content_block_delta" and each["delta"]["type"] == "thinking_delta"
    ]

    assert starts == ["thinking", "text"]
    assert "".join(thought) == "a town on the Rhine"


@pytest.mark.parametrize(
    ("wish", "content", "effort"),
    [
        ({}, ["text"], "none"),
        ({"thinking": {"type": "disabled"}}, ["text"], "none"),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, ["thinking", "text"], None),
        ({"thinking": BUDGET, "output_config": {"effort": "max"}}, ["thinking", "text"], "high"),
    ],
)
def test_thoughts_are_told_where_they_were_asked_for(
    thinking: Gateway, wish: dict[str, Any], content: list[str], effort: str | None
) -> None:
    """What the model is told of it stands on the record, and so do its thoughts."""
    answer = post(thinking, asked(THOUGHT, max_tokens=2000, **wish))

    assert [each["type"] for each in answer.json()["content"]] == content
    assert opening(thinking, answer.headers["request-id"]).get("effort") == effort
    assert answer.json()["content"][0].get("thinking", "") in {"", "a town on the Rhine"}


def test_earlier_thoughts_are_told_to_a_model_that_takes_them(thinking: Gateway) -> None:
    """The block comes back as it was; the prompt is longer by it."""
    first = good(thinking, asked(THOUGHT, max_tokens=2000, thinking=BUDGET))["content"]
    body = asked()
    del body["max_tokens"]
    counts = []
    for blocks in (first, first[1:]):
        turns = [*body["messages"], {"role": "assistant", "content": blocks}, *body["messages"]]
        counts.append(good(thinking, body | {"messages": turns}, COUNT)["input_tokens"])

    assert counts[0] > counts[1]


def test_a_model_that_never_thinks_says_so(running: Gateway) -> None:
    """A budget for it is refused by its place; leaving it to the model is not."""
    refused = post(running, asked(max_tokens=2000, thinking=BUDGET), PATH)

    assert_error(refused, 400, "invalid_request_error", "unsupported_parameter")
    assert refused.json()["error"]["details"]["param"] == "thinking.type"
    assert good(running, asked(thinking={"type": "adaptive"}))["content"][0]["type"] == "text"
