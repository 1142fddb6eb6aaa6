"""Errors in Anthropic's shape: a type for each status, and the paths that speak it."""

from __future__ import annotations

import json

import pytest

from appliance import statuses
from appliance.api import messages_errors
from appliance.errors import ApplianceError, InternalError, RequestError, Unavailable

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    414: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
    500: "api_error",
    503: "api_error",
    504: "timeout_error",
}


def error_of(error: ApplianceError) -> dict[str, object]:
    told = json.loads(messages_errors.body_of(error, "req_1"))
    assert set(told) == {"type", "error", "request_id"}
    assert (told["type"], told["request_id"]) == ("error", "req_1")
    found: dict[str, object] = told["error"]
    return found


@pytest.mark.parametrize("code", sorted(set(statuses._STATUS) - {"overloaded"}))
def test_every_code_has_the_type_of_its_status(code: str) -> None:
    """No code that the appliance knows falls out of Anthropic's words."""
    error = RequestError("m", code=code, param="p")

    assert error_of(error) == {
        "type": TYPES[int(statuses.status_of(error))],
        "message": "m",
        "details": {"error_code": code, "param": "p"},
    }


def test_overload_has_a_word_of_its_own() -> None:
    """The status stays 503; the type is the one that clients know for it."""
    overload = Unavailable("m", code="overloaded", hint="wait")

    assert statuses.status_of(overload) == 503
    assert error_of(overload)["type"] == "overloaded_error"
    assert error_of(overload)["message"] == "m; wait"
    assert error_of(InternalError("m"))["type"] == "api_error"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/messages", True),
        ("/v1/messages/count_tokens", True),
        ("/v1/messages/batches", True),
        ("/v1/messagesque", False),
        ("/v1/chat/completions", False),
        ("/v1/models", False),
    ],
)
def test_paths_choose_the_shape(path: str, *, expected: bool) -> None:
    """Everything under `/v1/messages`, and nothing else."""
    assert messages_errors.speaks(path) is expected
