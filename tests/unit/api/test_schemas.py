"""What a caller may send, and what each mistake is called."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.api import errors as wire
from appliance.api.body import read
from appliance.api.schemas import OFF_VALUES, ChatCompletionRequest
from appliance.core import ChatMessage, SamplingParams
from appliance.errors import RequestError

BASE: dict[str, Any] = {"model": "default", "messages": [{"role": "user", "content": "hi"}]}


def shaped(**schema: Any) -> dict[str, Any]:
    """A question whose answer is to keep to a schema."""
    return BASE | {"response_format": {"type": "json_schema"} | ({"json_schema": schema} if schema else {})}


HUGE = {"enum": ["x" * 70_000]}


def parse(body: bytes | dict[str, Any]) -> ChatCompletionRequest:
    """As the route does it."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    asked = read(raw, ChatCompletionRequest)
    asked.to_core("req_1", None)
    return asked


def refusal(body: bytes | dict[str, Any]) -> tuple[str, str | None]:
    """Code and parameter of what `parse` raises."""
    with pytest.raises(RequestError) as caught:
        parse(body)
    return caught.value.code, caught.value.param


def test_defaults_come_from_the_request_to_core() -> None:
    """A bare question becomes core's words, with the API's defaults."""
    request = parse(BASE).to_core("req_1", None)

    assert request.messages == (ChatMessage(role="user", content="hi"),)
    assert request.sampling == SamplingParams()
    assert not request.stream


