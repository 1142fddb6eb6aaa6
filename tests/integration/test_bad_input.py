"""Bad input: the right 4xx, in one shape, and on the record."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.core import Role
from tests.harness import Gateway, gateway, question

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(
        tmp_path_factory.mktemp("bad") / "home",
        toml="[audit]\nrefusal_burst = 1000\n",
    ) as started:
        yield started


def post(running: Gateway, content: bytes, *, role: Role | None = Role.KIOSK) -> httpx.Response:
    with running.client(role) as client:
        return client.post(
            "/v1/chat/completions", content=content, headers={"content-type": "application/json"}
        )


def body(**changes: Any) -> bytes:
    return json.dumps(question("hello") | changes).encode()


TWO_SYSTEMS = [
    {"role": "system", "content": "a"},
    {"role": "system", "content": "b"},
    {"role": "user", "content": "c"},
]
CASES = {
    "no key": (body(), None, 401, "invalid_api_key"),
    "wrong role": (body(), Role.AUDITOR, 403, "permission_denied"),
    "unknown model": (body(model="gpt-9"), Role.KIOSK, 404, "model_not_found"),
    "malformed JSON": (b'{"model": ', Role.KIOSK, 400, "invalid_json"),
    "wrong types": (body(messages="hello"), Role.KIOSK, 400, "invalid_type"),
    "negative limit": (body(max_tokens=-5), Role.KIOSK, 400, "invalid_value"),
    "absurd limit": (body(max_tokens=10**15), Role.KIOSK, 400, "invalid_value"),
    "10 MB body": (body(pad="x" * 10_000_000), Role.KIOSK, 413, "request_too_large"),
    "invalid UTF-8": (b'{"model": "\xff\xfe", "messages": []}', Role.KIOSK, 400, "invalid_json"),
    "unknown parameter": (body(colour="blue"), Role.KIOSK, 400, "unknown_parameter"),
    "unsupported parameter": (body(web_search_options={}), Role.KIOSK, 400, "unsupported_parameter"),
    "empty body": (b"", Role.KIOSK, 400, "invalid_json"),
}
AFTER_THE_OPENING = {
    "context too long": (
        body(messages=[{"role": "user", "content": "word " * 60_000}]),
        Role.KIOSK,
        400,
        "context_length_exceeded",
    ),
    "template error": (body(messages=TWO_SYSTEMS), Role.KIOSK, 400, "template_error"),
}


def assert_shape(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("case", CASES)
def test_refused_before_the_opening(running: Gateway, case: str) -> None:
    """Each mistake gets its status and code, and one `request:refused` record."""
    content, role, status, code = CASES[case]
    answer = post(running, content, role=role)

    assert_shape(answer, status, code)
    records = query.by_request(running.home.database, answer.headers["x-request-id"])
    assert [(record.kind, record.public["code"], record.public["status"]) for record in records] == [
        (Kind.REQUEST_REFUSED, code, status)
    ]


@pytest.mark.parametrize("case", AFTER_THE_OPENING)
def test_refused_by_the_worker(running: Gateway, case: str) -> None:
    """What only the worker can know has an opening, and a closing that says `failed` and why."""
    content, role, status, code = AFTER_THE_OPENING[case]
    answer = post(running, content, role=role)

    assert_shape(answer, status, code)
    assert "x-audit-record" in answer.headers
    records = query.by_request(running.home.database, answer.headers["x-request-id"])
    assert [record.kind for record in records] == [Kind.REQUEST_OPENED, Kind.REQUEST_CLOSED]
    assert records[1].public["outcome"] == "failed"
    assert records[1].public["code"] == code


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/v1/models/gpt-9", 404, "model_not_found"),
        ("GET", "/metrics", 403, "permission_denied"),
    ],
)
def test_paths_and_methods(running: Gateway, method: str, path: str, status: int, code: str) -> None:
    """Unknown paths and wrong methods speak the same shape."""
    with running.client() as client:
        assert_shape(client.request(method, path), status, code)


@pytest.mark.parametrize("path", ["/v1/models", "/readyz", "/metrics", "/v1/nothing", "/", "/docs"])
def test_nothing_but_healthz_answers_without_a_key(running: Gateway, path: str) -> None:
    """Deny by default: even unknown paths say 401 first."""
    with running.client(None) as client:
        assert_shape(client.get(path), 401, "invalid_api_key")
        assert client.get("/healthz").status_code == 200


def test_bearer_and_x_api_key_pass_the_same_check(running: Gateway) -> None:
    """Either header opens; of two different keys neither does."""
    good = running.key()
    with running.client(None) as client:
        with_header = client.get("/v1/models", headers={"x-api-key": good})
        mixed = client.get("/v1/models", headers={"x-api-key": good, "authorization": "Bearer apk_no"})

    assert with_header.status_code == 200
    assert_shape(mixed, 400, "two_keys")


def test_chunked_body_without_a_length_is_bounded_too(running: Gateway) -> None:
    """A body that names no length is cut off at the same limit."""
    with running.client() as client:
        answer = client.post("/v1/chat/completions", content=(b"x" * 65_536 for _ in range(64)))

    assert_shape(answer, 413, "request_too_large")


def test_flood_of_refusals_is_counted_not_lost(tmp_path: Any) -> None:
    """Beyond the burst refusals become counts, and the sum is the number of requests."""
    with gateway(tmp_path / "home", toml="[audit]\nrefusal_burst = 5\n") as flooded:
        with flooded.client(None) as client:
            answers = [client.get("/v1/models").status_code for _ in range(200)]
        assert set(answers) == {401}
        flooded.stop()
        records = query.search(flooded.home.database, kind=Kind.REQUEST_REFUSED, limit=1000)

    assert sum(int(record.public["count"]) for record in records) == 200
    assert len(records) < 150


def test_garbage_on_the_wire_does_not_hurt(running: Gateway) -> None:
    """Bytes that are no HTTP at all end their own connection and nothing else."""
    host, port = running.url.removeprefix("http://").split(":")
    for garbage in (
        b"\x16\x03\x01\x02\x00",
        b"GET\r\n\r\n",
        b"POST / HTTP/9.9\r\n\r\n",
        b"\0" * 64,
    ):
        with socket.create_connection((host, int(port)), timeout=5) as peer:
            peer.sendall(garbage)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(4096):
                pass

    assert running.chat("echo: still here").json()["choices"][0]["message"]["content"] == "still here"
