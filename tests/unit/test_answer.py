"""What comes from the worker: read, joined, counted and hashed as the record and the callers need it."""

from __future__ import annotations

import hashlib

import pytest

from appliance import dialects
from appliance.answer import Answer, merged
from appliance.core import (
    CallPart,
    Delta,
    Finished,
    FinishReason,
    InferenceRequest,
    Part,
    ReasoningPart,
    SamplingParams,
    Started,
    TextPart,
    TokenLogprob,
    Tool,
    Tooling,
    Usage,
)
from appliance.tasks import Answered, DetokenizeTask, EmbedTask, Text, Vectors

TOOLING = Tooling((Tool("f"),))


class Scripted:
    """Reads a dialect of its own: `(` holds back, `)` ends thinking, `!` is a call, the rest is text."""

    def __init__(self) -> None:
        self._held = ""
        self._num_calls = 0

    def feed(self, text: str) -> list[Part]:
        parts: list[Part] = []
        for letter in text:
            if letter == ")":
                parts.append(ReasoningPart(self._held[1:]))
                self._held = ""
            elif letter == "(" or self._held:
                self._held += letter
            elif letter == "!":
                parts.append(CallPart(self._num_calls, "f", "{}"))
                self._num_calls += 1
            else:
                parts.append(TextPart(letter))
        return parts

    def finish(self) -> list[Part]:
        return [TextPart(self._held)] if self._held else []


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    def reader(_dialect: str, *, calls: bool, begins_thinking: bool, tools: object) -> Scripted:
        del calls, begins_thinking, tools
        return Scripted()

    monkeypatch.setattr(dialects, "reader", reader)


def request(**changes: object) -> InferenceRequest:
    fields: dict[str, object] = {"messages": (), "sampling": SamplingParams()} | changes
    return InferenceRequest("req", "model", **fields)  # type: ignore[arg-type]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def end(*reasons: FinishReason) -> Finished:
    return Finished(reasons[0], Usage(3, 7), reasons=reasons)


def test_neighbours_of_one_kind_become_one_part() -> None:
    """Text, thoughts and the arguments of one call are joined; two calls stay two."""
    parts: list[Part] = [
        ReasoningPart("a"), ReasoningPart("b"), TextPart("c"), TextPart("d"),
        CallPart(0, "f", "{"), CallPart(0, "", "}"), CallPart(1, "g"), TextPart("e"),
    ]  # fmt: skip

    assert merged(parts) == (
        ReasoningPart("ab"), TextPart("cd"), CallPart(0, "f", "{}"), CallPart(1, "g"), TextPart("e"),
    )  # fmt: skip


def test_pieces_of_several_choices_are_kept_apart() -> None:
    """Each choice has its own piece, in their order, whatever order they came in; tokens are counted."""
    answer = Answer(request(n=2), "plain")
    for index in (0, 1):
        answer.add(Started(3, index=index))
    for index, text in [(1, "B"), (0, "A"), (1, "b"), (0, "a")]:
        answer.add(Delta(text, 2, index))

    assert answer.take() == [
        Delta("Aa", 4, 0, parts=(TextPart("Aa"),)),
        Delta("Bb", 4, 1, parts=(TextPart("Bb"),)),
    ]
    assert not answer.has_pieces
    assert answer.take_unrecorded([1]) == [Delta("Bb", 4, 1)]
    assert answer.take_unrecorded() == [Delta("Aa", 4, 0)]
    assert answer.take_unrecorded() == []


def test_an_answer_has_started_when_all_its_choices_have() -> None:
    """Until the worker has taken every prompt it may still refuse one."""
    answer = Answer(request(prompts=("x", "y")), "plain")
    answer.add(Started(3, index=1))
    assert not answer.has_started
    answer.add(Started(4, index=0))
    assert answer.has_started


def test_sha256_is_over_the_choices_one_after_the_other() -> None:
    """The same with what is in segments already, and with what is not."""
    answer = Answer(request(n=2), "plain")
    for index, text in [(1, "zwei"), (0, "eins "), (1, "!"), (0, "é")]:
        answer.add(Delta(text, 1, index))
    before = answer.sha256
    answer.take_unrecorded([0])

    assert before == answer.sha256 == sha256("eins ézwei!")


