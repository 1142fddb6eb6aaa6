"""Functions, thoughts and log-probabilities in `/v1/responses`, through a whole gateway."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.harness import Gateway
from tests.homes import make_home
from tests.integration.test_tools import CALL, PARAMETERS
from tests.records import closing_of

pytestmark = pytest.mark.integration
TOOLS: list[Any] = [
    {"type": "function", "name": "fetch_form", "description": "Gets a form.", "parameters": PARAMETERS,
     "strict": True},
    {"type": "function", "name": "open_counter", "parameters": None, "strict": False},
]  # fmt: skip
ARGUMENTS = {"form": "B7", "copies": 2}


@pytest.fixture(scope="module")
def thinking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    """A client of a gateway whose model thinks."""
    program = [sys.executable, "-m", "tests.fakes.serve", "--worker", "tests.fakes.thinking_worker"]
    started = Gateway(home=make_home(tmp_path_factory.mktemp("thinking") / "home"), program=program)
    try:
        started.start().wait_ready()
        with openai.OpenAI(
            base_url=f"{started.url}/v1",
            api_key=started.key(),
            max_retries=0,
            _strict_response_validation=True,
        ) as made:
            yield made
    finally:
        if started.process is not None and started.process.poll() is None:
            started.stop()


def test_a_call_goes_out_and_its_output_comes_back(running: Gateway, client: openai.OpenAI) -> None:
    """Text and two calls are three items; sent back with their outputs, the conversation goes on."""
    conversation: list[Any] = [{"role": "user", "content": f"echo: I look.␤{CALL}␤{CALL}"}]
    answer = client.responses.create(model="default", input=conversation, tools=TOOLS)
    calls = [each for each in answer.output if each.type == "function_call"]

    assert [each.type for each in answer.output] == ["message", "function_call", "function_call"]
    assert answer.status == "completed"
    assert answer.output_text.strip() == "I look."
    assert [json.loads(each.arguments) for each in calls] == [ARGUMENTS, ARGUMENTS]
    assert {each.name for each in calls} == {"fetch_form"}
    assert len({each.call_id for each in calls} | {each.id for each in calls}) == 4
    assert answer._request_id is not None
    assert closing_of(running.home, answer._request_id).public["outcome"] == "tool_calls"
    conversation += [each.to_dict() for each in answer.output]
    conversation += [
        {"type": "function_call_output", "call_id": each.call_id, "output": "42 pages"} for each in calls
    ]
    conversation.append({"role": "user", "content": "echo: It has 42 pages."})
    after = client.responses.create(model="default", input=conversation, tools=TOOLS)
    assert after.output_text == "It has 42 pages."
    counted = client.responses.input_tokens.count(model="default", input=conversation, tools=TOOLS)
    assert after.usage is not None
    assert counted.input_tokens == after.usage.input_tokens


def test_streamed_calls_are_the_same_calls(client: openai.OpenAI) -> None:
    """Each call is added, told in pieces and done with its name; the accumulator agrees."""
    with client.responses.stream(model="default", input=f"echo: {CALL}␤{CALL}", tools=TOOLS) as stream:
        events = list(stream)
        final = stream.get_final_response()
    done = [each for each in events if each.type == "response.function_call_arguments.done"]

    assert [each.type for each in final.output] == ["function_call", "function_call"]
    for at, each in enumerate(done):
        pieces = [
            event.delta
            for event in events
            if event.type == "response.function_call_arguments.delta" and event.output_index == at
        ]
        assert "".join(pieces) == each.arguments
        assert json.loads(each.arguments) == ARGUMENTS
        assert each.to_dict()["name"] == "fetch_form"
        assert each.item_id == final.output[at].to_dict()["id"]


@pytest.mark.parametrize(
    "choice",
    [
        "required",
        {"type": "function", "name": "fetch_form"},
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "fetch_form"}]},
    ],
)
def test_a_choice_is_kept_whatever_the_model_says(client: openai.OpenAI, choice: Any) -> None:
    """There is a call, and the echo of the choice is what was asked."""
    answer = client.responses.create(
        model="default",
        input="echo: I would rather talk.",
        tools=TOOLS[:1],
        tool_choice=choice,
        max_output_tokens=400,
    )

    assert {each.type for each in answer.output} == {"function_call"}
    assert answer.to_dict()["tool_choice"] == choice


def test_logprobs_are_told_where_they_are_asked_for(client: openai.OpenAI) -> None:
    """By `include`, with alternatives by number; of every token that is said, and of no other."""
    answer = client.responses.create(
        model="default", input="echo: yes", include=["message.output_text.logprobs"], top_logprobs=2
    )
    plain = client.responses.create(model="default", input="echo: yes")
    message = answer.output[0].to_dict()["content"][0]  # type: ignore[index]
    with client.responses.stream(model="default", input="echo: yes", top_logprobs=1) as stream:
        final = stream.get_final_response()

    assert "".join(each["token"] for each in message["logprobs"]) == "yes"
    assert all(len(each["top_logprobs"]) == 2 for each in message["logprobs"])
    assert plain.output[0].to_dict()["content"][0]["logprobs"] == []  # type: ignore[index]
    said = final.output[-1].to_dict()["content"][0]["logprobs"]  # type: ignore[index]
    assert "".join(each["token"] for each in said) == "yes"


def test_thoughts_are_an_item_before_the_answer(thinking: openai.OpenAI) -> None:
    """Whole and streamed; sent back they are taken; their tokens are counted apart."""
    asked: Any = [{"role": "user", "content": "echo: <think>␤hm␤</think>␤␤So it is."}]
    answer = thinking.responses.create(model="default", input=asked)
    with thinking.responses.stream(model="default", input=asked) as stream:
        events = [each.type for each in stream]
        final = stream.get_final_response()

    assert [each.type for each in answer.output] == ["reasoning", "message"]
    assert answer.output[0].to_dict()["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert answer.output_text == "So it is."
    assert "response.reasoning_text.delta" in events
    assert [each.type for each in final.output] == ["reasoning", "message"]
    assert final.output_text == answer.output_text
    assert answer.usage is not None
    assert 0 < answer.usage.output_tokens_details.reasoning_tokens < answer.usage.output_tokens
    again = [*asked, *(each.to_dict() for each in answer.output), {"role": "user", "content": "echo: on"}]
    assert thinking.responses.create(model="default", input=again).output_text == "on"


def test_logprobs_are_of_what_is_said_and_not_of_what_is_thought(thinking: openai.OpenAI) -> None:
    """The tokens of thoughts and of their marks are left out, whole and streamed."""
    asked = "echo: <think>hm</think>yes"
    whole = thinking.responses.create(model="default", input=asked, top_logprobs=1)
    with thinking.responses.stream(model="default", input=asked, top_logprobs=1) as stream:
        final = stream.get_final_response()

    for answer in (whole, final):
        said = answer.output[-1].to_dict()["content"][0]["logprobs"]  # type: ignore[index]
        assert "".join(each["token"] for each in said) == "yes"


def test_effort_reaches_the_model(thinking: openai.OpenAI) -> None:
    """`none` makes another prompt than none at all; the answer says what was asked."""
    plain = thinking.responses.create(model="default", input="echo: x")
    none = thinking.responses.create(model="default", input="echo: x", reasoning={"effort": "none"})

    assert plain.usage is not None
    assert none.usage is not None
    assert none.usage.input_tokens != plain.usage.input_tokens
    assert none.reasoning is not None
    assert none.reasoning.effort == "none"
    counted = thinking.responses.input_tokens.count(
        model="default", input="echo: x", reasoning={"effort": "none"}
    )
    assert counted.input_tokens == none.usage.input_tokens
