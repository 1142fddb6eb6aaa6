"""Every example of the API's document is sent to a gateway, and answered as the document says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from appliance.core import Role
from tests import document
from tests.harness import Gateway, gateway, stored_response

EXAMPLES = [
    pytest.param(method, path, operation, example, id=f"{operation['operationId']}-{name}")
    for method, path, operation in document.operations()
    for name, example in (document.body_examples(operation) or {"path": None}).items()
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("examples") / "home") as started:
        started.key(Role.KIOSK, stores_responses=True)
        yield started


def send(running: Gateway, method: str, path: str, operation: dict[str, Any], body: Any) -> httpx.Response:
    """The request that the document describes, by the first role that may send it."""
    headers = {}
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", parameter["example"])
        elif parameter["in"] == "header" and parameter["required"]:
            headers[parameter["name"]] = parameter["example"]
    role = Role(operation["x-roles"][0]) if "x-roles" in operation else None
    with running.client(role, headers=headers) as client:
        return client.request(method, path, json=body)


@pytest.mark.parametrize(("method", "path", "operation", "example"), EXAMPLES)
def test_example_is_answered_as_the_document_says(
    running: Gateway, method: str, path: str, operation: dict[str, Any], example: dict[str, Any] | None
) -> None:
    """Its status, its media type, its headers and its shape."""
    if operation["operationId"] == "prove_record":  # a proof is for records of one's own
        seq = running.chat("echo: x").headers["x-audit-record"].rpartition("/")[2]
        path = path.replace("{seq}", seq)
    if "{response_id}" in path:  # and a response is there where it was stored
        path = path.replace("{response_id}", stored_response(running))
    answer = send(running, method, path, operation, example["value"] if example else None)

    assert answer.status_code == (example["x-status"] if example else 200), answer.text
    document.check_answer(operation, answer.status_code, answer.headers["content-type"], answer.content)
    described = operation["responses"][str(answer.status_code)]["headers"]
    assert "x-request-id" in answer.headers
    if answer.status_code == 200:
        assert set(described) - {"idempotency-replayed"} <= set(answer.headers)  # of retries only
    else:
        assert answer.headers["x-should-retry"] in {"true", "false"}


def test_method_that_a_path_does_not_take_names_those_that_it_does(running: Gateway) -> None:
    """405 with all methods of the path (RFC 9110, section 15.5.6), whatever else was wrong with it."""
    paths: dict[str, set[str]] = {}
    for method, path, _ in document.operations():
        paths.setdefault(path, set()).add(method)
    for path, methods in paths.items():
        with running.client(Role.KIOSK) as client:
            answer = client.request("PROPFIND", path.replace("{", "").replace("}", ""))
        assert answer.status_code == 405
        assert set(answer.headers["allow"].split(", ")) == methods


def test_document_is_served_to_every_role_and_to_nobody_else(running: Gateway) -> None:
    """What a key's holder reads is what a review saw."""
    for role in Role:
        with running.client(role) as client:
            answer = client.get("/openapi.json")
        assert answer.status_code == 200
        assert answer.json() == document.kept()
    with running.client(None) as client:
        assert client.get("/openapi.json").status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [(method, path) for method, path, _ in document.operations()],
    ids=str,
)
@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Bearer apk_no"}, {"x-api-key": "apk_no"}], ids=repr
)
def test_there_is_no_way_in_without_a_key(
    running: Gateway, method: str, path: str, headers: dict[str, str]
) -> None:
    """Every operation but one asks for a key, before it looks at anything else of the request."""
    with running.client(None, headers=headers) as client:
        answer = client.request(method, path.replace("{name}", "default").replace("{seq}", "1"))

    assert answer.status_code == (200 if path == "/healthz" else 401)
    if answer.status_code == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "error" in answer.json()