def test_tokens_without_text_wait_for_the_text() -> None:
    """Half a character is neither sent nor put into a segment; its token and logprob come with the rest."""
    logprob = TokenLogprob(b"\xc3", -0.5)
    answer = Answer(request(), "plain")
    answer.add(Delta("", 1, logprobs=(logprob,)))

    assert not answer.has_pieces
    assert answer.take(said_only=True) == []
    answer.add(Delta("é", 1))
    assert answer.take(said_only=True) == [Delta("é", 2, logprobs=(logprob,), parts=(TextPart("é"),))]
    assert answer.take_unrecorded([0]) == [Delta("é", 2, logprobs=(logprob,))]


def test_logprobs_at_the_end_are_sent_without_text() -> None:
    """The last token may have no text; what it cost is told all the same."""
    answer = Answer(request(), "plain")
    answer.add(Delta("", 1, logprobs=(TokenLogprob(b"", 0.0),)))
    answer.add(end(FinishReason.STOP))

    assert answer.take() == [Delta("", 1, logprobs=(TokenLogprob(b"", 0.0),))]


@pytest.mark.usefixtures("scripted")
def test_what_the_reader_holds_back_is_recorded_at_once_and_sent_later() -> None:
    """The record has the text as it came; callers get its parts when they are sure."""
    answer = Answer(request(), "scripted")
    answer.add(Delta("(th"))
    held = answer.take(said_only=True)
    answer.take_unrecorded([0])
    answer.add(Delta("ink)so"))

    assert held == [Delta("(th", 1)]
    assert answer.take()[0].parts == (ReasoningPart("think"), TextPart("so"))
    assert answer.take_unrecorded() == [Delta("ink)so", 1)]


@pytest.mark.usefixtures("scripted")
def test_tokens_of_thoughts_are_counted_with_those_held_back() -> None:
    """Tokens held back count where their text turns out to belong."""
    answer = Answer(request(), "scripted")
    for text in ("(", "a", "b", ")", "c", "(", "d"):
        answer.add(Delta(text))
    assert answer.usage() == Usage(0, 7, reasoning_tokens=4)
    answer.add(end(FinishReason.STOP))

    assert answer.finished is not None
    assert answer.finished.usage == Usage(3, 7, reasoning_tokens=4)
    assert answer.take()[0].parts[-1] == TextPart("c(d")


@pytest.mark.usefixtures("scripted")
def test_a_stop_behind_a_call_is_tool_calls_of_that_choice_only() -> None:
    """An answer that was cut off stays one; the first choice's reason is the request's."""
    answer = Answer(request(n=3, tooling=TOOLING), "scripted")
    for index, text in enumerate(("!", "x", "!")):
        answer.add(Delta(text, 1, index))
    answer.add(end(FinishReason.STOP, FinishReason.STOP, FinishReason.LENGTH))

    assert answer.finished is not None
    assert answer.finished.reasons == (FinishReason.TOOL_CALLS, FinishReason.STOP, FinishReason.LENGTH)
    assert answer.finished.reason is FinishReason.TOOL_CALLS


@pytest.mark.usefixtures("scripted")
def test_texts_to_go_on_from_are_not_read_in_a_dialect() -> None:
    """A raw prompt has no turns, so its answer has neither calls nor thoughts."""
    answer = Answer(request(prompts=("x",)), "scripted")
    answer.add(Delta("(a)!"))

    assert answer.take()[0].parts == (TextPart("(a)!"),)


def test_usage_of_an_answer_that_broke_off_counts_each_prompt_once() -> None:
    """Two choices of each of two prompts: both prompts' tokens, once, and all that was written."""
    answer = Answer(request(prompts=("x", "y"), n=2), "plain")
    for index, tokens in enumerate((3, 3, 5, 5)):
        answer.add(Started(tokens, index=index))
        answer.add(Delta("t", 2, index))

    assert answer.usage() == Usage(8, 8)


def test_results_of_tasks_are_recorded_as_text_or_as_a_digest() -> None:
    """A text is in the closing and under its hash; of vectors there is the hash of their bytes alone."""
    told = Answer(DetokenizeTask(request_id="r", model="m", tokens=(1,)), "plain")
    told.add(Answered(FinishReason.STOP, Usage(), result=Text("wörd")))
    embedded = Answer(EmbedTask(request_id="r", model="m", inputs=("x",)), "plain")
    embedded.add(Answered(FinishReason.STOP, Usage(), result=Vectors(b"1234", 1)))

    assert told.sha256 == sha256("wörd")
    assert told.take_unrecorded() == [Delta("wörd", 0)]
    assert embedded.sha256 == sha256("1234")
    assert embedded.take_unrecorded() == []
