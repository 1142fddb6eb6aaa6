"""`openai`: chats, whole and streamed."""

from __future__ import annotations

import asyncio
import json

from pydantic import BaseModel

from tests.contract.clients.checks import MODEL, MODEL_ID, check
from tests.contract.clients.openai_made import chat, client, made_async


class Office(BaseModel):
    name: str
    open: bool
    days: list[str]


OFFICE = '{"name":"Amt","open":true,"days":["Tue","Thu"]}'


@check
def whole_answer() -> None:
    answer = chat("echo: good morning")
    assert answer.choices[0].message.content == "good morning"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == MODEL_ID
    assert answer.object == "chat.completion"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0
    assert answer.usage.completion_tokens_details.reasoning_tokens == 0
    assert answer.system_fingerprint.startswith("fp_")
    assert answer._request_id.startswith("req_")


@check
def stream_is_the_same_in_pieces() -> None:
    chunks = list(chat("echo: grüß Gott, 東京!", stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(pieces) == "grüß Gott, 東京!"
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["stop"]
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)


@check
def usage_comes_last_with_no_choices() -> None:
    chunks = list(chat("echo: a", stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])


@check
def several_answers() -> None:
    answer = chat("echo: twins", n=2)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert {choice.message.content for choice in answer.choices} == {"twins"}
    chunks = list(chat("echo: twins", n=2, stream=True))
    for index in (0, 1):
        mine = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
        assert mine[0].delta.role == "assistant"
        assert "".join(choice.delta.content or "" for choice in mine) == "twins"
        assert mine[-1].finish_reason == "stop"


@check
def stops_and_limits() -> None:
    assert chat("echo: abcdefghij", stop=["fg", "xy"]).choices[0].message.content == "abcde"
    assert chat("echo: abcdefghij", stop="cd").choices[0].message.content == "ab"
    streamed = chat("echo: abcdefghij", stop="fg", stream=True)
    assert "".join(c.delta.content or "" for chunk in streamed for c in chunk.choices) == "abcde"
    for name in ("max_tokens", "max_completion_tokens"):
        short = chat("echo: abcdefghij", **{name: 3})
        assert short.choices[0].finish_reason == "length"
        assert short.usage.completion_tokens == 3


@check
def what_else_a_request_may_carry() -> None:
    answer = chat(
        "echo: x",
        seed=7,
        temperature=0.2,
        top_p=0.9,
        presence_penalty=0.1,
        frequency_penalty=0.1,
        logit_bias={"120": 1},
        metadata={"case": "12"},
        user="u1",
        safety_identifier="s1",
        store=False,
        service_tier="auto",
        parallel_tool_calls=True,
        extra_body={"reproducible": True, "timeout": 60},
    )
    assert answer.choices[0].message.content == "x"


@check
def roles_and_parts_of_a_conversation() -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "hello", "refusal": None},
            {"role": "user", "content": [{"type": "text", "text": "echo: "}, {"type": "text", "text": "ab"}]},
        ],
    )
    assert answer.choices[0].message.content == "ab"


@check
def an_object_of_json() -> None:
    answer = chat('echo: {"a":1}', response_format={"type": "json_object"})
    assert json.loads(answer.choices[0].message.content) == {"a": 1}


@check
def an_answer_parsed_into_a_type() -> None:
    parsed = client.chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": f"echo: {OFFICE}"}],
        response_format=Office,
    )
    assert parsed.choices[0].message.parsed == Office(name="Amt", open=True, days=["Tue", "Thu"])


@check
def the_stream_helper_collects_a_type() -> None:
    with client.chat.completions.stream(
        model=MODEL,
        messages=[{"role": "user", "content": f"echo: {OFFICE}"}],
        response_format=Office,
        stream_options={"include_usage": True},
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= set(kinds)
    assert final.choices[0].message.parsed == Office(name="Amt", open=True, days=["Tue", "Thu"])
    assert final.usage is not None


@check
def receipts_and_ids_in_headers() -> None:
    for stream in (False, True):
        answer = client.chat.completions.with_raw_response.create(
            model=MODEL, messages=[{"role": "user", "content": "echo: a"}], stream=stream
        )
        origin, _, seq = answer.headers["x-audit-record"].rpartition("/")
        assert origin
        assert seq.isdecimal()
        assert len(bytes.fromhex(answer.headers["x-audit-leaf"])) == 32
        parsed = answer.parse()
        if stream:
            list(parsed)


@check
def asynchronous_clients() -> None:
    async def ask() -> str:
        async with made_async() as aclient:
            stream = await aclient.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "echo: soon"}], stream=True
            )
            pieces = [c.delta.content or "" async for chunk in stream for c in chunk.choices]
        return "".join(pieces)

    assert asyncio.run(ask()) == "soon"
