"""Questions and answers, put together again from contents, of this release and of earlier ones."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from appliance.audit import contents
from appliance.audit.contents import Logprob, Turn
from appliance.audit.entry import closed, segment
from appliance.audit.header import Header, SealedHash
from appliance.audit.kinds import Kind
from appliance.audit.query import Opened, Record
from appliance.audit.questions import asked
from appliance.core import (
    ChatMessage,
    Delta,
    InferenceRequest,
    Outcome,
    SamplingParams,
    TokenLogprob,
    Tool,
    ToolCall,
    Tooling,
)

LOGPROBS = (TokenLogprob("é".encode(), -0.5, ((b"e", -1.25),)), TokenLogprob(b"\xff", -2.0))


def opened(seq: int, kind: Kind, content: dict[str, Any] | None, **public: Any) -> Opened:
    sealed = SealedHash("alg", "00", 1, "00")
    header = Header(
        v=1, log="a/1", seq=seq, ts=0, mono=0, boot="b", kind=str(kind), pub=public, req="r", ct=sealed
    )
    return Opened(Record(seq, 0, kind, "r", public, bytes(32), header), content)


def exchange(*, digest: str) -> list[Opened]:
    """Two choices in three segments and a closing, as they are recorded."""
    pieces = [Delta("Ro", 1), Delta("O", 1, 1), Delta("me", 1)]
    rest = [Delta(".", 1, 0, LOGPROBS), Delta("slo", 1, 1, LOGPROBS[1:])]
    said = [segment("r", 1, at, each, subject="s").content for at, each in enumerate(pieces)]
    ending = closed("r", 1, model="m", outcome=Outcome.STOP, rest=rest).content
    return [
        opened(1, Kind.REQUEST_OPENED, {"messages": []}, endpoint="chat"),
        *(opened(2 + at, Kind.REQUEST_SEGMENT, dict(each or {})) for at, each in enumerate(said)),
        opened(9, Kind.REQUEST_CLOSED, dict(ending or {}), output_sha256=digest, num_segments=3),
    ]


DIGEST = hashlib.sha256(b"Rome.Oslo").hexdigest()


def test_answers_are_joined_by_their_choice() -> None:
    """Pieces of several choices come mixed; each answer is whole."""
    assert contents.answer_of(exchange(digest=DIGEST)) == {0: "Rome.", 1: "Oslo"}


def test_log_probabilities_are_told_by_choice() -> None:
    """Bytes become text again; half characters are told as such."""
    found = contents.logprobs(each.content for each in exchange(digest=DIGEST))

    assert found == {
        0: [Logprob("é", -0.5, (("e", -1.25),)), Logprob("\ufffd", -2.0)],
        1: [Logprob("\ufffd", -2.0)],
    }


def test_the_digest_is_over_all_choices_one_after_the_other() -> None:
    """Right, wrong, and not to be said where a piece is missing or can not be opened."""
    whole = exchange(digest=DIGEST)
    part = [each for each in whole if each.record.seq != 3]
    sealed = [Opened(each.record, None) if each.record.seq == 3 else each for each in whole]
    other = exchange(digest=hashlib.sha256(b"Rome.").hexdigest())

    found = [contents.matches_digest(each) for each in (whole, other, part, sealed, whole[:-1])]
    assert found == [True, False, None, None, None]


@pytest.mark.parametrize("stream", [True, False])
def test_earlier_records_have_one_answer(*, stream: bool) -> None:
    """Contents of the first releases: pieces and an end, or the whole in the closing."""
    texts = [{"text": "It is "}, {"text": "blue"}, {"output": "."}] if stream else [{"output": "It is blue."}]

    assert contents.answers(texts) == {0: "It is blue."}
    assert contents.logprobs(texts) == {}


def test_a_conversation_with_tools_is_told_in_its_order() -> None:
    """Thoughts, words, calls and what came back, each with who said it; what was offered stands apart."""
    request = InferenceRequest(
        "r",
        "m",
        (
            ChatMessage("user", "Weather?"),
            ChatMessage("assistant", "", (ToolCall("call_1", "weather", '{"at":"Oslo"}'),), reasoning="Hm."),
            ChatMessage("tool", "rain", tool_call_id="call_1"),
        ),
        SamplingParams(),
        n=2,
        tooling=Tooling((Tool("weather", "of a place"),), "required", parallel=False),
        timeout_seconds=30.0,
    )
    content = asked(request)

    assert contents.turns(content) == [
        Turn("user", "Weather?"),
        Turn("assistant, thinking", "Hm."),
        Turn("assistant, calls weather (call_1)", '{"at":"Oslo"}'),
        Turn("tool, for call_1", "rain"),
    ]
    assert contents.tools(content) == [Turn("weather", 'of a place\n{"type":"object"}')]
    assert contents.terms(content) == {
        "answers": "2",
        "tool choice": "required",
        "parallel calls": "no",
        "time limit in seconds": "30.0",
    }


def test_texts_to_go_on_from_are_turns_too() -> None:
    """Texts as they are, tokens by their ids."""
    request = InferenceRequest("r", "m", (), SamplingParams(), prompts=("Once", (1, 2)))

    assert contents.turns(asked(request)) == [Turn("prompt", "Once"), Turn("prompt", "tokens [1, 2]")]
