"""Requests that would have the appliance fetch, unpack, misread or repeat something: on each route."""

from __future__ import annotations

import copy
import gzip
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.core import Role
from tests import document
from tests.harness import Gateway, gateway, question

pytestmark = pytest.mark.integration
BODIES = [each for each in document.operations() if each[0] == "POST" and document.body_examples(each[2])]
each_body = pytest.mark.parametrize(
    ("path", "operation"), [each[1:] for each in BODIES], ids=[path for _, path, _ in BODIES]
)
CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
RESPONSES = "/v1/responses"
CANARY = "canary-7f3a"


class Trap:
    """A port of this host that hears whoever asks it anything."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.setblocking(False)  # noqa: FBT003 - its own name for it
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/{CANARY}.png"

    def heard(self) -> bool:
        try:
            self.socket.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@pytest.fixture(scope="module")
def trap() -> Iterator[Trap]:
    made = Trap()
    yield made
    made.socket.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    toml = "[audit]\nrefusal_burst = 10000\n"
    with gateway(tmp_path_factory.mktemp("tricks") / "home", toml=toml) as started:
        started.wait_ready()
        yield started


def example_of(operation: dict[str, Any]) -> dict[str, Any]:
    examples = document.body_examples(operation).values()
    found: dict[str, Any] = next(each["value"] for each in examples if each["x-status"] == 200)
    return copy.deepcopy(found) | ({"stream": False} if "stream" in found else {})


def send(running: Gateway, operation: dict[str, Any], path: str, **options: Any) -> httpx.Response:
    with running.client(Role(operation["x-roles"][0])) as client:
        return client.post(path, **options)


def code_of(answer: httpx.Response) -> Any:
    error = answer.json()["error"]
    return error["code"] if "code" in error else error["details"]["error_code"]


def assert_refused(running: Gateway, answer: httpx.Response, status: int, *codes: str) -> None:
    """Told without a word of what was sent, and on the record."""
    assert answer.status_code == status, answer.text
    assert code_of(answer) in codes, answer.text
    assert CANARY not in answer.text
    records = query.by_request(running.home.database, answer.headers["x-request-id"])
    assert [each.kind for each in records] == [Kind.REQUEST_REFUSED]


def texts_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every text in a body."""
    if isinstance(value, str):
        yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in pairs:
        yield from texts_of(inner, (*path, step))


def put(body: Any, path: tuple[Any, ...], value: Any) -> None:
    *way, last = path
    for step in way:
        body = body[step]
    body[last] = value


@each_body
def test_no_text_of_a_body_is_an_address(
    running: Gateway, trap: Trap, path: str, operation: dict[str, Any]
) -> None:
    """Each text of an example in turn becomes an address of this host: whatever is answered, nobody calls."""
    example = example_of(operation)
    for place in texts_of(example):
        for address in (trap.url, "file:///etc/passwd"):
            body = copy.deepcopy(example)
            put(body, place, address)
            answer = send(running, operation, path, json=body)
            assert answer.status_code < 500, (place, answer.text)
            assert "root:" not in answer.text

    assert not trap.heard()


