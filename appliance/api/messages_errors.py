"""Errors in the shape that Anthropic's clients parse: of everything under `/v1/messages`.

The shape is ``{"type": "error", "error": {"type", "message", "details"}, "request_id"}``. `details`
holds the appliance's own code as `error_code`, where those clients look for one, and the parameter's
path as `param`. Statuses and `Retry-After` are the same as everywhere: an overload is 503 here, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from appliance.api.messages_shapes import ErrorType, MessagesError, MessagesErrorDetails, MessagesErrorObject
from appliance.errors import ApplianceError
from appliance.statuses import status_of

_PATH = "/v1/messages"
_TYPES: Mapping[HTTPStatus, ErrorType] = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.REQUEST_TIMEOUT: "timeout_error",
    HTTPStatus.CONFLICT: "conflict_error",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request_too_large",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
    HTTPStatus.GATEWAY_TIMEOUT: "timeout_error",
}
_OVERLOADED = "overloaded"


def speaks(path: str) -> bool:
    """Whether errors at this path have Anthropic's shape. Paths that are not there have it, too."""
    return path == _PATH or path.startswith(f"{_PATH}/")


def body_of(error: ApplianceError, request_id: str) -> bytes:
    """The JSON that clients parse. The hint belongs to the message: callers see no other place."""
    told = MessagesErrorObject(
        type=_type_of(error),
        message=f"{error.message}; {error.hint}" if error.hint else error.message,
        details=MessagesErrorDetails(error_code=error.code, param=error.param),
    )
    return MessagesError(error=told, request_id=request_id).model_dump_json().encode("utf-8")


def _type_of(error: ApplianceError) -> ErrorType:
    if error.code == _OVERLOADED:
        return "overloaded_error"
    status = status_of(error)
    if status in _TYPES:
        return _TYPES[status]
    return "api_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
