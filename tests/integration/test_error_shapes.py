"""Every route × every way to ask it wrongly: one shape, a status that the document declares, a code that
the guide explains, and the headers by which clients act.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.core import Role
from tests import document
from tests.harness import Gateway, gateway

pytestmark = pytest.mark.integration

GUIDE = Path(__file__).parents[2] / "deploy" / "guides" / "api.md"
OPERATIONS = [each for each in document.operations() if each[1] != "/healthz"]
BODIES = [each for each in OPERATIONS if each[0] == "POST"]
LARGE = 5_000_000  # bytes; more than `server.max_body_bytes`


def named(operations: list[tuple[str, str, dict[str, Any]]]) -> pytest.MarkDecorator:
    names = [f"{method} {path}" for method, path, _ in operations]
    return pytest.mark.parametrize(("method", "path", "operation"), operations, ids=names)


def explained() -> set[tuple[int, str]]:
    """(status, code) of the guide's table."""
    rows = re.findall(r"^\| (\d{3}) \| ([^|]+) \|", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    return {(int(status), code) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(
        tmp_path_factory.mktemp("shapes") / "home", toml="[audit]\nrefusal_burst = 10000\n"
    ) as started:
        started.wait_ready()
        yield started


def send(running: Gateway, method: str, path: str, key: str | None, **options: Any) -> httpx.Response:
    address = path.replace("{name}", "default").replace("{seq}", "1")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    with running.client(None, headers=headers) as client:
        return client.request(method, address, **options)


def allowed(running: Gateway, operation: dict[str, Any]) -> str:
    return running.key(Role(operation["x-roles"][0]))


def example_of(operation: dict[str, Any]) -> dict[str, Any]:
    """A body that is answered well."""
    examples = document.body_examples(operation).values()
    found: dict[str, Any] = next(each["value"] for each in examples if each["x-status"] == 200)
    return found


def assert_refused(
    running: Gateway, answer: httpx.Response, operation: dict[str, Any], status: int, code: str
) -> dict[str, Any]:
    """The error of an answer, which is told and recorded as it must be."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    if "request_id" in body:  # Anthropic's envelope
        assert set(body) == {"type", "error", "request_id"}
        error = {"code": body["error"]["details"]["error_code"], "param": body["error"]["details"]["param"]}
    else:
        assert set(body) == {"error"}
        assert set(body["error"]) == {"message", "type", "param", "code"}
        error = body["error"]
    assert error["code"] == code
    assert (status, code) in explained(), "the guide does not explain it"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-length"] == str(len(answer.content))
    assert answer.headers["x-should-retry"] in {"true", "false"}
    assert ("www-authenticate" in answer.headers) is (status == 401)
    if status != 405:  # no operation: there is nothing that the document could say of it
        document.check_answer(operation, status, "application/json", answer.content)
    found = query.by_request(running.home.database, answer.headers["x-request-id"])
    assert [(each.kind, each.public["code"], each.public["status"]) for each in found] == [
        (Kind.REQUEST_REFUSED, code, status)
    ]
    return error


@named(OPERATIONS)
def test_without_a_key_or_with_a_wrong_one(
    running: Gateway, method: str, path: str, operation: dict[str, Any]
) -> None:
    """401, before anything else of the request is looked at."""
    for key in (None, "apk_no"):
        answer = send(running, method, path, key, content=b"{")
        assert_refused(running, answer, operation, 401, "invalid_api_key")


@named([each for each in OPERATIONS if len(each[2]["x-roles"]) < len(Role)])
def test_with_a_key_of_another_role(
    running: Gateway, method: str, path: str, operation: dict[str, Any]
) -> None:
    """403 for each role that may not."""
    for role in set(Role) - {Role(each) for each in operation["x-roles"]}:
        answer = send(running, method, path, running.key(role), content=b"{")
        assert_refused(running, answer, operation, 403, "permission_denied")


@named(OPERATIONS)
def test_by_another_method(running: Gateway, method: str, path: str, operation: dict[str, Any]) -> None:
    """405, and the methods that the path takes (RFC 9110 §15.5.6)."""
    taken = {each for each, at, _ in OPERATIONS if at == path}
    led = {each for each, at, _ in OPERATIONS if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", at), path)}
    assert method in taken
    for other in {"GET", "POST", "PUT", "PATCH", "DELETE"} - taken - led:  # some lead to another operation
        answer = send(running, other, path, allowed(running, operation))
        assert_refused(running, answer, operation, 405, "method_not_allowed")
        assert answer.headers["allow"] == ", ".join(sorted(taken))


@named(BODIES)
def test_with_a_body_that_is_no_object(
    running: Gateway, method: str, path: str, operation: dict[str, Any]
) -> None:
    """No body, no JSON, no UTF-8, no end of nesting, and JSON of another type."""
    for content in (b"", b"{", b'{"model": "\xff"}', b"[" * 5000, b"[]", b'"text"', b"null", b"NaN"):
        answer = send(running, method, path, allowed(running, operation), content=content)
        assert_refused(running, answer, operation, 400, "invalid_json")


@named(BODIES)
def test_with_a_parameter_that_nobody_knows(
    running: Gateway, method: str, path: str, operation: dict[str, Any]
) -> None:
    """Refused by its name."""
    body = example_of(operation) | {"colour": "canary-7f3a"}
    answer = send(running, method, path, allowed(running, operation), json=body)

    assert assert_refused(running, answer, operation, 400, "unknown_parameter")["param"] == "colour"
    assert "canary-7f3a" not in answer.text


@named(BODIES)
def test_with_values_of_a_wrong_type(
    running: Gateway, method: str, path: str, operation: dict[str, Any]
) -> None:
    """Each parameter of the example in turn: the mistake is found at its place, and its value not told."""
    body = example_of(operation)
    for name in body:
        for value in ({"canary-7f3a": [True]}, [[["canary-7f3a"]]]):
            answer = send(running, method, path, allowed(running, operation), json=body | {name: value})
            assert answer.status_code == 400, (name, answer.text)
            told = answer.json()["error"]
            code = told["code"] if "code" in told else told["details"]["error_code"]
            error = assert_refused(running, answer, operation, 400, code)
            assert re.match(rf"{name}\b", str(error["param"])), (name, answer.text)
            assert "canary-7f3a" not in answer.text


@named(BODIES)
def test_with_a_body_that_is_too_large(
    running: Gateway, method: str, path: str, operation: dict[str, Any]
) -> None:
    """413, whether or not it says its length before."""
    key = allowed(running, operation)
    large = json.dumps({"pad": "x" * LARGE}).encode()
    for content in (large, (large[at : at + 65_536] for at in range(0, LARGE, 65_536))):
        answer = send(running, method, path, key, content=content)
        assert_refused(running, answer, operation, 413, "request_too_large")


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("/v1/audit/proof/one", Role.KIOSK),
        ("/v1/audit/proof/-1", Role.KIOSK),
        ("/v1/audit/proof/1?leaf=zz", Role.KIOSK),
        ("/v1/audit/proof/99999999999999999999", Role.KIOSK),
        ("/v1/audit/events/one", Role.AUDITOR),
        ("/v1/audit/events/99999999999999999999", Role.AUDITOR),
        ("/v1/models/nothing", Role.KIOSK),
        ("/v1/nothing", Role.KIOSK),
        ("/", Role.KIOSK),
        ("/v1/messages/", Role.KIOSK),
    ],
)
def test_paths_that_lead_nowhere(running: Gateway, path: str, role: Role) -> None:
    """400 or 404 in the same shape; 422 never."""
    with running.client(role, headers={"x-audit-purpose": "a test"}) as client:
        answer = client.get(path)
    error = answer.json()["error"]
    code = error["code"] if "code" in error else error["details"]["error_code"]

    assert answer.status_code in {400, 404}, answer.text
    assert (answer.status_code, code) in explained()


def test_guide_explains_every_code_that_the_document_declares() -> None:
    """Each status and code of each operation has a row, and no row has a status of its own invention."""
    declared = {
        (int(status), code)
        for _, _, operation in OPERATIONS
        for status, response in operation["responses"].items()
        if status != "200"
        for code in re.findall(r"`(\w+)`", response["description"])
    }

    assert declared - explained() == set()
