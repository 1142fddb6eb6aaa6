"""`/v1/messages` through a whole gateway, as Anthropic's clients see it, and what the record says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.core import Role
from tests.harness import Gateway, appliance, gateway, wait_until
from tests.records import closing_of

pytestmark = pytest.mark.integration

PATH, COUNT = "/v1/messages", "/v1/messages/count_tokens"
MODEL = "smollm2-135m-instruct"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(
        tmp_path_factory.mktemp("messages") / "home", toml="[audit]\nrefusal_burst = 1000\n"
    ) as started:
        started.wait_ready()
        yield started


def asked(text: str = "echo: hello", **more: Any) -> dict[str, Any]:
    return {"model": "default", "max_tokens": 200, "messages": [{"role": "user", "content": text}], **more}


def post(running: Gateway, body: dict[str, Any] | bytes, path: str = PATH, **options: Any) -> httpx.Response:
    """As the client does it: the key in `x-api-key`, a version, a query that says beta."""
    key = options.pop("key", None) or running.key(options.pop("role", Role.KIOSK))
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01", "anthropic-beta": "some-beta-2026-01-01"}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with running.client(None, headers=headers) as client:
        return client.post(path, params={"beta": "true"}, content=content)


def good(running: Gateway, body: dict[str, Any], path: str = PATH) -> dict[str, Any]:
    answer = post(running, body, path)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def events_of(text: str) -> list[dict[str, Any]]:
    """The data of each event; its name is its data's type, and nothing else stands on the stream."""
    found = []
    for frame in text.removesuffix("\n\n").split("\n\n"):
        name, data = frame.split("\n")
        said = json.loads(data.removeprefix("data: "))
        assert name == f"event: {said['type']}"
        found.append(said)
    return found


def streamed(running: Gateway, body: dict[str, Any]) -> list[dict[str, Any]]:
    answer = post(running, body | {"stream": True})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return events_of(answer.text)


