"""The form of an answer: free text, any JSON object, or JSON that keeps to a caller's schema.

A schema goes to the worker as text of a bounded size; whether it can be kept to, the worker says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from appliance.api.body import Body
from appliance.errors import RequestError

MAX_SCHEMA_CHARACTERS = 64 * 1024
ANY_OBJECT = '{"type":"object"}'

Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]  # of tools and of schemas


class JsonSchema(Body):
    """A schema and its name. `strict` is the only way here: answers always keep to it."""

    name: Name
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(Body):
    """What `response_format` of a chat says."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def schema_text(self) -> str:
        """The schema that the answer keeps to; empty where it is free."""
        if self.type == "text":
            return ""
        if self.type == "json_object":
            return ANY_OBJECT
        if self.json_schema is None:
            raise RequestError(
                "missing required parameter: response_format.json_schema",
                code="missing_required_parameter",
                param="response_format.json_schema",
            )
        return schema_text(self.json_schema.schema_, param="response_format.json_schema.schema")


def schema_text(schema: Mapping[str, Any], *, param: str) -> str:
    """A schema as compact JSON. RequestError where it is too large, or no JSON."""
    try:
        text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise RequestError(
            "the schema holds a number that JSON does not have", code="unsupported_schema", param=param
        ) from error
    if len(text) > MAX_SCHEMA_CHARACTERS:
        raise RequestError(
            f"the schema is longer than {MAX_SCHEMA_CHARACTERS} characters",
            code="unsupported_schema",
            param=param,
        )
    return text
