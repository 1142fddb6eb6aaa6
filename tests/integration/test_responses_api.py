"""`/v1/responses` over a whole gateway: the official client with strict validation, and the bare wire."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.core import Role
from tests.harness import Gateway, gateway, wait_until
from tests.records import assert_verified, closing_of

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("responses") / "home") as started:
        started.key(Role.KIOSK)
        yield started
        started.stop()
        assert_verified(started.home)


def post(running: Gateway, **body: Any) -> httpx.Response:
    with running.client() as client:
        return client.post("/v1/responses", json={"model": "default"} | body)


def events_of(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Each event's data; its `event:` line says the same type."""
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            data = json.loads(line.removeprefix("data: "))
            assert data["type"] == name
            yield data


def closed(running: Gateway, request_id: str) -> bool:
    found = query.by_request(running.home.database, request_id)
    return any(each.kind is Kind.REQUEST_CLOSED for each in found)


def test_whole_answer(client: openai.OpenAI) -> None:
    """One message with its text, usage, and the request as it was understood."""
    answer = client.responses.create(
        model="default", input="echo: good morning", metadata={"a": "b"}, instructions="be brief"
    )

    assert answer.output_text == "good morning"
    assert (answer.status, answer.error, answer.incomplete_details) == ("completed", None, None)
    assert [each.type for each in answer.output] == ["message"]
    assert (answer.metadata, answer.instructions) == ({"a": "b"}, "be brief")
    assert (answer.model, answer.object) == ("smollm2-135m-instruct", "response")
    assert answer.usage is not None
    assert answer.usage.input_tokens_details.cache_write_tokens == 0
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer.to_dict()["store"] is False
    assert answer._request_id is not None
    assert answer.id == answer._request_id.replace("req_", "resp_")


def test_a_stream_is_the_same_answer_in_events(client: openai.OpenAI) -> None:
    """The client's own accumulator takes every event, and ends with what the whole answer would be."""
    with client.responses.stream(model="default", input="echo: grüß Gott, 東京!") as stream:
        events = list(stream)
        final = stream.get_final_response()

    assert final.output_text == "grüß Gott, 東京!"
    assert [each.type for each in events[:4]] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert [each.sequence_number for each in events] == list(range(len(events)))
    pieces = [each.delta for each in events if each.type == "response.output_text.delta"]
    assert "".join(pieces) == final.output_text
    whole = client.responses.create(model="default", input="echo: grüß Gott, 東京!")
    assert whole.output_text == final.output_text
    assert whole.usage is not None
    assert final.usage is not None
    assert whole.usage.output_tokens == final.usage.output_tokens


def test_the_wire_names_its_events_and_ends_with_the_response(running: Gateway) -> None:
    """`event:` lines, one response id throughout, no `[DONE]`, and the receipt in the headers."""
    with (
        running.client() as client,
        client.stream(
            "POST", "/v1/responses", json={"model": "default", "input": "echo: x", "stream": True}
        ) as answer,
    ):
        lines = list(answer.iter_lines())
    events = list(events_of(iter(lines)))

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-audit-record"]
    assert "data: [DONE]" not in lines
    assert events[-1]["type"] == "response.completed"
    assert {each["response"]["id"] for each in events if "response" in each} == {
        answer.headers["x-request-id"].replace("req_", "resp_")
    }


def test_items_of_an_answer_can_be_sent_back(client: openai.OpenAI) -> None:
    """A conversation grows by the answer's own items and is told to the model in its order."""
    asked: Any = [{"role": "user", "content": "echo: one"}]
    first = client.responses.create(model="default", input=asked)
    sent_back: list[Any] = [each.to_dict() for each in first.output]
    second = client.responses.create(
        model="default", input=[*asked, *sent_back, {"role": "user", "content": "echo: two"}]
    )

    assert second.output_text == "two"
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens


def test_a_limit_makes_an_incomplete_response(client: openai.OpenAI) -> None:
    """`max_output_tokens`: the status says so, whole and streamed."""
    whole = client.responses.create(model="default", input="echo: abcdefghij", max_output_tokens=3)
    events = list(
        client.responses.create(model="default", input="echo: abcdefghij", max_output_tokens=3, stream=True)
    )

    assert (whole.status, whole.output_text, whole.max_output_tokens) == ("incomplete", "abc", 3)
    assert whole.incomplete_details is not None
    assert whole.incomplete_details.reason == "max_output_tokens"
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.output[0].status == "incomplete"  # type: ignore[union-attr]


def test_an_answer_keeps_to_its_schema(client: openai.OpenAI) -> None:
    """`text.format` constrains the answer, and comes back as it was sent."""
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    answer = client.responses.create(
        model="default",
        input='echo: {"ok":true}',
        text={"format": {"type": "json_schema", "name": "verdict", "schema": schema, "strict": True}},
    )
    any_object = client.responses.create(
        model="default", input='echo: {"a":1}', text={"format": {"type": "json_object"}}
    )

    assert json.loads(answer.output_text) == {"ok": True}
    assert answer.text is not None
    assert answer.text.format is not None
    assert answer.text.format.to_dict()["schema"] == schema
    assert json.loads(any_object.output_text) == {"a": 1}


