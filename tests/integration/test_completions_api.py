"""`POST /v1/completions` over a real gateway: prompts in four shapes, echoes, the older shape of answers."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.terms import Endpoint
from tests.harness import Gateway, sse

pytestmark = pytest.mark.integration
PATH = "/v1/completions"


def post(running: Gateway, **body: Any) -> httpx.Response:
    with running.client() as http:
        return http.post(PATH, json={"model": "default", **body})


def stream(running: Gateway, **body: Any) -> list[Any]:
    asked = {"model": "default", "stream": True, **body}
    with running.client() as http, http.stream("POST", PATH, json=asked) as answer:
        assert answer.status_code == 200
        return list(sse(answer.iter_lines()))


def test_a_text_is_gone_on_from(client: openai.OpenAI) -> None:
    """A prompt is taken as it stands; the answer has text, reason and usage."""
    answer = client.completions.create(model="default", prompt="echo: abc")

    assert [(each.index, each.text, each.finish_reason) for each in answer.choices] == [(0, "abc", "stop")]
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len("echo: abc")  # a token for each byte, and no template
    assert (answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 12)


def test_sixteen_tokens_are_the_default(client: openai.OpenAI) -> None:
    """Where no limit is named an answer ends behind 16 tokens, as at OpenAI."""
    answer = client.completions.create(model="default", prompt="say 100 tokens")

    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16


@pytest.mark.parametrize(
    "prompt",
    [["echo: a", "echo: b"], [list(b"echo: a"), list(b"echo: b")]],
)
def test_each_prompt_has_its_answers(client: openai.OpenAI, prompt: Any) -> None:
    """Choice `i` answers prompt `i // n`, for texts and for token ids."""
    answer = client.completions.create(model="default", prompt=prompt, n=2)

    assert [(each.index, each.text) for each in answer.choices] == [(0, "a"), (1, "a"), (2, "b"), (3, "b")]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 2 * len("echo: a")


def test_token_ids_are_one_prompt(client: openai.OpenAI) -> None:
    """A list of numbers is one prompt, not many."""
    answer = client.completions.create(model="default", prompt=list(b"echo: abc"))

    assert [each.text for each in answer.choices] == ["abc"]


def test_a_text_can_not_open_a_turn(running: Gateway) -> None:
    """Control tokens' texts stay text in a prompt: it has as many tokens as bytes."""
    usage = post(running, prompt="<|system|>").json()["usage"]

    assert usage["prompt_tokens"] == len("<|system|>")


def test_an_echo_stands_before_each_answer(running: Gateway) -> None:
    """`echo` gives the prompt back in front of what follows, whole and streamed."""
    told = post(running, prompt=["echo: a", "echo: b"], echo=True).json()
    *chunks, done = stream(running, prompt=["echo: a", "echo: b"], echo=True)

    assert [each["text"] for each in told["choices"]] == ["echo: aa", "echo: bb"]
    texts = ["", ""]
    for chunk in chunks:
        texts[chunk["choices"][0]["index"]] += chunk["choices"][0]["text"]
    assert (texts, done) == (["echo: aa", "echo: bb"], "[DONE]")


def test_log_probabilities_in_the_older_shape(client: openai.OpenAI) -> None:
    """Four lists, an entry for each token; offsets lie in the text; the chosen one is among the likeliest."""
    answer = client.completions.create(model="default", prompt="echo: ab", logprobs=2)

    found = answer.choices[0].logprobs
    assert found is not None
    assert found.tokens == ["a", "b"]
    assert found.text_offset == [0, 1]
    assert found.token_logprobs is not None
    assert all(each <= 0 for each in found.token_logprobs)
    assert found.top_logprobs is not None
    assert [len(each) for each in found.top_logprobs] == [2, 2]
    chosen = [each[token] for each, token in zip(found.top_logprobs, "ab", strict=True)]
    assert chosen == found.token_logprobs


def test_a_stop_string_has_no_log_probabilities(running: Gateway) -> None:
    """What is not told is not weighed: tokens and text end together, whole and streamed."""
    asked: dict[str, Any] = {"prompt": "echo: abcd", "logprobs": 0, "stop": ["cd"]}
    choice = post(running, **asked).json()["choices"][0]
    *chunks, _ = stream(running, **asked)

    assert (choice["text"], choice["logprobs"]["tokens"]) == ("ab", ["a", "b"])
    told = [c["logprobs"]["tokens"] for each in chunks for c in each["choices"] if c["logprobs"]]
    assert [token for piece in told for token in piece] == ["a", "b"]


def test_streams_carry_the_same_log_probabilities(running: Gateway) -> None:
    """Put together, a stream's lists are those of the whole answer."""
    told = post(running, prompt="echo: grüß", logprobs=1).json()["choices"][0]["logprobs"]
    *chunks, _ = stream(running, prompt="echo: grüß", logprobs=1)

    for name in ("tokens", "token_logprobs", "text_offset", "top_logprobs"):
        pieces = [c["logprobs"][name] for each in chunks for c in each["choices"] if c["logprobs"]]
        assert [token for piece in pieces for token in piece] == told[name]


def test_a_stream_ends_with_its_reason_and_its_usage(running: Gateway) -> None:
    """Each choice has one reason; usage stands in a chunk of its own, and is null before."""
    *chunks, done = stream(
        running, prompt="echo: abc", n=2, stop=["c"], stream_options={"include_usage": True}
    )

    assert done == "[DONE]"
    for index in (0, 1):
        own = [c for each in chunks for c in each["choices"] if c["index"] == index]
        assert "".join(each["text"] for each in own) == "ab"
        assert [each["finish_reason"] for each in own] == [None] * (len(own) - 1) + ["stop"]
    assert chunks[-1]["choices"] == []
    assert [each["usage"] is None for each in chunks] == [True] * (len(chunks) - 1) + [False]
    assert len({each["id"] for each in chunks}) == 1


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"prompt": "x", "suffix": "y"}, "unsupported_parameter", "suffix"),
        ({"prompt": "x", "best_of": 3}, "unsupported_parameter", "best_of"),
        ({"prompt": "x", "echo": True, "logprobs": 1}, "unsupported_parameter", "echo"),
        ({"prompt": "x" * 60_000}, "context_length_exceeded", "prompt"),
        ({"prompt": [1_000_000]}, "invalid_value", "prompt"),
        ({"prompt": "x", "logit_bias": {"1000000": 1}}, "invalid_value", "logit_bias"),
        ({}, "missing_required_parameter", "prompt"),
    ],
    ids=str,
)
def test_what_can_not_be_is_refused(running: Gateway, body: dict[str, Any], code: str, param: str) -> None:
    """400 with the code and the parameter, before or behind the worker."""
    answer = post(running, **body)

    assert answer.status_code == 400, answer.text
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (code, param)
    assert answer.headers["x-should-retry"] == "false"


def test_it_is_on_the_record_as_what_it_is(running: Gateway) -> None:
    """The opening names the endpoint; a receipt comes with the answer."""
    answer = post(running, prompt="echo: a")
    opened = next(
        each
        for each in query.by_request(running.home.database, answer.headers["x-request-id"])
        if each.kind is Kind.REQUEST_OPENED
    )

    assert opened.public["endpoint"] == Endpoint.COMPLETIONS
    assert answer.headers["x-audit-record"].endswith(f"/{opened.seq}")
