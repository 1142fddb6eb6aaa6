"""The document of the API: it lints, keeps our own rules, and no change of it goes unseen."""

from __future__ import annotations

from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from appliance.api import app, openapi
from tests import document

OPERATIONS = list(document.operations())
NAMES = [f"{method} {path}" for method, path, _ in OPERATIONS]


def test_kept_document_is_what_the_routes_say() -> None:
    """A change of the API shows in the diff of deploy/openapi.json; `make openapi` writes it anew."""
    assert document.KEPT.read_text(encoding="utf-8") == openapi.text_of(document.made())


def test_document_is_valid_openapi() -> None:
    """By the specification's own schema, examples and defaults included."""
    assert [each.message for each in OpenAPIV31SpecValidator(document.kept()).iter_errors()] == []


def test_lint_finds_what_is_wrong() -> None:
    """Its control: a reference to nowhere, and a response without words."""
    wrong: tuple[dict[str, Any], ...] = (
        {"paths": {"/x": {"get": {"responses": {"200": {}}}}}},
        {"paths": {"/x": {"get": {"operationId": "x", "responses": []}}}},
    )
    for spoilt in wrong:
        whole = {"openapi": "3.1.0", "info": {"title": "x", "version": "1"}, **spoilt}
        assert list(OpenAPIV31SpecValidator(whole).iter_errors())


def test_every_route_is_in_it_and_every_operation_has_a_name_of_its_own() -> None:
    """Names are what generated clients call: they are unique, and say nothing of paths."""
    routes = {
        (method, route.path_format)
        for route in openapi.routes_of(app.create_routes())
        for method in route.methods or ()
    }
    names = [operation["operationId"] for _, _, operation in OPERATIONS]

    assert {(method, path) for method, path, _ in OPERATIONS} == routes
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and name == name.lower() for name in names)


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=NAMES)
def test_operation_keeps_our_rules(method: str, path: str, operation: dict[str, Any]) -> None:
    """Words, a chapter, a key, who may, every refusal in one shape, an example of each body."""
    assert operation["summary"]
    assert operation["description"].startswith(operation["summary"])
    assert set(operation["tags"]) <= {each["name"] for each in document.kept()["tags"]}
    for response in operation["responses"].values():
        assert response["description"]
        assert "x-request-id" in response["headers"]
        assert response["content"]
    if path == "/healthz":
        assert operation["security"] == []
        return
    assert operation["security"] == [{"bearer": []}, {"key": []}]
    assert operation["x-roles"]
    assert {"200", "401", "403", "500", "503"} <= operation["responses"].keys()
    assert "422" not in operation["responses"]
    for status in set(operation["responses"]) & {"429", "503"}:
        assert "retry-after" in operation["responses"][status]["headers"]
    if method == "POST":
        assert {"400", "408", "413"} <= operation["responses"].keys()
        assert document.body_examples(operation)
        assert operation["requestBody"]["content"]["application/json"]["schema"].keys() == {"$ref"}
    for parameter in operation.get("parameters", ()):
        assert parameter["in"] == "query" or "example" in parameter


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=NAMES)
def test_examples_fit_their_schema(method: str, path: str, operation: dict[str, Any]) -> None:
    """Those that are answered well; the others show a mistake, and only its status is promised."""
    for name, example in document.body_examples(operation).items():
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        if example["x-status"] == 200:
            document.validator(schema).validate(example["value"])
        assert str(example["x-status"]) in operation["responses"], name
