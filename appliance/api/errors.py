"""Errors as OpenAI clients parse them. The only place with HTTP status numbers.

The shape is always ``{"error": {"message", "type", "param", "code"}}`` with string codes; 429 and
503 carry `Retry-After` (RFC 9110 §10.2.3).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError

from appliance.errors import ApplianceError, Refused, RequestError, SetupError, Unavailable

_STATUS: dict[str, HTTPStatus] = {
    "invalid_api_key": HTTPStatus.UNAUTHORIZED,
    "permission_denied": HTTPStatus.FORBIDDEN,
    "model_not_found": HTTPStatus.NOT_FOUND,
    "not_found": HTTPStatus.NOT_FOUND,
    "method_not_allowed": HTTPStatus.METHOD_NOT_ALLOWED,
    "body_timeout": HTTPStatus.REQUEST_TIMEOUT,
    "request_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "audit_unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "disk_low": HTTPStatus.SERVICE_UNAVAILABLE,
    "model_not_ready": HTTPStatus.SERVICE_UNAVAILABLE,
    "overloaded": HTTPStatus.SERVICE_UNAVAILABLE,
    "engine_failed": HTTPStatus.SERVICE_UNAVAILABLE,
    "out_of_memory": HTTPStatus.SERVICE_UNAVAILABLE,
    "unsupported_model": HTTPStatus.BAD_REQUEST,
    "schema_too_complex": HTTPStatus.BAD_REQUEST,
    "request_timeout": HTTPStatus.GATEWAY_TIMEOUT,
}
_TYPES: dict[HTTPStatus, str] = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}


def status_of(error: ApplianceError) -> HTTPStatus:
    """The status by the error's code, else by its branch of the tree."""
    if error.code in _STATUS:
        return _STATUS[error.code]
    match error:
        case RequestError():
            return HTTPStatus.BAD_REQUEST
        case Refused():
            return HTTPStatus.FORBIDDEN
        case Unavailable():
            return HTTPStatus.SERVICE_UNAVAILABLE
        case SetupError():
            return HTTPStatus.INTERNAL_SERVER_ERROR
        case _:
            return HTTPStatus.INTERNAL_SERVER_ERROR


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
    if isinstance(error, Unavailable) and status is HTTPStatus.SERVICE_UNAVAILABLE:
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