def assert_error(answer: httpx.Response, status: int, kind: str, code: str) -> None:
    """Anthropic's envelope, with the id that the header says."""
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert set(told) == {"type", "error", "request_id"}
    assert set(told["error"]) == {"type", "message", "details"}
    assert (told["type"], told["error"]["type"]) == ("error", kind)
    assert told["error"]["details"]["error_code"] == code
    assert told["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]


def test_a_whole_answer_has_the_fields_that_clients_require(running: Gateway) -> None:
    """One message, its parts in blocks, its tokens counted, its receipt in the headers."""
    answer = post(running, asked(system="be brief"))
    told = answer.json()
    request_id = answer.headers["request-id"]

    assert answer.status_code == 200, answer.text
    assert told["id"] == f"msg_{request_id.removeprefix('req_')}"
    assert told | {"id": "", "usage": {}} == {
        "id": "",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [{"type": "text", "text": "hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {},
    }
    assert told["usage"]["output_tokens"] == 5
    assert answer.headers["x-audit-record"].endswith(
        f"/{query.by_request(running.home.database, request_id)[0].seq}"
    )


def test_every_event_in_order(running: Gateway) -> None:
    """Start, block, pieces, end of the block, reason and tokens, end; and no `[DONE]`."""
    sent = streamed(running, asked("echo: one two three"))
    kinds = [each["type"] for each in sent]
    pieces = [each["delta"] for each in sent if each["type"] == "content_block_delta"]

    assert [kind for kind in kinds if kind != "content_block_delta"] == [
        "message_start",
        "content_block_start",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert kinds.index("content_block_start") < kinds.index("content_block_delta")
    assert {each["type"] for each in pieces} == {"text_delta"}
    assert "".join(each["text"] for each in pieces) == "one two three"
    assert sent[0]["message"]["content"] == []
    assert sent[0]["message"]["usage"]["input_tokens"] > 0
    assert sent[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    usage = sent[-2]["usage"]
    prompt = usage["input_tokens"] + usage["cache_read_input_tokens"]
    assert prompt == sent[0]["message"]["usage"]["input_tokens"]
    assert usage["output_tokens"] == len("one two three")


def test_a_limit_ends_an_answer(running: Gateway) -> None:
    """`max_tokens` is kept to and told, whole and streamed."""
    body = asked("say 9 tokens", max_tokens=3)
    told, sent = good(running, body), streamed(running, body)

    assert (told["stop_reason"], told["usage"]["output_tokens"]) == ("max_tokens", 3)
    assert sent[-2]["delta"]["stop_reason"] == "max_tokens"


def test_a_stop_sequence_ends_an_answer_and_is_named(running: Gateway) -> None:
    """The one that was met is told; its text is in no block."""
    body = asked("echo: red, green, blue", stop_sequences=["purple", ", blue"])
    told, sent = good(running, body), streamed(running, body)

    assert told["content"] == [{"type": "text", "text": "red, green"}]
    assert (told["stop_reason"], told["stop_sequence"]) == ("stop_sequence", ", blue")
    assert sent[-2]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": ", blue"}


def test_cached_tokens_are_counted_apart(running: Gateway) -> None:
    """A prompt that was computed before is read from the cache, whether or not its blocks say so."""
    system = [{"type": "text", "text": "the same words " * 8, "cache_control": {"type": "ephemeral"}}]
    good(running, asked("echo: a", system=system))
    usage = good(running, asked("echo: b", system=system))["usage"]

    assert usage["cache_read_input_tokens"] > usage["input_tokens"] > 0
    assert usage["cache_creation_input_tokens"] == 0


def test_counts_are_those_of_the_answer(running: Gateway) -> None:
    """What the count says is what an answer's usage says; it takes the same conversation."""
    body = asked("how many?", system="count")
    usage = good(running, body)["usage"]
    del body["max_tokens"]

    count = good(running, body, COUNT)
    assert count == {"input_tokens": usage["input_tokens"] + usage["cache_read_input_tokens"]}


@pytest.mark.parametrize("path", [PATH, COUNT])
def test_both_leave_an_opening_and_a_closing(running: Gateway, path: str) -> None:
    """The opening names the endpoint and seals the conversation with the caller's own words on who asks."""
    body = asked("echo: hi", system="s", metadata={"user_id": "citizen-17"}, speed="standard")
    if path == COUNT:
        del body["max_tokens"]
    answer = post(running, body, path)
    request_id = answer.headers["request-id"]
    found = query.by_request(running.home.database, request_id)
    shown = appliance("audit", "show", request_id, "--json", home=running.home)
    content = json.loads(shown.stdout)["records"][0]["content"]

    assert [each.kind for each in found] == [Kind.REQUEST_OPENED, Kind.REQUEST_CLOSED]
    assert found[0].public["endpoint"] == ("messages" if path == PATH else "input_tokens")
    assert found[1].public["outcome"] == "stop"
    assert [each["content"] for each in content["messages"]] == ["s", "echo: hi"]
    assert content["annotations"] == {"user": "citizen-17", "speed": "standard"}


def test_a_schema_is_kept_to(running: Gateway) -> None:
    """`output_config.format` constrains the answer as `response_format` does in chats."""
    schema = {
        "type": "object",
        "properties": {"open": {"type": "boolean"}},
        "required": ["open"],
        "additionalProperties": False,
    }
    shape = {"type": "json_schema", "schema": schema}
    told = good(running, asked("echo: certainly not JSON", output_config={"format": shape}))

    assert set(json.loads(told["content"][0]["text"])) == {"open"}


REFUSED: dict[str, tuple[dict[str, Any] | bytes, int, str, str]] = {
    "no limit": ({"model": "default", "messages": []}, 400, "invalid_request_error", "invalid_value"),
    "image": (
        asked() | {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
        400,
        "invalid_request_error",
        "unsupported_parameter",
    ),
    "no JSON": (b'{"model": ', 400, "invalid_request_error", "invalid_json"),
    "unknown": (asked(colour=1), 400, "invalid_request_error", "unknown_parameter"),
    "model": (asked(model="gpt-9"), 404, "not_found_error", "model_not_found"),
    "large": (asked("x" * 5_000_000), 413, "request_too_large", "request_too_large"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_have_anthropics_envelope(running: Gateway, case: str) -> None:
    """Each mistake: its status, type and code, and one `request:refused` on the record."""
    body, status, kind, code = REFUSED[case]
    answer = post(running, body)

    assert_error(answer, status, kind, code)
    found = query.by_request(running.home.database, answer.headers["request-id"])
    assert [(each.kind, each.public["code"], each.public["route"]) for each in found] == [
        (Kind.REQUEST_REFUSED, code, PATH)
    ]


def test_the_worker_refuses_in_the_same_envelope(running: Gateway) -> None:
    """What only the worker can know has an opening and a closing that says why."""
    answer = post(running, asked("word " * 60_000))

    assert_error(answer, 400, "invalid_request_error", "context_length_exceeded")
    closing = closing_of(running.home, answer.headers["request-id"])
    assert (closing.public["outcome"], closing.public["code"]) == ("failed", "context_length_exceeded")


@pytest.mark.parametrize("path", [PATH, COUNT])
def test_the_border_speaks_anthropics_envelope_on_these_paths(running: Gateway, path: str) -> None:
    """A wrong key, a wrong role and a wrong method, before any route has looked at the request."""
    assert_error(post(running, asked(), path, key="apk_no"), 401, "authentication_error", "invalid_api_key")
    refused = post(running, asked(), path, role=Role.AUDITOR)
    assert_error(refused, 403, "permission_error", "permission_denied")
    with running.client() as client:
        assert_error(client.get(path), 405, "invalid_request_error", "method_not_allowed")
        assert_error(client.post("/v1/messages/batches"), 404, "not_found_error", "not_found")


def test_other_paths_keep_openais_envelope(running: Gateway) -> None:
    """A version header of Anthropic's changes nothing elsewhere."""
    with running.client(None, headers={"anthropic-version": "2023-06-01"}) as client:
        for path in ("/v1/models", "/v1/chat/completions", "/v1/messagesque"):
            answer = client.post(path, json={})
            assert answer.status_code == 401
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
            assert answer.headers["request-id"] == answer.headers["x-request-id"]


def test_both_headers_open_and_no_version_is_needed(running: Gateway) -> None:
    """A bearer token does as well, and a caller who names no version is served."""
    with running.client() as client:
        assert client.post(PATH, json=asked()).status_code == 200


def test_a_failure_in_the_middle_of_a_stream_is_an_event(running: Gateway) -> None:
    """A worker that dies ends the stream with `event: error` and no `message_stop`."""
    sent = streamed(running, asked("please crash; say 9 tokens"))
    running.wait_ready()

    assert sent[0]["type"] == "message_start"
    assert sent[-1]["type"] == "error"
    assert sent[-1]["error"]["type"] == "api_error"
    assert sent[-1]["error"]["details"]["error_code"] == "engine_failed"
    assert "message_stop" not in [each["type"] for each in sent]


def test_a_caller_who_leaves_is_closed_once(running: Gateway) -> None:
    """Streamed or whole: the answer ends soon after, and the record says client_gone once."""
    body = asked("please be slow; say 400 tokens", max_tokens=400)
    key = running.key()
    with running.client(None, headers={"x-api-key": key}) as client:
        with client.stream("POST", PATH, json=body | {"stream": True}) as answer:
            next(answer.iter_lines())
        with pytest.raises(httpx.ReadTimeout):
            client.post(PATH, json=body, timeout=0.7)

    def gone() -> list[query.Record]:
        closings = query.search(running.home.database, kind=Kind.REQUEST_CLOSED, limit=1000)
        return [each for each in closings if each.public["outcome"] == "client_gone"]

    wait_until(lambda: len(gone()) == 2)
    assert answer.headers["request-id"] in {each.request_id for each in gone()}
    for each in gone():
        closing = closing_of(running.home, str(each.request_id))
        assert int(closing.public["completion_tokens"]) < 100
