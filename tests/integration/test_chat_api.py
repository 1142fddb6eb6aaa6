"""`POST /v1/chat/completions` over a real gateway: what a question may carry, and what comes back."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from tests.harness import Gateway, question, sse

pytestmark = pytest.mark.integration
PATH = "/v1/chat/completions"
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def post(running: Gateway, body: dict[str, Any]) -> httpx.Response:
    with running.client() as http:
        return http.post(PATH, json=body)


def stream(running: Gateway, body: dict[str, Any]) -> list[Any]:
    with running.client() as http, http.stream("POST", PATH, json=body | {"stream": True}) as answer:
        assert answer.status_code == 200
        return list(sse(answer.iter_lines()))


def test_several_answers_come_together(client: openai.OpenAI) -> None:
    """`n` answers have their own index and reason; the prompt's tokens count once."""
    one = client.chat.completions.create(**question("echo: abc"))
    four = client.chat.completions.create(**question("echo: abc"), n=4)

    assert [each.index for each in four.choices] == [0, 1, 2, 3]
    assert [each.message.content for each in four.choices] == ["abc"] * 4
    assert {each.finish_reason for each in four.choices} == {"stop"}
    assert one.usage is not None
    assert four.usage is not None
    assert four.usage.prompt_tokens == one.usage.prompt_tokens
    assert four.usage.completion_tokens == 4 * one.usage.completion_tokens


def test_several_answers_are_streamed_side_by_side(running: Gateway) -> None:
    """Each choice has its role first and one finish reason; one usage chunk ends the stream."""
    *chunks, done = stream(running, question("echo: abc", n=3, stream_options={"include_usage": True}))

    assert done == "[DONE]"
    for index in range(3):
        own = [c for each in chunks for c in each["choices"] if c["index"] == index]
        assert own[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(each["delta"].get("content", "") for each in own) == "abc"
        assert [each["finish_reason"] for each in own] == [None] * (len(own) - 1) + ["stop"]
    assert [each["usage"] is not None for each in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1]["choices"] == []


def test_more_answers_than_the_bound_are_refused_with_the_bound(running: Gateway) -> None:
    """The error says how many there may be."""
    error = post(running, question("x", n=17)).json()["error"]

    assert (error["code"], error["param"]) == ("invalid_value", "n")
    assert "16" in error["message"]


def test_answers_keep_to_a_schema(client: openai.OpenAI) -> None:
    """A schema is kept to whatever the model would say; strict or not, and as any JSON object."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"],
              "additionalProperties": False}  # fmt: skip
    for strict in (True, False, None):
        answer = client.chat.completions.create(
            **question('echo: {"a":'),
            max_tokens=40,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "one_number", "schema": schema, "strict": strict},
            },
        )
        assert answer.choices[0].message.content is not None
        assert answer.choices[0].message.content.startswith('{"a":')
    free = client.chat.completions.create(
        **question('echo: {"b": [1]}'), response_format={"type": "json_object"}
    )
    assert json.loads(free.choices[0].message.content or "") == {"b": [1]}


def test_a_schema_that_can_not_be_kept_to_is_refused(running: Gateway) -> None:
    """400 `unsupported_schema`, never an answer that does not keep to it."""
    schema = {"type": "object", "properties": {"a": {"$ref": "http://example.com/a"}}}
    answer = post(
        running,
        question(
            "x", response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
        ),
    )

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "unsupported_schema"


def test_a_seed_gives_each_answer_its_own_chance_again(client: openai.OpenAI) -> None:
    """The same seed gives the same answers; the answers of one request differ from each other."""
    first, again = (
        [
            each.message.content
            for each in client.chat.completions.create(**question("roll 9 dice"), seed=7, n=3).choices
        ]
        for _ in range(2)
    )

    assert first == again
    assert len(set(first)) == 3


def test_a_bias_makes_a_token_likelier(client: openai.OpenAI) -> None:
    """Biases of token ids reach the sampler; an id that does not exist is refused."""
    answer = client.chat.completions.create(
        **question("echo: abc"), logit_bias={str(ord("x")): 100}, max_tokens=3
    )

    assert answer.choices[0].message.content == "xxx"
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**question("x"), logit_bias={"999999": 1})
    assert (refused.value.code, refused.value.param) == ("invalid_value", "logit_bias")


def test_log_probabilities_are_of_every_token(client: openai.OpenAI) -> None:
    """Each has its text, its bytes and as many alternatives as were asked for, the likeliest first."""
    answer = client.chat.completions.create(**question("echo: aß"), logprobs=True, top_logprobs=3)

    assert answer.choices[0].logprobs is not None
    found = answer.choices[0].logprobs.content
    assert found is not None
    assert bytes(byte for each in found for byte in each.bytes or ()) == "aß".encode()
    for each in found:
        assert each.logprob <= 0
        assert [top.logprob for top in each.top_logprobs] == sorted(
            (top.logprob for top in each.top_logprobs), reverse=True
        )
        assert len(each.top_logprobs) == 3
        assert each.top_logprobs[0].bytes == each.bytes
    none = client.chat.completions.create(**question("echo: a"), logprobs=True)
    assert none.choices[0].logprobs is not None
    assert [each.top_logprobs for each in none.choices[0].logprobs.content or ()] == [[]]


def test_streams_carry_the_same_log_probabilities(running: Gateway) -> None:
    """Put together, the chunks' entries are those of the whole answer, for each choice."""
    asked = question("echo: grüß", logprobs=True, top_logprobs=1, n=2, seed=5)
    told = post(running, asked).json()["choices"]
    *chunks, _ = stream(running, asked)

    for choice in told:
        own = [c for each in chunks for c in each["choices"] if c["index"] == choice["index"]]
        pieces = [each["logprobs"]["content"] for each in own if each["logprobs"]]
        assert [token for piece in pieces for token in piece] == choice["logprobs"]["content"]


def test_a_conversation_with_tools_goes_on(client: openai.OpenAI) -> None:
    """Calls and results of earlier turns are taken, as the official client's own types send them."""
    answer = client.chat.completions.create(
        model="default",
        messages=[
            {"role": "user", "content": "how is the weather"},
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
            {"role": "user", "content": "echo: take an umbrella"},
        ],
        tools=[WEATHER],
        tool_choice="none",
    )

    assert answer.choices[0].message.content == "take an umbrella"
    assert answer.choices[0].message.tool_calls is None


def test_a_message_has_exactly_what_typed_clients_require(running: Gateway) -> None:
    """role, content and refusal stand there always, calls and thoughts only where there are some."""
    choice = post(running, question("echo: a")).json()["choices"][0]

    assert choice == {
        "index": 0,
        "message": {"role": "assistant", "content": "a", "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }


def test_usage_has_its_details(running: Gateway) -> None:
    """The three totals, cached tokens and reasoning tokens are always there."""
    usage = post(running, question("echo: a")).json()["usage"]

    assert set(usage) == {
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "prompt_tokens_details",
        "completion_tokens_details",
    }
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 0}


def test_extras_of_clients_have_no_effect_and_are_taken(client: openai.OpenAI) -> None:
    """What can not change an answer here is accepted as clients send it."""
    answer = client.chat.completions.create(
        **question("echo: a"),
        metadata={"case": "17"},
        user="citizen-17",
        safety_identifier="s-1",
        service_tier="auto",
        store=True,
        verbosity="low",
        prompt_cache_key="k",
        prompt_cache_options={"mode": "implicit"},
        prediction={"type": "content", "content": "a"},
        reasoning_effort="none",
        modalities=["text"],
        parallel_tool_calls=False,
        extra_body={"timeout": 60, "top_k": 5},
    )

    assert answer.choices[0].message.content == "a"


@pytest.mark.parametrize(
    "extra",
    [
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"guided_json": {}},
        {"ignore_eos": True},
        {"min_tokens": 5},
        {"best_of": 2},
    ],
)
def test_what_nobody_here_knows_is_refused(client: openai.OpenAI, extra: dict[str, Any]) -> None:
    """A parameter of another server is never ignored in silence."""
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**question("x"), extra_body=extra)

    assert (refused.value.code, refused.value.param) == ("unknown_parameter", next(iter(extra)))