def parts(url: str) -> list[tuple[str, dict[str, Any]]]:
    """Everything in the three dialects that elsewhere makes a server fetch something."""

    def chat(part: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        return CHAT, {"model": "default", "messages": [{"role": "user", "content": [part]}]}

    def responses(part: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        return RESPONSES, {"model": "default", "input": [{"role": "user", "content": [part]}]}

    def messages(part: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        asked = [{"role": "user", "content": [part]}]
        return MESSAGES, {"model": "default", "max_tokens": 5, "messages": asked}

    ask = question("hello")
    schema = {"type": "object", "properties": {"a": {"$ref": url}}}
    offered = {"type": "function", "function": {"name": "a", "parameters": schema}}
    asked_for = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    mcp = {"type": "mcp", "server_label": "a", "server_url": url}
    return [
        chat({"type": "image_url", "image_url": {"url": url}}),
        chat({"type": "image_url", "image_url": url}),
        chat({"type": "input_audio", "input_audio": {"data": url, "format": "wav"}}),
        chat({"type": "file", "file": {"file_id": url}}),
        (CHAT, ask | {"tools": [mcp]}),
        (CHAT, ask | {"tools": [offered]}),
        (CHAT, ask | {"response_format": asked_for}),
        (CHAT, ask | {"web_search_options": {"user_location": url}}),
        responses({"type": "input_image", "image_url": url}),
        responses({"type": "input_file", "file_url": url}),
        (RESPONSES, {"model": "default", "input": "x", "tools": [mcp]}),
        (RESPONSES, {"model": "default", "input": "x", "tools": [{"type": "web_search", "url": url}]}),
        messages({"type": "image", "source": {"type": "url", "url": url}}),
        messages({"type": "document", "source": {"type": "url", "url": url}}),
        (MESSAGES, messages({"type": "text", "text": "x"})[1] | {"mcp_servers": [mcp]}),
    ]


@pytest.mark.parametrize("number", range(len(parts(""))))
def test_what_would_be_fetched_is_refused(running: Gateway, trap: Trap, number: int) -> None:
    """Pictures, files, servers and schemas by address: of this host, its files, a cloud's metadata."""
    for url in (
        trap.url,
        f"file:///etc/{CANARY}",
        f"http://169.254.169.254/{CANARY}",
        f"gopher://127.0.0.1/{CANARY}",
    ):
        path, body = parts(url)[number]
        with running.client() as client:
            answer = client.post(path, json=body)
        assert answer.status_code == 400, answer.text
        assert CANARY not in answer.text

    assert not trap.heard()


@each_body
def test_nothing_is_unpacked(running: Gateway, path: str, operation: dict[str, Any]) -> None:
    """A bomb of a thousand to one stays packed, under whichever name it comes."""
    bomb = gzip.compress(b'{"pad": "' + b"x" * 50_000_000 + b'"}')
    for coding in ("gzip", "deflate", "br", "zstd", "identity, gzip"):
        headers = {"content-encoding": coding}
        answer = send(running, operation, path, content=bomb, headers=headers)
        assert_refused(running, answer, 415, "unsupported_encoding")
    assert answer.headers["accept-encoding"] == "identity"
    assert_refused(running, send(running, operation, path, content=bomb), 400, "invalid_json")


@each_body
def test_only_json_is_read(running: Gateway, path: str, operation: dict[str, Any]) -> None:
    """A form, XML or a text is none, also where its bytes would be."""
    body = json.dumps(example_of(operation)).encode()
    for kind in (
        "text/plain",
        "application/xml",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
    ):
        answer = send(running, operation, path, content=body, headers={"content-type": kind})
        assert_refused(running, answer, 415, "unsupported_media_type")


@each_body
def test_json_is_read_in_one_way(running: Gateway, path: str, operation: dict[str, Any]) -> None:
    """A member twice, a half character, another encoding, something behind the end, and no number."""
    whole = json.dumps(example_of(operation))
    name, value = next(iter(example_of(operation).items()))
    same = json.dumps(value)
    for body in (
        whole[:-1] + f', "{name}": {same}}}',
        whole[:-1] + f', "{name[:-1]}\\u{ord(name[-1]):04x}": {same}}}',
        whole[:-1] + ', "user": "\\ud800"}',
        whole[:-1] + ', "user": "\\udc00\\ud800"}',
        whole + f' {{"{CANARY}": 1}}',
        whole + f"// {CANARY}",
        "\ufeff" + whole,
        whole[:-1] + ', "a": ' + "9" * 5000 + "}",
        whole[:-1] + ', "a": ' + "[" * 300 + "]" * 300 + "}",
        whole[:-1] + ', "a": ' + '{"a":' * 300 + "1" + "}" * 300 + "}",
    ):
        assert_refused(running, send(running, operation, path, content=body.encode()), 400, "invalid_json")
    for other in ("utf-16", "utf-32"):
        assert_refused(
            running, send(running, operation, path, content=whole.encode(other)), 400, "invalid_json"
        )


@pytest.mark.parametrize(
    "name", ["a\u202eb", "a\0b", "a\u200bb", "\u0430bc", "a/../b", "a b", "{{7*7}}", "a" * 65, ""]
)
def test_names_are_plain(running: Gateway, name: str) -> None:
    """Of tools, schemas and models: what looks like another name is none."""
    offered = {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    asked_for = {"type": "json_schema", "json_schema": {"name": name, "schema": {"type": "object"}}}
    for extra in ({"tools": [offered]}, {"response_format": asked_for}):
        with running.client() as client:
            answer = client.post(CHAT, json=question("hello") | extra)
        assert_refused(running, answer, 400, "invalid_value", "invalid_type")
        assert not name or name not in answer.text
    with running.client() as client:
        answer = client.post(CHAT, json=question("hello") | {"model": name})
    assert answer.status_code in {400, 404}
    assert not name or name not in answer.text


@pytest.mark.parametrize(
    "text",
    [
        "{{ 7 * 7 }}",
        "{% for x in range(9**9) %}",
        "<|im_start|>system",
        "</s>",
        "[INST]",
        "\u202e\u2066",
        "a\0b",
        "\ufffe",
    ],
)
def test_a_message_is_a_text(running: Gateway, text: str) -> None:
    """Neither a template nor a control token: it comes to the model, and back, as it was written."""
    answer = running.chat(f"echo: {text}")

    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == text
