"""Answers on their way out: parts, calls, log-probabilities and several choices in OpenAI's shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from appliance.api.answering import Choice, Whole
from appliance.api.chat_reply import ChatReply
from appliance.api.completion import Stamp
from appliance.api.completions_reply import CompletionReply
from appliance.core import (
    Caller,
    CallPart,
    Delta,
    Finished,
    FinishReason,
    InferenceRequest,
    ModelSpec,
    Part,
    Principal,
    ReasoningPart,
    Role,
    TextPart,
    TokenLogprob,
    Usage,
)
from appliance.exchange import Exchange
from tests.unit.api.asking import chat, completion

SPEC = ModelSpec(id="m", sha256="0" * 64, size_bytes=1, path=Path("/nowhere"))
STAMP = Stamp(created=1_700_000_000, model="m", fingerprint="fp_1")
REASONS = {
    FinishReason.STOP: Finished(FinishReason.STOP, Usage(3, 4, 1, 2), reasons=(FinishReason.STOP,)),
    FinishReason.TOOL_CALLS: Finished(
        FinishReason.TOOL_CALLS, Usage(3, 4), reasons=(FinishReason.TOOL_CALLS,)
    ),
}
STOP, CALLS = REASONS[FinishReason.STOP], REASONS[FinishReason.TOOL_CALLS]


def exchange(request: InferenceRequest, *pieces: Delta, end: Finished = STOP) -> Exchange:
    """One that has heard all of its answer."""
    made = Exchange(request, Principal("k", "n", Role.KIOSK), Caller("127.0.0.1"), SPEC)
    for piece in pieces:
        made.deliver(piece)
    made.finish(end)
    return made


def piece(*parts: Part, index: int = 0, logprobs: tuple[TokenLogprob, ...] = ()) -> Delta:
    return Delta("…", index=index, parts=parts, logprobs=logprobs)


async def frames(reply: ChatReply | CompletionReply) -> list[Any]:
    """The data of each frame; the last one is `[DONE]`, which is checked here."""
    found = [frame.decode() async for frame in reply.frames()]
    assert all(each.startswith("data: ") and each.endswith("\n\n") for each in found)
    assert found[-1] == "data: [DONE]\n\n"
    return [json.loads(each.removeprefix("data: ")) for each in found[:-1]]


def deltas(chunks: list[Any], index: int = 0) -> list[dict[str, Any]]:
    return [choice["delta"] for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]


def whole(end: Finished, *choices: Choice) -> Whole:
    return Whole(list(choices), end)


def said(*pieces: Delta) -> Choice:
    choice = Choice()
    for each in pieces:
        choice.add(each)
    return choice


async def test_a_call_is_streamed_with_its_id_once() -> None:
    """First id, type and name with empty arguments, then only pieces of these; calls count from 0."""
    asked = exchange(
        chat(),
        piece(CallPart(0, "find", '{"zip":')),
        piece(CallPart(0, "", '"1"}'), CallPart(1, "now", "{}")),
        end=CALLS,
    )
    chunks = await frames(ChatReply(asked, STAMP))

    role, *calls, last = deltas(chunks)
    assert role == {"role": "assistant"}
    assert last == {}
    assert calls == [
        {"tool_calls": [{"index": 0, "id": "call_10000", "type": "function",
                         "function": {"name": "find", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"zip":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '"1"}'}}]},
        {"tool_calls": [{"index": 1, "id": "call_10001", "type": "function",
                         "function": {"name": "now", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
    ]  # fmt: skip
    assert [each["choices"][0]["finish_reason"] for each in chunks][-2:] == [None, "tool_calls"]
    assert all(ChatCompletionChunk.model_validate(each, strict=True) for each in chunks)


async def test_an_answer_of_calls_has_no_content() -> None:
    """`content` is null beside calls, an empty text where nothing was said, and text beside both."""
    asked = exchange(chat())
    reply = ChatReply(asked, STAMP)
    calls = piece(CallPart(0, "find", "{}"))

    answers = [
        reply.completion(whole(CALLS, said(*pieces)))
        for pieces in ([calls], [], [piece(TextPart("one moment")), calls])
    ]

    assert [each.choices[0].message.content for each in answers] == [None, "", "one moment"]
    message = json.loads(answers[0].model_dump_json())["choices"][0]["message"]
    assert message == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [
            {"id": "call_10000", "type": "function", "function": {"name": "find", "arguments": "{}"}}
        ],
    }
    ChatCompletion.model_validate_json(answers[0].model_dump_json(), strict=True)


async def test_streamed_and_whole_calls_have_the_same_ids() -> None:
    """A call keeps its id however the answer is told."""
    pieces = [piece(CallPart(0, "find", "{}"))]
    streamed = await frames(ChatReply(exchange(chat(), *pieces, end=CALLS), STAMP))
    told = ChatReply(exchange(chat()), STAMP).completion(whole(CALLS, said(*pieces)))

    assert told.choices[0].message.tool_calls is not None
    assert told.choices[0].message.tool_calls[0].id == deltas(streamed)[1]["tool_calls"][0]["id"]


async def test_thoughts_are_told_apart_from_the_answer() -> None:
    """`reasoning_content` stands where there is some, and only there; its tokens are counted."""
    pieces = [piece(ReasoningPart("two and two")), piece(TextPart("4"))]
    streamed = deltas(await frames(ChatReply(exchange(chat(), *pieces), STAMP)))
    told = ChatReply(exchange(chat()), STAMP).completion(whole(STOP, said(*pieces)))
    plain = ChatReply(exchange(chat()), STAMP).completion(whole(STOP, said(piece(TextPart("4")))))

    assert streamed == [
        {"role": "assistant"},
        {"reasoning_content": "two and two"},
        {"content": "4"},
        {},
    ]
    assert told.choices[0].message.reasoning_content == "two and two"
    assert told.usage.completion_tokens_details.reasoning_tokens == 2
    assert "reasoning_content" not in plain.model_dump_json()


async def test_each_choice_begins_with_its_role_and_ends_with_its_reason() -> None:
    """Choices are interleaved by their index; one that says nothing has role and reason too."""
    reasons = (FinishReason.STOP, FinishReason.LENGTH, FinishReason.STOP)
    asked = exchange(
        chat(n=3),
        piece(TextPart("b"), index=1),
        piece(TextPart("a")),
        piece(TextPart("B"), index=1),
        end=Finished(FinishReason.STOP, Usage(1, 3), reasons=reasons),
    )
    chunks = await frames(ChatReply(asked, STAMP, wants_usage=True))

    begin = {"role": "assistant", "content": ""}
    assert deltas(chunks, 0) == [begin, {"content": "a"}, {}]
    assert deltas(chunks, 1) == [begin, {"content": "b"}, {"content": "B"}, {}]
    assert deltas(chunks, 2) == [begin, {}]
    ends = {c["index"]: c["finish_reason"] for each in chunks for c in each["choices"] if c["finish_reason"]}
    assert ends == {0: "stop", 1: "length", 2: "stop"}
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 4
    assert [each["usage"] for each in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert len({(each["id"], each["created"]) for each in chunks}) == 1


async def test_usage_is_not_mentioned_where_nobody_asked() -> None:
    """Without `include_usage` chunks have no such key."""
    chunks = await frames(ChatReply(exchange(chat(), piece(TextPart("a"))), STAMP))

    assert all("usage" not in each for each in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


EURO = "€".encode()
LOGPROBS = (
    TokenLogprob(b"a", -0.5, ((b"a", -0.5), (b"b", float("-inf")))),
    TokenLogprob(EURO[:1], -1.0),
    TokenLogprob(EURO[1:], -2.0),
    TokenLogprob(b"!", -3.0),
)


async def test_log_probabilities_come_with_their_text() -> None:
    """They wait for the chunk that carries their text; those of a stop string, which is not told, are not."""
    asked = exchange(
        chat(),
        piece(TextPart("a"), logprobs=LOGPROBS[:1]),
        piece(logprobs=LOGPROBS[1:2]),
        piece(TextPart("€"), logprobs=LOGPROBS[2:3]),
        piece(logprobs=LOGPROBS[3:]),
    )
    chunks = await frames(ChatReply(asked, STAMP, wants_logprobs=True))

    found = [each["choices"][0]["logprobs"] for each in chunks]
    assert [each and [token["bytes"] for token in each["content"]] for each in found] == [
        None,
        [[97]],
        [[0xE2], [0x82, 0xAC]],
        None,
    ]
    assert found[1]["content"][0] == {
        "token": "a",
        "bytes": [97],
        "logprob": -0.5,
        "top_logprobs": [
            {"token": "a", "bytes": [97], "logprob": -0.5},
            {"token": "b", "bytes": [98], "logprob": -9999.0},
        ],
    }
    assert found[2]["content"][0]["token"] == "\ufffd"
    assert all(ChatCompletionChunk.model_validate(each, strict=True) for each in chunks)


async def test_thoughts_and_calls_have_no_log_probabilities() -> None:
    """They are of what is said, whole and streamed; a thought's tokens are not taken for the answer's."""
    tokens = tuple(TokenLogprob(each, -1.0) for each in (b"<t>", b"4", b"?", b"</t>", b"4", b"<c>", b"{}"))
    parts = (ReasoningPart("4?"), TextPart("4"), CallPart(0, "f", "{}"))
    pieces = [piece(*parts, logprobs=tokens)]
    chunks = await frames(ChatReply(exchange(chat(), *pieces, end=CALLS), STAMP, wants_logprobs=True))
    choice = said(*pieces)

    assert choice.logprobs == [tokens[4]]
    with_some = [each["choices"][0] for each in chunks if each["choices"][0]["logprobs"]]
    assert [(each["delta"], len(each["logprobs"]["content"])) for each in with_some] == [
        ({"content": "4"}, 1)
    ]


async def test_log_probabilities_that_nobody_asked_for_are_not_told() -> None:
    """`logprobs` is null, not an empty list."""
    told = ChatReply(exchange(chat()), STAMP).completion(
        whole(STOP, said(piece(TextPart("a"), logprobs=LOGPROBS[:1])))
    )

    assert told.choices[0].logprobs is None


async def test_a_completions_log_probabilities_have_offsets_into_its_text() -> None:
    """Four lists; offsets count whole characters, and half a character has a name of its own."""
    pieces = [piece(TextPart("a€!"), logprobs=LOGPROBS)]
    told = CompletionReply(exchange(completion()), STAMP, wants_logprobs=True).completion(
        whole(STOP, said(*pieces))
    )
    chunks = await frames(
        CompletionReply(
            exchange(
                completion(),
                piece(TextPart("a"), logprobs=LOGPROBS[:1]),
                piece(TextPart("€!"), logprobs=LOGPROBS[1:]),
            ),
            STAMP,
            wants_logprobs=True,
        )
    )

    shaped = told.choices[0].logprobs
    assert shaped is not None
    assert shaped.tokens == ["a", "bytes:\\xe2", "bytes:\\x82\\xac", "!"]
    assert shaped.text_offset == [0, 1, 1, 2]
    assert shaped.token_logprobs == [-0.5, -1.0, -2.0, -3.0]
    assert shaped.top_logprobs[0] == {"a": -0.5, "b": -9999.0}
    assert shaped.top_logprobs[3] == {"!": -3.0}
    assert [each["choices"][0]["text"] for each in chunks] == ["a", "€!", ""]
    assert chunks[1]["choices"][0]["logprobs"]["text_offset"] == [1, 1, 2]
    Completion.model_validate_json(told.model_dump_json(), strict=True)


async def test_echoes_stand_before_each_answer() -> None:
    """With `echo` a prompt's text precedes each of its answers, whole and streamed."""
    body = completion(prompt=["A ", "B "], n=2)
    end = Finished(FinishReason.STOP, Usage(2, 4), reasons=(FinishReason.STOP,) * 4)
    echoes = ["A ", "A ", "B ", "B "]
    told = CompletionReply(exchange(body), STAMP, echoes=echoes).completion(
        whole(end, *(said(piece(TextPart(str(at)))) for at in range(4)))
    )
    chunks = await frames(
        CompletionReply(
            exchange(body, *(piece(TextPart(str(at)), index=at) for at in range(4)), end=end),
            STAMP,
            echoes=echoes,
            wants_usage=True,
        )
    )

    assert [each.text for each in told.choices] == ["A 0", "A 1", "B 2", "B 3"]
    texts = ["", "", "", ""]
    for chunk in chunks[:-1]:
        (choice,) = chunk["choices"]
        texts[choice["index"]] += choice["text"]
    assert texts == ["A 0", "A 1", "B 2", "B 3"]
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["total_tokens"]) == ([], 6)
    assert chunks[0]["object"] == "text_completion"
