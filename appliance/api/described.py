"""What the document of the API says besides the routes: words, codes, streams, headers, examples.

An example here is a promise: a test sends each of them and holds the answer against the document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel

from appliance.accounts.roles import Permission
from appliance.api.messages_shapes import MessagesError
from appliance.errors import InternalError, RequestError, Unavailable
from appliance.statuses import status_of

PREFACE: Final = (
    "What a program inside the agency may ask. OpenAI's and Anthropic's clients work with another base URL "
    "and nothing else. Every answer carries `x-request-id`. Errors have one shape, and Anthropic's under "
    "`/v1/messages`. Times are in UTC. A connection itself answers 400, 408, 414, 431 and 503 in that shape, "
    "where no route is reached."
)
TAGS: Final = {
    "generate": "Answers of a model, whole or as they are written.",
    "measure": "Embeddings, ranking and tokens.",
    "models": "What can be asked.",
    "record": "The audit log, for callers' receipts and for auditors' programs.",
    "appliance": "How the appliance does, and this document.",
}
_TAG_OF_PREFIX: Final = (
    ("/v1/audit", "record"),
    ("/v1/models", "models"),
    ("/v1/chat", "generate"),
    ("/v1/completions", "generate"),
    ("/v1/responses/input_tokens", "measure"),
    ("/v1/responses", "generate"),
    ("/v1/messages/count_tokens", "measure"),
    ("/v1/messages", "generate"),
    ("/v1/embeddings", "measure"),
    ("/v1/rerank", "measure"),
    ("/tokenize", "measure"),
    ("/detokenize", "measure"),
    ("/", "appliance"),
)
_NULL_OR_TEXT: Final = {"anyOf": [{"type": "string"}, {"type": "null"}]}
_ERROR_TYPES: Final = (
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "rate_limit_error",
    "server_error",
)
ERROR: Final[dict[str, Any]] = {
    "title": "Error",
    "type": "object",
    "description": "Every error. `code` is stable; `message` is for people, and never repeats a value.",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "additionalProperties": False,
            "properties": {
                "message": {"type": "string"},
                "type": {"enum": list(_ERROR_TYPES)},
                "param": {**_NULL_OR_TEXT, "description": "The parameter's path, as in messages[0].content"},
                "code": {"type": "string"},
            },
        }
    },
}
MESSAGES_ERROR: Final[dict[str, Any]] = MessagesError.model_json_schema(mode="serialization")
HEADERS: Final[dict[str, Any]] = {
    "x-request-id": {
        "description": "Quote it to your operator.",
        "required": True,
        "schema": {"type": "string", "pattern": "^req_[0-9a-f]{32}$"},
    },
    "request-id": {
        "description": "The same, where Anthropic's clients look for it.",
        "required": True,
        "schema": {"type": "string", "pattern": "^req_[0-9a-f]{32}$"},
    },
    "x-audit-record": {
        "description": "`<origin>/<seq>`: where the opening of this request stands on the audit log.",
        "schema": {"type": "string"},
    },
    "x-audit-leaf": {
        "description": "The leaf hash of that record: a receipt.",
        "schema": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    },
    "idempotency-replayed": {
        "description": "`true` where the request came again under its key: this is the answer of then.",
        "schema": {"enum": ["true"]},
    },
    "retry-after": {
        "description": "When to come back, in seconds.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "x-should-retry": {
        "description": "Whether the same request may succeed a moment later; the official clients obey it.",
        "schema": {"enum": ["true", "false"]},
    },
    "www-authenticate": {"description": "How to show a key.", "schema": {"type": "string"}},
}
IDEMPOTENCY_KEY: Final[dict[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A name for this request: asked again under it, it is neither run nor recorded again.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
    "example": "desk-4711",
}
_RECEIPT: Final = ("x-audit-record", "x-audit-leaf", "idempotency-replayed")
_GUARDED: Final = (
    "invalid_api_key",
    "address_not_allowed",
    "certificate_required",
    "certificate_mismatch",
    "certificate_refused",
    "permission_denied",
    "internal_error",
    "audit_unavailable",
)
# What is said before a route is looked for; what the connection says stands in the preface.
_ARRIVING: Final = ("key_in_url", "two_keys", "unsupported_encoding", "unsupported_media_type")
_BODY: Final = (
    "invalid_json",
    "invalid_type",
    "invalid_value",
    "missing_required_parameter",
    "unknown_parameter",
    "body_incomplete",
    "malformed_request",
    "body_timeout",
    "request_too_large",
)
_ASKING: Final = (
    "unsupported_parameter",
    "context_length_exceeded",
    "endpoint_not_allowed",
    "model_not_allowed",
    "model_not_found",
    "model_not_ready",
    "model_does_not_fit",
    "overloaded",
    "disk_low",
    "engine_failed",
    "out_of_memory",
    "request_timeout",
    "timeout",
    "invalid_idempotency_key",
    "idempotency_conflict",
)
_NOT_NOW: Final = frozenset({"audit_unavailable"})
_READING: Final = ("invalid_search", "invalid_purpose", "read_limit")


@dataclass(frozen=True)
class Example:
    """A body, and the status that it is answered with."""

    summary: str
    body: Mapping[str, Any]
    status: HTTPStatus = HTTPStatus.OK

    def told(self) -> dict[str, Any]:
        """In the document's shape."""
        return {"summary": self.summary, "value": dict(self.body), "x-status": int(self.status)}


