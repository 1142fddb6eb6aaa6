"""Golden transcripts: each family's template, the prompt that it makes, and what its answers mean."""

from __future__ import annotations

import pytest

from appliance import dialects
from appliance.core import CallPart, TextPart
from appliance.engine.worker.prompt import PromptBuilder
from tests.dialects import Transcript, read, tools, transcripts

every = pytest.mark.parametrize("transcript", transcripts(), ids=lambda each: each.name)


@every
def test_template_says_what_it_speaks(transcript: Transcript) -> None:
    """The dialect, whether tools are told in its own way, and whether the model thinks."""
    speech = dialects.recognised(transcript.template)

    assert (speech.dialect.name, speech.is_native, speech.thinks) == (
        transcript.said["dialect"],
        transcript.said["native"],
        transcript.said["thinks"],
    )


@every
def test_conversation_with_tools_becomes_this_prompt(transcript: Transcript) -> None:
    """Tools, earlier calls, results and thoughts stand where the template puts them."""
    backend = transcript.backend
    prompt = PromptBuilder(backend).prompt(transcript.turns, tools(), transcript.said["effort"])

    assert backend.text_of(prompt.tokens) == "".join(transcript.said["prompt"])
    assert prompt.begins_thinking is transcript.said["begins_thinking"]


@every
def test_answers_mean_these_parts_whole_and_in_pieces(transcript: Transcript) -> None:
    """Text, reasoning and calls, whether the answer comes at once or letter by letter."""
    for answer in transcript.said["answers"]:
        raw, begins = answer["raw"], answer.get("begins_thinking", False)
        whole = read(transcript.said["dialect"], [raw], begins_thinking=begins)

        assert whole == answer["parts"], raw
        assert read(transcript.said["dialect"], list(raw), begins_thinking=begins) == whole


@every
def test_without_tools_no_text_is_a_call(transcript: Transcript) -> None:
    """Where nothing was offered, what looks like a call is text, all of it."""
    for answer in transcript.said["answers"]:
        begins = answer.get("begins_thinking", False)
        parts = read(transcript.said["dialect"], [answer["raw"]], calls=False, begins_thinking=begins)

        assert all(kind != "call" for kind, *_ in parts)
        for kind, *said in answer["parts"]:
            if kind == "call" and transcript.name not in {"qwen-coder", "gemma", "function-gemma"}:
                assert said[1] in parts[-1][1]


def test_arguments_come_before_the_call_has_ended() -> None:
    """A reader hands on a call's name and arguments as the model writes them."""
    reader = dialects.reader("hermes", calls=True, begins_thinking=False)
    begun = reader.feed('I look.\n<tool_call>\n{"name": "weather", "arguments": {"town": "Bo')

    assert begun == [TextPart("I look."), CallPart(0, "weather", '{"town": "Bo')]


@pytest.mark.parametrize(
    ("dialect", "raw", "parts"),
    [
        ("hermes", '<tool_call>{"name": 5}</tool_call>', None),
        ("hermes", '<tool_call>{"arguments": {}}</tool_call>', None),
        ("hermes", "<tool_call>", None),
        ("hermes", '<tool_call>{"name": "a', None),
        ("hermes", '<tool_call>["a"]</tool_call>', None),
        ("hermes", "a < b <tool_cal", None),
        ("hermes", '<tool_call>{"name": "a"}</tool_call>', [["call", "a", "{}"]]),
        (
            "hermes",
            '<tool_call>{"name": "a", "arguments": "{\\"b\\": 1}"}</tool_call>',
            [["call", "a", '{"b": 1}']],
        ),
        ("hermes", '<tool_call>{"name": "a", "arguments": null}</tool_call>', [["call", "a", "{}"]]),
        ("hermes", '<tool_call>{"name": "a", "arguments": {"b": "', [["call", "a", '{"b": "']]),
        (
            "hermes",
            '<tool_call>{"name": "a", "arguments": {}} and so on',
            [["call", "a", "{}"], ["text", "and so on"]],
        ),
        ("hermes", "<think>never ends", [["reasoning", "never ends"]]),
        ("hermes", "say <think>x</think>", None),
        ("llama3", '{"name": "a"', None),
        ("llama3", "{not JSON", None),
        ("mistral", "[TOOL_CALLS]", None),
        ("mistral", "[TOOL_CALLS]weather", None),
        ("mistral", "[TOOL_CALLS][1, 2]", None),
        ("phi", "<|tool_call|>none<|/tool_call|>", None),
        ("deepseek", "<｜tool▁calls▁begin｜>no<｜tool▁calls▁end｜>", None),
        ("deepseek", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>a<｜tool▁sep｜>b", None),
        ("gemma", "<|tool_call>weather{}<tool_call|>", None),
        ("qwen-coder", "<tool_call>\n<function=", None),
        ("harmony", "<|channel|>final", None),
        ("harmony", "<|start|>assistant", None),
    ],
)
def test_what_is_no_call_is_text(dialect: str, raw: str, parts: list[list[str]] | None) -> None:
    """Garbage stays as it was written (None); what had become a call before stays one."""
    assert read(dialect, [raw]) == (parts if parts is not None else [["text", raw]])


def test_a_head_that_does_not_end_is_not_held_for_ever() -> None:
    """Beyond its bound what might have been a call is text, though the answer goes on."""
    reader = dialects.reader("hermes", calls=True, begins_thinking=False)
    reader.feed('<tool_call>{"id": "')
    parts = [part for _ in range(100) for part in reader.feed("x" * 1000)]

    assert parts


def test_unknown_dialect_is_read_as_plain() -> None:
    """A worker may be newer than the gateway."""
    assert read("klingon", ["nuqneH"]) == [["text", "nuqneH"]]