def test_an_effort_that_a_model_does_not_have_is_refused(client: openai.OpenAI) -> None:
    """A model that does not think can not think longer: only `none` is taken."""
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**question("x"), reasoning_effort="low")

    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "reasoning_effort")


def test_the_callers_own_time_limit_ends_an_answer(running: Gateway) -> None:
    """`timeout` in seconds is the caller's; the refusal is not worth another try."""
    answer = post(running, question("please be slow, say 2000 tokens", timeout=0.3))

    assert (answer.status_code, answer.json()["error"]["code"]) == (408, "timeout")
    assert answer.headers["x-should-retry"] == "false"


def test_a_stream_that_fails_says_so_on_a_data_line(running: Gateway) -> None:
    """What stops an answer in the middle is an error object, and there is no `[DONE]` behind it."""
    *chunks, last = stream(running, question("please crash, say 50 tokens"))

    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert set(last["error"]) == {"message", "type", "param", "code"}
    assert last["error"]["code"] == "engine_failed"
    running.wait_ready()


def test_a_worker_that_dies_is_worth_another_try(running: Gateway) -> None:
    """503 with `Retry-After` and `x-should-retry: true`: the next attempt meets a new worker."""
    answer = post(running, question("please crash, say 50 tokens"))

    assert (answer.status_code, answer.headers["x-should-retry"]) == (503, "true")
    assert int(answer.headers["retry-after"]) > 0
    running.wait_ready()


def test_every_answer_stands_on_the_record_once(running: Gateway) -> None:
    """Three choices are one exchange: one opening and one closing."""
    answer = post(running, question("echo: a", n=3))

    found = [each.kind for each in query.by_request(running.home.database, answer.headers["x-request-id"])]
    assert found == [Kind.REQUEST_OPENED, Kind.REQUEST_CLOSED]
