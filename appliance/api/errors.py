"""Errors as OpenAI clients parse them; their statuses stand in `statuses.py`.

The shape is always ``{"error": {"message", "type", "param", "code"}}`` with string codes; 429 and
503 carry `Retry-After` (RFC 9110 §10.2.3).

The rule of `x-should-retry`, which the official clients obey: `true` where the same request may well
succeed a moment later, as nothing is wrong with it and nobody has to mend anything first; else `false`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError

from appliance.errors import ApplianceError, Busy, RequestError, Unavailable
from appliance.statuses import status_of

_COME_BACK = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
POSITION = b"x-queue-position"  # how many requests go before this one
MAX_MISTAKES = 1000  # of one body; more are not looked at one by one
_NO_OBJECT = frozenset({"model_type", "model_attributes_type"})
_STEP = re.compile("[A-Za-z0-9_-]{1,64}")
# What may succeed a moment later without anybody's doing: all that is `Unavailable` but these, …
_IN_VAIN = frozenset(
    {
        "account_locked",
        "address_locked",
        "audit_unavailable",  # latched, until an operator has run recovery
        "disk_low",
        "prompt_unavailable",
        "guardrails_unavailable",
        "identity_locked",
        "insufficient_quota",
        "out_of_memory",
        "read_limit",  # of an hour
        "request_timeout",  # it would take as long again
        "timeout",
    }
)
# … and a body that came too slowly.
_WORTH_IT = frozenset({"body_timeout"})
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
    again = should_retry(error)
    headers = [
        (b"content-type", b"application/json"),
        (b"x-should-retry", b"true" if again else b"false"),
    ]
    status = status_of(error)
    if status is HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, Unavailable) and (again or status in _COME_BACK):
        headers.append((b"retry-after", str(error.retry_after_seconds).encode("ascii")))
    if isinstance(error, Busy):
        headers.append((b"retry-after-ms", str(error.wait_us // 1000).encode("ascii")))
        if error.position is not None:
            headers.append((POSITION, str(error.position).encode("ascii")))
    if error.code == "stopping":  # whoever comes again meets the next gateway
        headers.append((b"connection", b"close"))
    return headers


def should_retry(error: ApplianceError) -> bool:
    """Whether the same request may succeed a moment later: the rule above."""
    if isinstance(error, Unavailable):
        return error.code not in _IN_VAIN
    return error.code in _WORTH_IT


def from_validation(error: ValidationError, body: bytes) -> RequestError:
    """A pydantic complaint in our words: the first problem, its place, and never the value.

    `body` is what was read: its own keys tell a place in it from the names of a union's branches.
    """
    if error.error_count() > MAX_MISTAKES:
        return RequestError(f"the body holds more than {MAX_MISTAKES} mistakes", code="invalid_value")
    problems: list[Any] = list(error.errors(include_url=False, include_context=False))
    if problems[0]["type"] == "json_invalid":
        return RequestError("the body is not valid JSON in UTF-8", code="invalid_json")
    read = json.loads(body)  # it has been read before: it is JSON, and not too deep
    first, param = _furthest(
        [(each, path_of(each["loc"], read, missing=each["type"] == "missing")) for each in problems]
    )
    kind: str = first["type"]
    if kind == "extra_forbidden":
        return RequestError(f"unknown parameter: {param}", code="unknown_parameter", param=param)
    if kind == "union_tag_not_found":
        kind, param = "missing", f"{param}.type"
    if kind.endswith("_type") and first["input"] is None and (param or "]")[-1] != "]":
        kind = "missing"  # null means "not given"
    if kind == "missing":
        return RequestError(
            f"missing required parameter: {param}", code="missing_required_parameter", param=param
        )
    if param is None and kind in _NO_OBJECT:
        return RequestError("the body must be a JSON object", code="invalid_json")
    if kind == "union_tag_invalid":  # pydantic's own words would repeat the value
        return RequestError(
            f"invalid value for {param}.type: it is none of the known ones",
            code="invalid_value",
            param=f"{param}.type",
        )
    reason = first["msg"][:1].lower() + first["msg"][1:]
    return RequestError(f"invalid value for {param}: {reason}", code=_code_of(kind), param=param)


def _code_of(kind: str) -> str:
    if kind.startswith("unsupported_"):  # a complaint of our own: what it names is known, and not here
        return "unsupported_parameter"
    return "invalid_type" if kind.endswith("_type") else "invalid_value"


def _furthest(problems: Sequence[tuple[Any, str | None]]) -> tuple[Any, str | None]:
    """A union complains once per branch; the one that got furthest tells the caller's mistake.

    Of two that got as far it is the one whose type fitted.
    """
    root = problems[0][1] or ""
    inner = (f"{root}.", f"{root}[")
    branches = [each for each in problems if (each[1] or "") == root or (each[1] or "").startswith(inner)]
    return max(branches, key=lambda each: (_depth(each[1]), not each[0]["type"].endswith("_type")))


def _depth(path: str | None) -> int:
    return (path or "").count(".") + (path or "").count("[")


def path_of(location: Sequence[int | str], body: Any, *, missing: bool = False) -> str | None:
    """`("messages", 0, "content", "str")` → `messages[0].content`: the steps that `body` knows.

    The others are names of a union's branches; but where something is `missing`, the last one is that.
    """
    path = ""
    here = body
    for at, step in enumerate(location):
        if isinstance(step, int):
            is_there = isinstance(here, list) and step < len(here)
        else:
            is_there = isinstance(here, dict) and (step in here or (missing and at == len(location) - 1))
        if not is_there:
            continue
        here = here[step] if isinstance(step, int) else here.get(step)
        if isinstance(step, str) and not _STEP.fullmatch(step):
            break  # a key of the caller's own making: it may be content
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path or None