@dataclass(frozen=True)
class Events:
    """A stream: the shapes of its events, and how it ends."""

    shapes: tuple[type[BaseModel], ...]
    end: str = "the last one is `[DONE]`. An error in the middle is an event with `error`."

    @property
    def is_done(self) -> bool:
        """Whether the last event is no JSON."""
        return "[DONE]" in self.end

    def schema(self) -> dict[str, Any]:
        """Of one event's data."""
        return self.shapes[0].model_json_schema(mode="serialization")


@dataclass(frozen=True)
class Operation:
    """What is added to one operation."""

    name: str = ""  # the operation's id, where the function's name says too little
    description: str = ""  # of the good answer
    codes: tuple[str, ...] = ()  # of refusals, besides what all such routes can answer
    examples: Mapping[str, Example] = field(default_factory=dict)
    path_examples: Mapping[str, str] = field(default_factory=dict)
    parameters: tuple[dict[str, Any], ...] = ()
    events: Events | None = None
    answer: type[BaseModel] | None = None  # where the route itself names no JSON
    plain: dict[str, Any] | None = None  # the good answer's content, where it is no JSON


def tag_of(path: str) -> str:
    """The chapter of a path."""
    return next(tag for prefix, tag in _TAG_OF_PREFIX if path.startswith(prefix))


def headers_for(status: HTTPStatus, *, is_asking: bool) -> dict[str, Any]:
    """The headers of an answer."""
    names = ["x-request-id", "request-id"]
    if status != HTTPStatus.OK:
        names.append("x-should-retry")
    if is_asking and status not in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        names += _RECEIPT
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        names.append("retry-after")
    if status is HTTPStatus.UNAUTHORIZED:
        names.append("www-authenticate")
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def codes_of(
    told: Operation, permission: Permission | None, *, has_body: bool
) -> dict[HTTPStatus, list[str]]:
    """Every status but the good one, each with the codes that it can carry."""
    if permission is None:
        return {}
    codes = [*_GUARDED, *_ARRIVING, *told.codes]
    if has_body:
        codes += _BODY
    if permission is Permission.INFER:
        codes += _ASKING
    if permission in {Permission.SEARCH_AUDIT, Permission.READ_AUDIT}:
        codes += _READING
    found: dict[HTTPStatus, list[str]] = {}
    for code in sorted(set(codes)):
        found.setdefault(status_of_code(code), []).append(code)
    return found


def status_of_code(code: str) -> HTTPStatus:
    """A code that the table of statuses does not name has the status of its kind of error."""
    if code == InternalError.default_code:
        return status_of(InternalError("", code=code))
    kind = Unavailable if code in _NOT_NOW else RequestError
    return status_of(kind("", code=code))
