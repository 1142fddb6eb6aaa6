"""Which arguments can be written without JSON around them, and what callers get of such values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from appliance.core import Tool

_SAYS_NOTHING = {"description", "title", "default", "examples", "$schema", "$comment"}
_OF_OBJECTS = {"type", "properties", "required", "additionalProperties"} | _SAYS_NOTHING


def members(schema: Any) -> dict[str, tuple[Any, bool]] | None:
    """Of a simple schema of objects: each property's schema, and whether it is required. None: not simple.

    Properties that it does not name are never written, whether or not it would allow them.
    """
    if (
        not isinstance(schema, dict)
        or schema.get("type", "object") != "object"
        or schema.keys() - _OF_OBJECTS
    ):
        return None
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, dict) or not isinstance(required, list):
        return None
    if not all(isinstance(each, dict) for each in properties.values()) or set(required) - properties.keys():
        return None
    if "$ref" in json.dumps(properties):
        return None
    return {name: (each, name in required) for name, each in properties.items()}


def parameters(tool: Tool) -> Any:
    """A tool's schema as a value. ValueError where it is no JSON."""
    return json.loads(tool.parameters)


def is_free_text(schema: Any) -> bool:
    """Any string fits."""
    return (
        isinstance(schema, dict)
        and schema.get("type") == "string"
        and not schema.keys() - {"type"} - _SAYS_NOTHING
    )


def choices(schema: Any) -> Sequence[str] | None:
    """The strings of an enumeration of strings; None where it is none."""
    if not isinstance(schema, dict) or schema.keys() - {"type", "enum"} - _SAYS_NOTHING:
        return None
    found = schema.get("enum")
    if not isinstance(found, list) or not found or not all(isinstance(each, str) for each in found):
        return None
    return found if schema.get("type", "string") == "string" else None


def types_of(tools: Sequence[Tool]) -> Mapping[str, Mapping[str, Any]]:
    """The schemas of each tool's arguments by their names; empty where they are not known."""
    found: dict[str, Mapping[str, Any]] = {}
    for tool in tools:
        try:
            asked = parameters(tool)
        except (ValueError, RecursionError):
            continue
        properties = asked.get("properties") if isinstance(asked, dict) else None
        found[tool.name] = properties if isinstance(properties, dict) else {}
    return found


def is_text(schema: Any) -> bool:
    """Only strings fit: what stands there is one, whatever it looks like."""
    return isinstance(schema, dict) and (schema.get("type") == "string" or choices(schema) is not None)


def as_json(value: str) -> str:
    """A value that was written without quotes: itself where it is JSON, else a string."""
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        return json.dumps(value, ensure_ascii=False)
    return value.strip()


def quoted(text: str) -> str:
    """A piece of a JSON string, without its quotes."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
