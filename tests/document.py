"""The document of the API for tests: as it is made now, as it is kept, and validators of what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]

from appliance.api import app, openapi

KEPT = Path(__file__).parent.parent / "deploy" / "openapi.json"


@cache
def made() -> dict[str, Any]:
    return openapi.document(app.create_routes())


def kept() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8"))
    return found


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(method, path, operation) of the document as it is kept: tests are collected from it."""
    for path, methods in kept()["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def body_examples(operation: dict[str, Any]) -> dict[str, Any]:
    content = operation.get("requestBody", {}).get("content", {})
    return content.get("application/json", {}).get("examples", {})  # type: ignore[no-any-return]


def validator(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    """Of a schema that points into the document's components."""
    return jsonschema.Draft202012Validator({**schema, "components": kept()["components"]})


def check_answer(operation: dict[str, Any], status: int, content_type: str, body: bytes) -> None:
    """AssertionError or ValidationError where an answer is not what the document says."""
    assert str(status) in operation["responses"], f"{status} is not in the document"
    content = operation["responses"][str(status)]["content"]
    media_type = content_type.partition(";")[0]
    assert media_type in content, f"{media_type} is not in the document"
    described = content[media_type]
    if media_type == "application/json":
        validator(described["schema"]).validate(json.loads(body))
    elif media_type == "text/event-stream":
        check_events(described["schema"]["properties"]["data"], body)


def check_events(schema: dict[str, Any], body: bytes) -> None:
    """Each event's data."""
    lines = [line for line in body.decode().splitlines() if line.startswith("data: ")]
    data = [line.removeprefix("data: ") for line in lines]
    assert len(data) > 1
    is_done = "anyOf" in schema
    assert (data[-1] == "[DONE]") == is_done
    check = validator((schema["anyOf"][0] if is_done else schema)["contentSchema"])
    for each in data[:-1] if is_done else data:
        check.validate(json.loads(each))