def test_refusals_are_the_clients_own_classes(running: Gateway, client: openai.OpenAI) -> None:
    """Before the first byte a refusal has a status of its own, streamed or not."""
    for stream in (False, True):
        with pytest.raises(openai.NotFoundError) as unknown:
            client.responses.create(model="gpt-9", input="x", stream=stream)
        assert unknown.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError) as built_in:
            client.responses.create(model="default", input="x", tools=[{"type": "web_search"}], stream=stream)
        assert (built_in.value.code, built_in.value.param) == ("unsupported_parameter", "tools[0].type")
        with pytest.raises(openai.BadRequestError) as long:
            client.responses.create(model="default", input="x" * 20_000, stream=stream)
        assert long.value.code == "context_length_exceeded"
    with running.client(Role.OPERATOR) as wrong:
        assert wrong.post("/v1/responses", json={"model": "default", "input": "x"}).status_code == 403


def test_a_failure_in_the_middle_is_told_in_events(running: Gateway) -> None:
    """The status was sent: `error` says why, `response.failed` ends the stream, the record is closed once."""
    with (
        running.client() as client,
        client.stream(
            "POST",
            "/v1/responses",
            json={"model": "default", "input": "please crash; say 20 tokens", "stream": True},
        ) as answer,
    ):
        assert answer.status_code == 200
        events = list(events_of(answer.iter_lines()))
    error, failed = events[-2:]

    assert error["type"] == "error"
    assert set(error) == {"type", "code", "message", "param", "sequence_number"}
    assert error["code"] == "engine_failed"
    assert failed["type"] == "response.failed"
    assert failed["response"]["error"]["code"] == "server_error"
    assert [each["sequence_number"] for each in events] == list(range(len(events)))
    assert closing_of(running.home, answer.headers["x-request-id"]).public["outcome"] == "failed"
    running.wait_ready()


def test_a_failure_of_a_whole_answer_is_a_status(running: Gateway) -> None:
    """Nothing was sent yet: 503, in the shape of every error."""
    answer = post(running, input="please crash; say 20 tokens")

    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "engine_failed"
    assert closing_of(running.home, answer.headers["x-request-id"]).public["outcome"] == "failed"
    running.wait_ready()


@pytest.mark.parametrize("num_events", [1, 6])
def test_a_caller_who_leaves_closes_the_record_once(running: Gateway, num_events: int) -> None:
    """After the first event or in the middle of the text: decoding stops, one closing, `client_gone`."""
    body = {"model": "default", "input": "please be slow; say 400 tokens", "stream": True}
    with running.client() as client, client.stream("POST", "/v1/responses", json=body) as answer:
        events = events_of(answer.iter_lines())
        for _ in range(num_events):
            next(events)
    request_id = answer.headers["x-request-id"]
    wait_until(lambda: closed(running, request_id))
    closing = closing_of(running.home, request_id)

    assert closing.public["outcome"] == "client_gone"
    assert int(closing.public["completion_tokens"]) < 200


def test_nothing_is_stored_unless_a_key_may(running: Gateway) -> None:
    """`store: true` and earlier responses are refused clearly, never ignored."""
    for param, value in (("store", True), ("previous_response_id", "resp_1")):
        answer = post(running, input="x", **{param: value})
        assert answer.status_code == 403
        assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (
            "store_not_allowed",
            param,
        )


def test_tools_and_effort_count_as_they_are_told(running: Gateway) -> None:
    """`input_tokens` takes the same input as an answer, and says what its usage says."""
    body = {
        "model": "default",
        "input": [{"role": "user", "content": "echo: x"}, {"role": "assistant", "content": "x"},
                  {"role": "user", "content": "echo: y"}],
        "instructions": "be brief",
    }  # fmt: skip
    with running.client() as client:
        counted = client.post("/v1/responses/input_tokens", json=body).json()
        answered = client.post("/v1/responses", json=body).json()

    assert counted["input_tokens"] == answered["usage"]["input_tokens"]


def test_the_examples_of_the_guide_run(client: openai.OpenAI, capsys: pytest.CaptureFixture[str]) -> None:
    """As they stand, but for the address."""
    guide = (ROOT / "deploy" / "guides" / "api.md").read_text()
    section = guide.split("## Responses\n")[1].split("\n## ")[0]
    examples = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    for example in examples:
        exec(compile(example, "api.md", "exec"), {"client": client})  # noqa: S102 - our own guide

    assert len(examples) == 2
    assert capsys.readouterr().out.startswith("ok completed 2")