def test_parts_developer_and_newer_limit_are_understood() -> None:
    """Content parts are joined, `developer` is `system`, `max_completion_tokens` wins."""
    request = parse(
        {
            "model": "default",
            "messages": [
                {"role": "developer", "content": "be brief"},
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                },
            ],
            "max_tokens": 5,
            "max_completion_tokens": 7,
            "stop": "END",
            "seed": -1,
            "user": "counter-3",
        }
    ).to_core("req_1", None)

    assert request.messages == (
        ChatMessage(role="system", content="be brief"),
        ChatMessage(role="user", content="ab"),
    )
    assert request.sampling.max_tokens == 7
    assert request.sampling.stop == ("END",)
    assert request.sampling.seed == -1 % 0xFFFF_FFFF
    assert request.annotations == {"user": "counter-3"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", ("invalid_json", None)),
        (b"{", ("invalid_json", None)),
        (b"[]", ("invalid_json", None)),
        (b'"text"', ("invalid_json", None)),
        (b'{"model": "\xff\xfe"}', ("invalid_json", None)),
        (b'{"model": "\\ud800"}', ("invalid_json", None)),
        (b"[" * 100_000, ("invalid_json", None)),
        ({}, ("missing_required_parameter", "model")),
        ({"model": "default"}, ("missing_required_parameter", "messages")),
        (BASE | {"model": 3}, ("invalid_type", "model")),
        (BASE | {"model": ""}, ("invalid_value", "model")),
        (BASE | {"messages": []}, ("invalid_value", "messages")),
        (BASE | {"messages": "hi"}, ("invalid_type", "messages")),
        (BASE | {"messages": [{"role": "user"}]}, ("missing_required_parameter", "messages[0].content")),
        (BASE | {"messages": [{"role": "king", "content": ""}]}, ("invalid_value", "messages[0].role")),
        (BASE | {"messages": [{"role": "user", "content": 5}]}, ("invalid_type", "messages[0].content")),
        (BASE | {"temperature": "warm"}, ("invalid_type", "temperature")),
        (BASE | {"temperature": -0.1}, ("invalid_value", "temperature")),
        (BASE | {"temperature": 99}, ("invalid_value", "temperature")),
        (json.dumps(BASE | {"temperature": float("nan")}).encode(), ("invalid_value", "temperature")),
        (BASE | {"max_tokens": 0}, ("invalid_value", "max_tokens")),
        (BASE | {"max_tokens": -1}, ("invalid_value", "max_tokens")),
        (BASE | {"max_tokens": 10**12}, ("invalid_value", "max_tokens")),
        (BASE | {"max_tokens": True}, ("invalid_type", "max_tokens")),
        (BASE | {"max_tokens": 1.5}, ("invalid_type", "max_tokens")),
        (BASE | {"top_p": 0}, ("invalid_value", "top_p")),
        (BASE | {"seed": 2**63}, ("invalid_value", "seed")),
        (BASE | {"stop": ["a"] * 5}, ("invalid_value", "stop")),
        (BASE | {"stop": ""}, ("invalid_value", "stop")),
        (BASE | {"stream": "yes"}, ("invalid_type", "stream")),
        (BASE | {"stream_options": {"include_usage": True}}, ("invalid_value", "stream_options")),
        (BASE | {"colour": "blue"}, ("unknown_parameter", "colour")),
        (BASE | {"n": 17}, ("invalid_value", "n")),
        (BASE | {"n": 0}, ("invalid_value", "n")),
        (BASE | {"n": True}, ("invalid_type", "n")),
        (BASE | {"n": 2, "reproducible": True}, ("unsupported_parameter", "n")),
        (BASE | {"logprobs": 1}, ("invalid_type", "logprobs")),
        (BASE | {"top_logprobs": 2}, ("invalid_value", "top_logprobs")),
        (BASE | {"logprobs": True, "top_logprobs": 21}, ("invalid_value", "top_logprobs")),
        (BASE | {"logit_bias": {"7": 101}}, ("invalid_value", "logit_bias.7")),
        (BASE | {"logit_bias": {"7": True}}, ("invalid_type", "logit_bias.7")),
        (BASE | {"logit_bias": {"seven": 1}}, ("invalid_value", "logit_bias.seven")),
        (BASE | {"logit_bias": {"my own words": 1}}, ("invalid_value", "logit_bias")),
        (BASE | {"logit_bias": {"2147483648": 1}}, ("invalid_value", "logit_bias.2147483648")),
        (BASE | {"logit_bias": {"07": 1}}, ("invalid_value", "logit_bias.07")),
        (BASE | {"logit_bias": {str(at): 1 for at in range(1025)}}, ("invalid_value", "logit_bias")),
        (BASE | {"logit_bias": [[7, 1]]}, ("invalid_type", "logit_bias")),
        (BASE | {"timeout": 0}, ("invalid_value", "timeout")),
        (BASE | {"timeout": "soon"}, ("invalid_type", "timeout")),
        (BASE | {"reasoning_effort": "heroic"}, ("invalid_value", "reasoning_effort")),
        (BASE | {"verbosity": "chatty"}, ("invalid_value", "verbosity")),
        (BASE | {"metadata": {"a": 1}}, ("invalid_type", "metadata.a")),
        (BASE | {"metadata": {"a": "x" * 513}}, ("invalid_value", "metadata.a")),
        (BASE | {"functions": [{"name": "f"}]}, ("unsupported_parameter", "functions")),
        (BASE | {"function_call": {"name": "f"}}, ("unsupported_parameter", "function_call")),
        (BASE | {"modalities": ["text", "audio"]}, ("unsupported_parameter", "modalities")),
        (BASE | {"web_search_options": {}}, ("unsupported_parameter", "web_search_options")),
        (BASE | {"chat_template_kwargs": {}}, ("unknown_parameter", "chat_template_kwargs")),
        (BASE | {"guided_json": {}}, ("unknown_parameter", "guided_json")),
        (BASE | {"ignore_eos": True}, ("unknown_parameter", "ignore_eos")),
        (BASE | {"min_tokens": 1}, ("unknown_parameter", "min_tokens")),
        (BASE | {"stop": ["a", ""]}, ("invalid_value", "stop[1]")),
        (BASE | {"stop": [7]}, ("invalid_type", "stop[0]")),
        (BASE | {"response_format": {"type": "xml"}}, ("invalid_value", "response_format.type")),
        (shaped(), ("missing_required_parameter", "response_format.json_schema")),
        (shaped(name="a"), ("missing_required_parameter", "response_format.json_schema.schema")),
        (shaped(name="a", schema=HUGE), ("unsupported_schema", "response_format.json_schema.schema")),
        (shaped(name="a b", schema={}), ("invalid_value", "response_format.json_schema.name")),
        (shaped(name="a", schema=[]), ("invalid_type", "response_format.json_schema.schema")),
        (BASE | {"reproducible": "yes"}, ("invalid_type", "reproducible")),
    ],
)  # fmt: skip
def test_each_mistake_has_its_code_and_place(
    body: bytes | dict[str, Any], expected: tuple[str, str | None]
) -> None:
    """Bad input is named by kind and by path, never by value."""
    assert refusal(body) == expected


def test_null_and_off_values_mean_not_given() -> None:
    """Clients that send every field with its neutral value are served."""
    neutral = {name: off[0] for name, off in OFF_VALUES.items() if off}
    absent = {name: None for name, off in OFF_VALUES.items() if not off}
    optional = {name: None for name in ChatCompletionRequest.model_fields if name not in BASE}

    assert parse(BASE | neutral | absent) is not None
    assert parse(BASE | optional) is not None


def test_messages_about_mistakes_hold_no_value() -> None:
    """A refused body's content can not come back, or into a log, through the error."""
    canary = "canary-7f3a"
    with pytest.raises(RequestError) as caught:
        parse(BASE | {"temperature": canary})

    assert canary not in caught.value.message
    assert canary not in wire.body_of(caught.value).decode()


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_arbitrary_bytes_are_a_request_or_a_clean_refusal(body: bytes) -> None:
    """No body can raise anything but a RequestError."""
    with contextlib.suppress(RequestError):
        parse(body)
