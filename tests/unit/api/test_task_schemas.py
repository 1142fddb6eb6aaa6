"""The bodies of tasks: what callers of either dialect may send, and what becomes of it."""

from __future__ import annotations

import contextlib
import json
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.api.body import Body, read, refuse_unless_off
from appliance.api.embeddings import EmbeddingRequest
from appliance.api.input_tokens import OFF_VALUES, InputTokensRequest
from appliance.api.rerank import RerankRequest
from appliance.api.tokens import DetokenizeRequest, TokenizeRequest
from appliance.core import ChatMessage
from appliance.errors import RequestError

_Kind = TypeVar("_Kind", bound=Body)


def parse(kind: type[_Kind], body: dict[str, Any] | bytes) -> _Kind:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read(data, kind)


@pytest.mark.parametrize(
    ("given_input", "expected"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([1, 2, 3], ((1, 2, 3),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
        ([7] * 5000, ((7,) * 5000,)),  # one long array is one input, not too many
    ],
)
def test_inputs_in_all_four_shapes(given_input: Any, expected: Any) -> None:
    """A text, texts, an array of token ids, arrays of them."""
    asked = parse(EmbeddingRequest, {"model": "default", "input": given_input})

    assert asked.inputs() == expected


def test_user_goes_on_the_record_and_null_is_nothing() -> None:
    """`user` changes no answer; a client that sends every field as null is served."""
    body = {"model": "m", "input": "a", "encoding_format": None, "dimensions": None, "user": "desk"}
    task = parse(EmbeddingRequest, body).to_core("req_1", "m")

    assert task.annotations == {"user": "desk"}
    assert task.dimensions is None
    assert parse(EmbeddingRequest, body | {"user": None}).to_core("req_1", "m").annotations == {}


def test_documents_as_texts_and_objects() -> None:
    """Both are texts for the worker."""
    asked = parse(RerankRequest, {"query": "q", "documents": ["a", {"text": "b"}]})
    assert asked.to_core("req_1", "m").documents == ("a", "b")


@pytest.mark.parametrize(
    ("body", "add_special", "parse_special", "with_pieces"),
    [
        ({"content": "a"}, False, False, False),
        ({"content": "a", "add_special": True, "parse_special": True}, True, True, False),
        ({"content": "a", "with_pieces": True}, False, False, True),
        ({"prompt": "a"}, True, False, False),
        ({"prompt": "a", "add_special_tokens": False, "return_token_strs": True}, False, False, True),
    ],
)
def test_each_dialect_keeps_its_defaults(
    body: dict[str, Any],
    add_special: bool,  # noqa: FBT001
    parse_special: bool,  # noqa: FBT001
    with_pieces: bool,  # noqa: FBT001
) -> None:
    """llama-server adds nothing unless told to, vLLM does; neither parses control tokens here."""
    task = parse(TokenizeRequest, body).to_core("req_1", "m")

    assert task.source == "a"
    assert (task.add_special, task.parse_special, task.with_pieces) == (
        add_special,
        parse_special,
        with_pieces,
    )


def test_instructions_come_first_and_items_are_turns() -> None:
    """The conversation that a response would be made of."""
    body = {
        "input": [
            {"role": "developer", "content": "x"},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "a"}, {"type": "output_text", "text": "b"}],
            },
        ],
        "instructions": "be brief",
    }
    task = parse(InputTokensRequest, body).to_core("req_1", "m")

    assert task.messages == (
        ChatMessage("system", "be brief"),
        ChatMessage("system", "x"),
        ChatMessage("assistant", "ab"),
    )


def test_off_values_are_taken_and_others_named() -> None:
    """What would change the count is refused by name, never ignored."""
    neutral = {name: off[0] for name, off in OFF_VALUES.items() if off}
    refuse_unless_off(parse(InputTokensRequest, {"input": "a"} | neutral), OFF_VALUES)
    for name in OFF_VALUES:
        asked = parse(InputTokensRequest, {"input": "a", name: "something else"})
        with pytest.raises(RequestError) as refused:
            refuse_unless_off(asked, OFF_VALUES)
        assert (refused.value.code, refused.value.param) == ("unsupported_parameter", name)


@pytest.mark.parametrize(
    "kind", [EmbeddingRequest, RerankRequest, TokenizeRequest, DetokenizeRequest, InputTokensRequest]
)
@given(body=st.binary(max_size=100) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["model", "input", "query", "documents", "tokens", "prompt"]), inner),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_arbitrary_bodies_are_a_request_or_a_clean_refusal(kind: type[Body], body: bytes) -> None:
    """No body can raise anything but a RequestError."""
    with contextlib.suppress(RequestError):
        asked = parse(kind, body)
        if isinstance(asked, EmbeddingRequest | RerankRequest | TokenizeRequest):
            asked.to_core("req_1", "m")
