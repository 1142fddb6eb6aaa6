"""`openai`: every refusal is the class that the client documents for it, with its code, param and id."""

from __future__ import annotations

import time
import uuid
from typing import Any

import openai

from tests.contract.clients.checks import AUDITOR_KEY, MODEL, OPERATOR_KEY, check
from tests.contract.clients.openai_made import chat, client, made


def refused(kind: type[openai.APIStatusError], act: Any) -> Any:
    """The error that an act ends with, which must be of this class."""
    try:
        act()
    except kind as error:
        assert error.request_id is not None
        assert error.request_id.startswith("req_")
        assert isinstance(error.body, dict)
        assert {"message", "type", "param", "code"} <= error.body.keys()
        return error
    raise AssertionError(f"no {kind.__name__}")


@check
def an_unknown_model() -> None:
    error = refused(openai.NotFoundError, lambda: chat("echo: x", model="gpt-9"))
    assert (error.code, error.param, error.status_code) == ("model_not_found", "model", 404)


@check
def an_unknown_model_of_a_stream() -> None:
    error = refused(openai.NotFoundError, lambda: chat("echo: x", model="gpt-9", stream=True))
    assert error.code == "model_not_found"


@check
def a_model_that_is_not_here() -> None:
    error = refused(openai.NotFoundError, lambda: client.models.retrieve("no/such"))
    assert error.code == "model_not_found"


@check
def a_wrong_key() -> None:
    error = refused(openai.AuthenticationError, made(api_key="apk_no").models.list)
    assert (error.code, error.type) == ("invalid_api_key", "authentication_error")


@check
def a_role_that_may_not() -> None:
    act = made(api_key=OPERATOR_KEY).chat.completions.create
    messages: Any = [{"role": "user", "content": "x"}]
    error = refused(openai.PermissionDeniedError, lambda: act(model=MODEL, messages=messages))
    assert error.code == "permission_denied"


@check
def wrong_values() -> None:
    error = refused(openai.BadRequestError, lambda: chat("x", temperature=7))
    assert (error.code, error.param, error.type) == ("invalid_value", "temperature", "invalid_request_error")
    error = refused(openai.BadRequestError, lambda: chat("x", extra_body={"temprature": 1}))
    assert (error.code, error.param) == ("unknown_parameter", "temprature")
    error = refused(openai.BadRequestError, lambda: chat("x", audio={"voice": "a", "format": "mp3"}))
    assert (error.code, error.param) == ("unsupported_parameter", "audio")


@check
def wrong_messages() -> None:
    asked: Any = [{"role": "user"}]
    act = client.chat.completions.create
    error = refused(openai.BadRequestError, lambda: act(model=MODEL, messages=asked))
    assert error.param == "messages[0].content"


@check
def too_much_context() -> None:
    error = refused(openai.BadRequestError, lambda: chat("x" * 40_000))
    assert error.code == "context_length_exceeded"


@check
def wrong_embeddings() -> None:
    error = refused(openai.BadRequestError, lambda: client.embeddings.create(model=MODEL, input=[]))
    assert error.param == "input"


@check
def too_large_a_body() -> None:
    error = refused(openai.APIStatusError, lambda: chat("x" * 3_000_000))
    assert (error.status_code, error.code) == (413, "request_too_large")


@check
def another_question_under_the_same_idempotency_key() -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = chat("echo: once", extra_headers=key)
    assert chat("echo: once", extra_headers=key).id == first.id
    error = refused(openai.ConflictError, lambda: chat("echo: twice", extra_headers=key))
    assert error.code == "idempotency_conflict"


@check
def more_than_an_hour_has() -> None:
    """Of the routes that have a limit the client knows none: it is asked to post there all the same."""
    auditor = made(api_key=AUDITOR_KEY)
    asked = {"purpose": "contract tests", "limit": 1}

    def search() -> None:
        for _ in range(3):
            auditor.post("/audit/events", body=asked, cast_to=object)

    error = refused(openai.RateLimitError, search)
    assert error.code == "read_limit"
    assert int(error.response.headers["retry-after"]) > 0


@check
def nobody_listens() -> None:
    try:
        made(base_url="http://127.0.0.1:9/v1").models.list()
    except openai.APIConnectionError as error:
        assert not isinstance(error, openai.APITimeoutError)
    else:
        raise AssertionError("no APIConnectionError")


@check
def a_caller_who_does_not_wait() -> None:
    try:
        chat("please be slow and say 40 tokens", timeout=0.3)
    except openai.APITimeoutError:
        return
    raise AssertionError("no APITimeoutError")


@check
def an_answer_that_breaks_off() -> None:
    """The worker dies at its third token: the stream ends with an error, and not as if it were whole."""
    seen = []
    try:
        for chunk in chat("please crash", stream=True):
            seen += [choice.finish_reason for choice in chunk.choices]
    except openai.APIError as error:
        assert error.code == "engine_failed"
    else:
        raise AssertionError("no APIError")
    assert not any(seen)


@check
def retries_wait_as_long_as_they_are_told() -> None:
    """Until the worker is back a question is refused with 503: the client waits, and is answered then."""
    slept: list[float] = []
    sleep = time.sleep

    def counted(seconds: Any) -> None:
        slept.append(seconds)
        sleep(seconds)

    refused(openai.InternalServerError, lambda: chat("please crash"))
    time.sleep = counted
    try:
        patient = made(max_retries=8).chat.completions.with_raw_response
        answer = patient.create(model=MODEL, messages=[{"role": "user", "content": "echo: back"}])
    finally:
        time.sleep = sleep
    assert answer.retries_taken >= 1
    assert len(slept) == answer.retries_taken
    assert all(each == int(each) >= 1 for each in slept), slept  # as told: its own waits are broken numbers
    assert answer.parse().choices[0].message.content == "back"
