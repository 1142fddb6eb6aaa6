"""Errors on the wire: who is told to come back, and how a mistake's place is found."""

from __future__ import annotations

import json

import pytest

from appliance.api import errors as wire
from appliance.api.body import read
from appliance.api.completions_schemas import CompletionRequest
from appliance.api.schemas import ChatCompletionRequest
from appliance.errors import (
    ApplianceError,
    AuditUnavailable,
    InternalError,
    Refused,
    RequestError,
    Unavailable,
)


@pytest.mark.parametrize(
    ("error", "again", "waits"),
    [
        (Unavailable("x", code="overloaded", retry_after_seconds=7), "true", "7"),
        (Unavailable("x", code="model_not_ready"), "true", "1"),
        (Unavailable("x", code="engine_failed"), "true", "1"),
        (Unavailable("x", code="read_limit", retry_after_seconds=60), "false", "60"),
        (RequestError("x", code="body_timeout"), "true", None),
        (AuditUnavailable("x", retry_after_seconds=30), "false", "30"),
        (Unavailable("x", code="disk_low"), "false", "1"),
        (Unavailable("x", code="out_of_memory"), "false", "1"),
        (RequestError("x", code="invalid_value"), "false", None),
        (RequestError("x", code="model_not_found"), "false", None),
        (Refused("x", code="invalid_api_key"), "false", None),
        (Refused("x"), "false", None),
        (InternalError("x"), "false", None),
    ],
)
def test_clients_are_told_whether_to_come_back(error: ApplianceError, again: str, waits: str | None) -> None:
    """`true` where the same request may succeed a moment later without anybody's doing, else `false`."""
    headers = {name.decode(): value.decode() for name, value in wire.headers_of(error)}

    assert headers["x-should-retry"] == again
    assert headers.get("retry-after") == waits


def test_the_callers_own_time_limit_is_not_tried_again() -> None:
    """An answer that took too long would take as long again."""
    headers = dict(wire.headers_of(Unavailable("x", code="request_timeout")))

    assert headers[b"x-should-retry"] == b"false"


def test_all_four_keys_are_there_and_codes_are_strings() -> None:
    """What clients parse: message, type, param (or null), code."""
    body = json.loads(wire.body_of(RequestError("what is wrong", code="invalid_value", hint="mend it")))

    assert body == {
        "error": {
            "message": "what is wrong; mend it",
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_value",
        }
    }


@pytest.mark.parametrize(
    ("location", "missing", "expected"),
    [
        (("a", 0, "list[X]", "b"), False, "a[0].b"),
        (("a", "str"), False, "a"),
        (("a", 0, "gone"), True, "a[0].gone"),
        (("a", 0, "gone"), False, "a[0]"),
        (("a", 7), False, "a"),
        (("what a person wrote",), False, None),
        ((), False, None),
    ],
)
def test_a_path_holds_the_callers_own_steps_only(
    location: tuple[int | str, ...], *, missing: bool, expected: str | None
) -> None:
    """Names of branches are none, and a key that may be content is not repeated."""
    body = {"a": [{"b": 1}], "what a person wrote": 1}

    assert wire.path_of(location, body, missing=missing) == expected


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": [5] * 300_000}]},
        {"logit_bias": {f"x{at}": 1 for at in range(50_000)}},
        {f"x{at}": 1 for at in range(50_000)},
    ],
)
def test_a_body_of_mistakes_is_not_counted_to_its_end(body: dict[str, object]) -> None:
    """However many mistakes there are, the answer is one short refusal."""
    with pytest.raises(RequestError) as caught:
        read(json.dumps({"model": "default", "messages": []} | body).encode(), ChatCompletionRequest)

    assert len(caught.value.message) < 200


def test_a_long_list_of_wrong_prompts_ends_at_the_first() -> None:
    """One item that does not fit is enough to refuse a prompt of very many."""
    with pytest.raises(RequestError) as caught:
        read(json.dumps({"model": "default", "prompt": [-1] * 300_000}).encode(), CompletionRequest)

    assert caught.value.param == "prompt[0]"
