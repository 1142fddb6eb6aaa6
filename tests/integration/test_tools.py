"""Tools through a whole gateway: told in words, called in the answer, on the record as they were written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema  # type: ignore[import-untyped]
import pytest

from tests.harness import Gateway, appliance, gateway, question, sse
from tests.records import closing_of

pytestmark = pytest.mark.integration

PARAMETERS = {
    "type": "object",
    "properties": {
        "form": {"enum": ["A12", "B7"]},
        "copies": {"type": "integer", "minimum": 1, "maximum": 3},
    },
    "required": ["form", "copies"],
    "additionalProperties": False,
}
TOOLS = [
    {
        "type": "function",
        "function": {"name": "fetch_form", "description": "Gets a form.", "parameters": PARAMETERS},
    },
    {
        "type": "function",
        "function": {"name": "open_counter", "parameters": {"type": "object", "properties": {}}},
    },
]
ARGUMENTS = '{"form": "B7", "copies": 2}'
CALL = f'<tool_call>␤{{"name": "fetch_form", "arguments": {ARGUMENTS}}}␤</tool_call>'


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("tools") / "home") as started:
        yield started


def ask(running: Gateway, text: str, **options: Any) -> httpx.Response:
    return running.chat(text, **({"tools": TOOLS} | options))


def choice_of(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["choices"][0]
    return found


def called(answer: httpx.Response) -> list[tuple[str, Any]]:
    calls = choice_of(answer)["message"]["tool_calls"]
    return [(each["function"]["name"], json.loads(each["function"]["arguments"])) for each in calls]


def contents(running: Gateway, answer: httpx.Response) -> list[dict[str, Any]]:
    shown = appliance("audit", "show", answer.headers["x-request-id"], "--json", home=running.home)
    return [record["content"] or {} for record in json.loads(shown.stdout)["records"]]


def test_a_call_is_a_call_and_the_record_has_what_was_written(running: Gateway) -> None:
    """The caller gets name and arguments, the record the text; both say `tool_calls`."""
    answer = ask(running, f"echo: I look.␤{CALL}")
    choice = choice_of(answer)

    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "I look."
    (call,) = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "fetch_form", "arguments": ARGUMENTS}
    assert CALL.replace("␤", "\n") in json.dumps(contents(running, answer), ensure_ascii=False).replace(
        "\\n", "\n"
    ).replace('\\"', '"')
    closing = closing_of(running.home, answer.headers["x-request-id"])
    assert closing.public["outcome"] == "tool_calls"


def test_streamed_calls_come_in_pieces_that_make_the_same(running: Gateway) -> None:
    """Two calls: each begins with its name, and its arguments join to JSON."""
    body = question(f"echo: {CALL}␤{CALL}", tools=TOOLS, stream=True)
    pieces: list[dict[str, Any]] = []
    reason = ""
    with running.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as stream:
        for event in sse(stream.iter_lines()):
            if isinstance(event, dict):
                delta = event["choices"][0]["delta"]
                assert not delta.get("content"), delta
                pieces += delta.get("tool_calls") or []
                reason = event["choices"][0]["finish_reason"] or reason

    assert reason == "tool_calls"
    for index in (0, 1):
        own = [each["function"] for each in pieces if each["index"] == index]
        assert own[0]["name"] == "fetch_form"
        assert "".join(each["arguments"] for each in own) == ARGUMENTS


@pytest.mark.parametrize(
    "script", ["echo: I would rather talk.", f"echo: {CALL.replace('B7', 'C9')}", "say 3 tokens"]
)
def test_required_and_named_are_kept_whatever_the_model_says(running: Gateway, script: str) -> None:
    """There is a call of a tool that was offered, and its arguments validate."""
    for wanted, names in (
        ("required", {"fetch_form", "open_counter"}),
        ({"type": "function", "function": {"name": "fetch_form"}}, {"fetch_form"}),
    ):
        offered = TOOLS[:1] if "say" in script else TOOLS
        answer = ask(running, script, tool_choice=wanted, tools=offered, max_tokens=400)
        assert choice_of(answer)["finish_reason"] == "tool_calls"
        assert choice_of(answer)["message"]["content"] is None
        for name, arguments in called(answer):
            assert name in names
            if name == "fetch_form":
                jsonschema.validate(arguments, PARAMETERS)


def test_without_parallel_calls_there_is_one_at_most(running: Gateway) -> None:
    """A second call is not let through."""
    answer = ask(running, f"echo: {CALL}␤{CALL}", parallel_tool_calls=False)

    assert len(called(answer)) == 1


def test_auto_may_answer_in_words(running: Gateway) -> None:
    """Text is text, to the letter, and a call of a tool that was not offered can not be written."""
    assert choice_of(ask(running, "echo: Form B7, please. "))["message"]["content"] == "Form B7, please. "
    refused = ask(running, "echo: " + CALL.replace("fetch_form", "burn_form"), max_tokens=300)
    assert all(name != "burn_form" for name, _ in called(refused))


def test_where_no_tools_are_offered_nothing_is_a_call(running: Gateway) -> None:
    """`tool_choice: none` and no tools at all leave the text as it is."""
    nothing: tuple[dict[str, Any], ...] = ({"tools": []}, {"tool_choice": "none"})
    for options in nothing:
        choice = choice_of(ask(running, f"echo: {CALL}", **options))
        assert choice["finish_reason"] == "stop"
        assert choice["message"]["content"] == CALL.replace("␤", "\n")


def test_a_conversation_goes_on_behind_a_result(running: Gateway) -> None:
    """Earlier calls and their results reach the model; the answer to them is one like any other."""
    body = {
        "model": "default",
        "tools": TOOLS,
        "messages": [
            {"role": "user", "content": "Form B7?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "fetch_form", "arguments": ARGUMENTS},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "It is at counter 3."},
            {"role": "user", "content": "echo: Counter 3."},
        ],
    }
    with running.client() as client:
        choice = choice_of(client.post("/v1/chat/completions", json=body))

    assert (choice["message"]["content"], choice["finish_reason"]) == ("Counter 3.", "stop")


def test_tools_count_as_prompt(running: Gateway) -> None:
    """What is told of them is read by the model, and counted."""
    with_tools = ask(running, "echo: hi").json()["usage"]["prompt_tokens"]

    assert with_tools > running.chat("echo: hi").json()["usage"]["prompt_tokens"] + 100


def test_schemas_of_tools_are_checked_like_others(running: Gateway) -> None:
    """One that can not be kept to is refused by its place, before anything is computed."""
    bad = {"type": "object", "properties": {"a": {"type": "string", "contentEncoding": "base64"}}}
    tools = [*TOOLS, {"type": "function", "function": {"name": "odd", "parameters": bad}}]
    error = ask(running, "echo: hi", tools=tools).json()["error"]

    assert (error["code"], error["param"]) == ("unsupported_schema", "tools[2]")


def test_effort_of_a_model_that_does_not_think(running: Gateway) -> None:
    """`none` asks for nothing; anything else is refused by name."""
    assert running.chat("echo: hi", reasoning_effort="none").status_code == 200
    error = running.chat("echo: hi", reasoning_effort="high").json()["error"]

    assert (error["code"], error["param"]) == ("unsupported_parameter", "reasoning_effort")


def test_the_models_page_says_how_tools_are_told(running: Gateway) -> None:
    """A template that knows no tools is said so; the list has no such line."""
    with running.client() as client:
        page = client.get("/v1/models/default").json()
        listed = client.get("/v1/models").json()["data"][0]

    assert page["tools"] == {"format": "in_words", "native": False}
    assert page["reasoning"] is False
    assert "tools" not in listed
