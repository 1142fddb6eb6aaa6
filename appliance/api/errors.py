"""Errors as OpenAI clients parse them; their statuses stand in `statuses.py`.

The shape is always ``{"error": {"message", "type", "param", "code"}}`` with string codes; 429 and
503 carry `Retry-After` (RFC 9110 §10.2.3).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError

from appliance.errors import ApplianceError, RequestError, Unavailable
from appliance.statuses import status_of

_COME_BACK = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_TYPES: dict[HTTPStatus, str] = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}


def body_of(error: ApplianceError) -> bytes:
    """The JSON that clients parse. The hint belongs to the message: callers see no other place."""
    message = f"{error.message}; {error.hint}" if error.hint else error.message
    status = status_of(error)
    kind = _TYPES.get(
        status,
        "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error",
    )
    return json.dumps(
        {"error": {"message": message, "type": kind, "param": error.param, "code": error.code}},
        ensure_ascii=False,
        separators=(",", ":"),
    ).encode("utf-8")


def headers_of(error: ApplianceError) -> list[tuple[bytes, bytes]]:
    """What a client needs to act on: how to authenticate, when to come back."""
    headers = [(b"content-type", b"application/json")]
    status = status_of(error)
    if status is HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, Unavailable) and status in _COME_BACK:
        headers.append((b"retry-after", str(error.retry_after_seconds).encode("ascii")))
    return headers


def from_validation(error: ValidationError) -> RequestError:
    """A pydantic complaint in our words: the first problem, its place, and never the value."""
    problems: list[Any] = list(error.errors(include_input=False, include_url=False, include_context=False))
    param = path_of(problems[0]["loc"])
    # A union complains once per branch; the branch whose type fitted tells the caller's mistake.
    branches = [each for each in problems if path_of(each["loc"]) == param]
    first = next((each for each in branches if not each["type"].endswith("_type")), branches[0])
    kind: str = first["type"]
    if kind == "json_invalid":
        return RequestError("the body is not valid JSON in UTF-8", code="invalid_json")
    if kind == "extra_forbidden":
        return RequestError(f"unknown parameter: {param}", code="unknown_parameter", param=param)
    if kind == "missing":
        return RequestError(
            f"missing required parameter: {param}", code="missing_required_parameter", param=param
        )
    if kind in {"model_type", "model_attributes_type"} and param is None:
        return RequestError("the body must be a JSON object", code="invalid_json")
    reason = first["msg"][:1].lower() + first["msg"][1:]
    return RequestError(
        f"invalid value for {param}: {reason}",
        code="invalid_type" if kind.endswith("_type") else "invalid_value",
        param=param,
    )


def path_of(location: Sequence[int | str]) -> str | None:
    """`("messages", 0, "content", "str")` → `messages[0].content`, without pydantic's own steps."""
    path = ""
    for step in _caller_steps(location):
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path or None


def _caller_steps(location: Sequence[int | str]) -> Iterable[int | str]:
    for step in location:
        # Union branches appear as steps with names like `str` or `list[...]`: not the caller's words.
        if isinstance(step, int) or (step.isidentifier() and step not in {"str", "int"}):
            yield step
        else:
            return
