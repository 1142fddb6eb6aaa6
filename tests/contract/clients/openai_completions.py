"""`openai`: completions, the older way to go on from a text.

Streams are read without the client's strict validation: its type wants a reason to finish in each piece,
where OpenAI's own servers say null until the last one. So do ours, and the check says so itself.
"""

from __future__ import annotations

import openai

from tests.contract.clients.checks import MODEL, check
from tests.contract.clients.openai_made import client, made


@check
def a_text_goes_on() -> None:
    answer = client.completions.create(model=MODEL, prompt="echo: and so on", max_tokens=40)
    assert answer.object == "text_completion"
    assert answer.choices[0].finish_reason in {"stop", "length"}
    assert answer.choices[0].text
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id is not None


@check
def sixteen_tokens_where_nothing_is_said() -> None:
    answer = client.completions.create(model=MODEL, prompt="say 40 tokens")
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16


@check
def a_stream_is_the_same_in_pieces() -> None:
    whole = client.completions.create(model=MODEL, prompt="echo: and so on", max_tokens=40)
    chunks = list(
        made(strict=False).completions.create(
            model=MODEL,
            prompt="echo: and so on",
            max_tokens=40,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == whole.choices[0].text
    reasons: list[str | None] = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
    assert reasons[-1] in {"stop", "length"}
    assert set(reasons[:-1]) <= {None}
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None


@check
def several_prompts_and_several_answers() -> None:
    answer = client.completions.create(model=MODEL, prompt=["echo: a", "echo: b"], n=2, max_tokens=4)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]


@check
def token_ids_as_a_prompt_and_the_prompt_echoed() -> None:
    answer = client.completions.create(model=MODEL, prompt=[72, 105], max_tokens=2)
    assert answer.choices[0].text
    echoed = client.completions.create(model=MODEL, prompt="once", echo=True, max_tokens=2)
    assert echoed.choices[0].text.startswith("once")


@check
def logprobs_in_four_lists() -> None:
    answer = client.completions.create(model=MODEL, prompt="echo: abc", logprobs=2, max_tokens=3)
    found = answer.choices[0].logprobs
    assert found is not None
    assert found.tokens is not None
    assert found.text_offset is not None
    assert "".join(found.tokens) == answer.choices[0].text
    assert len(found.tokens) == len(found.token_logprobs or ()) == len(found.text_offset)
    assert all(len(each) >= 2 for each in found.top_logprobs or ())


@check
def an_unknown_model() -> None:
    try:
        client.completions.create(model="gpt-9", prompt="x")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found"
    else:
        raise AssertionError("no NotFoundError")
