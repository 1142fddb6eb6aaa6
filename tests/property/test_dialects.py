"""Readers over arbitrary texts: pieces do not matter, nothing is lost, and nothing ends them."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.dialects import DIALECTS
from tests.dialects import read, transcripts

NAMES = st.sampled_from(sorted(DIALECTS))
MARKS = sorted({mark for each in DIALECTS.values() for mark in each.spelt(calls=True)})
SNIPPETS = [
    *MARKS,
    *(
        '{"name": "',
        '"a"',
        '", "arguments": ',
        '"parameters": ',
        "{",
        "}",
        "[",
        "]",
        '"',
        "\\",
        ",",
        ":",
        ";",
    ),
    *("functions.", "to=functions.a", "commentary", "analysis", "final", "json", "call:a{", "thought"),
    *(
        "<|channel|>final<|message|>",
        "<|start|>assistant<|channel|>analysis<|message|>",
        "<|start|>x<|message|>",
        "<function=a>",
        "</function>",
        "<parameter=b>",
        "</parameter>",
        "```json",
        "```",
        "\n",
        "  ",
        "null",
        "\ud7ff",
    ),
]
TEXTS = st.lists(st.sampled_from(SNIPPETS) | st.text(max_size=6), max_size=24).map("".join)
GOLDEN = st.sampled_from([answer["raw"] for each in transcripts() for answer in each.said["answers"]])


@given(NAMES, TEXTS | GOLDEN, st.data(), st.booleans(), st.booleans())
@settings(deadline=None)
def test_pieces_do_not_matter(name: str, text: str, data: st.DataObject, calls: bool, begins: bool) -> None:  # noqa: FBT001
    """Any split of any text gives the same parts."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    pieces = [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    assert read(name, pieces, calls=calls, begins_thinking=begins) == read(
        name, [text], calls=calls, begins_thinking=begins
    )


@given(NAMES, TEXTS)
@settings(deadline=None)
def test_nothing_is_lost_where_there_are_no_calls(name: str, text: str) -> None:
    """Without tools everything but marks and the white space beside them reaches the caller, in order."""
    parts = read(name, [text], calls=False)
    said = "".join(part[1] for part in parts)

    assert _letters(said) == _letters(text)


@given(NAMES, TEXTS)
@settings(deadline=None)
def test_calls_hold_what_was_written(name: str, text: str) -> None:
    """With tools every letter of the answer is in a part, or in the frame of a call that was told."""
    parts = read(name, [text])
    said = "".join("".join(part[1:]) for part in parts)

    if all(kind != "call" for kind, *_ in parts):
        assert _letters(said) == _letters(text)
    assert all(name and len(name) <= 256 for kind, name, *_ in parts if kind == "call")


@given(st.sampled_from(["hermes", "plain"]), st.text(), st.dictionaries(st.text(), st.text() | st.integers()))
@settings(deadline=None)
def test_every_call_that_is_one_is_read(name: str, before: str, arguments: dict[str, object]) -> None:
    """Whatever stands in the arguments: marks, quotes, brackets."""
    written = json.dumps(arguments, ensure_ascii=False)
    text = f'.{before}<tool_call>{{"name": "a", "arguments": {written}}}</tool_call>'

    assert read(name, [text])[-1] == ["call", "a", written]


def _letters(text: str) -> str:
    """Without marks, their words, and white space."""
    for mark in sorted(MARKS, key=len, reverse=True):
        text = text.replace(mark, "")
    for word in ("<|call|>", "<|return|>", "analysis", "commentary", "final", "thought", "json", "assistant"):
        text = text.replace(word, "")
    return "".join(text.split())
