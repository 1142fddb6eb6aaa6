"""What answers are kept to: calls of the offered tools with arguments that fit, in each family's writing."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import pytest

from appliance.engine.messages import Generate
from appliance.engine.question import Sampling, Tools, Turn
from appliance.engine.worker.grammar import Grammar
from appliance.engine.worker.prepare import Preparer
from appliance.engine.worker.prompt import PromptBuilder
from appliance.engine.worker.sequence import Sequence as Prepared
from tests.dialects import END, TOOLS, Spoken, Transcript, read, tools, transcripts

every = pytest.mark.parametrize("transcript", transcripts(), ids=lambda each: each.name)
SAMPLING = Sampling(0.0, 1.0, 40, 0.0, 1.0, 0.0, 0.0, None, None, ())
SCHEMA = '{"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]}'
SCHEMAS = {each.name: json.loads(each.parameters) for each in TOOLS}
CLOSERS = b'"}]\n<>/123AB-CF'
PHRASES = ("</think>", "\n</parameter>\n")  # ends that nobody writes by chance


class Asked:
    """A question of a family's model, prepared."""

    def __init__(self, transcript: Transcript, offered: Tools | None, schema: str = "") -> None:
        self.backend: Spoken = transcript.backend
        self.dialect = transcript.said["dialect"]
        prepared = Preparer(PromptBuilder(self.backend), self.backend).prepare(
            Generate(
                "a",
                (Turn("user", "hi"),)
                if transcript.name == "no-system"
                else (Turn("system", "s"), Turn("user", "hi")),
                SAMPLING,
                tools=offered,
                schema=schema,
            )
        )
        assert isinstance(prepared, Prepared), prepared
        assert prepared.grammar is not None
        self.grammar: Grammar = prepared.grammar
        self.begins_thinking = prepared.begins_thinking

    def takes(self, text: str) -> bool:
        """Whether this may be written, and then the end."""
        for token in self.tokens(text):
            if not self.grammar.allows(token):
                return False
            self.grammar.accept(token)
        return self.grammar.is_complete or self.grammar.allows(END)

    def tokens(self, text: str) -> list[int]:
        return self.backend.tokenize(text, parse_special=True, add_bos=False)

    def anything(self, seed: int, most: int = 3000) -> str:
        """What a model may write that knows nothing of all this."""
        chance = random.Random(seed)
        written: list[int] = []
        while not self.grammar.is_complete:
            phrase = self.tokens(chance.choice(PHRASES))
            if chance.random() < 0.1 and self.grammar._matcher.validate_tokens(phrase) == len(phrase):
                for each in phrase:
                    self.grammar.accept(each)
                written += phrase
                continue
            allowed = np.flatnonzero(self.grammar.mask()).tolist()
            ends = [each for each in allowed if each >= 256 or each in CLOSERS]
            token = chance.choice(ends if ends and chance.random() < 0.7 else allowed)
            if token == END:
                break
            self.grammar.accept(token)
            written.append(token)
            assert len(written) < most, self.backend.text_of(written)[-200:]
        return b"".join(map(self.backend.spell, written)).decode("utf-8", "replace")


def calls_of(asked: Asked, text: str) -> list[tuple[str, Any]]:
    parts = read(asked.dialect, [text], begins_thinking=asked.begins_thinking)
    assert all(each[0] != "text" for each in parts), parts
    return [(each[1], json.loads(each[2])) for each in parts if each[0] == "call"]


def before(asked: Asked) -> str:
    """Ends the thoughts that the prompt has begun."""
    return "x</think>" if asked.begins_thinking else ""


@every
def test_answers_of_the_family_are_allowed(transcript: Transcript) -> None:
    """What the model was trained to write is what `auto` lets it write."""
    for answer in transcript.said["answers"]:
        if not answer.get("constrained", True):
            continue
        asked = Asked(transcript, tools())
        raw = answer["raw"]
        if asked.begins_thinking and not answer.get("begins_thinking"):
            raw = f"x</think>{raw}"
        if answer.get("begins_thinking") and not asked.begins_thinking:
            raw = raw.split("</think>", 1)[1]
        assert asked.takes(raw), raw


@every
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("choice", ["required", "named"])
def test_a_call_must_come_and_fits(transcript: Transcript, choice: str, seed: int) -> None:
    """Whatever a model would rather say: calls only, of offered tools, with arguments that validate."""
    asked = Asked(transcript, tools(choice=choice))
    calls = calls_of(asked, asked.anything(seed))

    assert calls
    assert choice == "required" or [name for name, _ in calls] == [TOOLS[0].name]
    for name, arguments in calls:
        jsonschema.validate(arguments, SCHEMAS[name])


@every
@pytest.mark.parametrize("seed", range(2))
def test_one_call_at_most(transcript: Transcript, seed: int) -> None:
    """Without parallel calls there is exactly one where one is required."""
    asked = Asked(transcript, tools(choice="required", parallel=False))

    assert len(calls_of(asked, asked.anything(seed))) == 1


@every
def test_what_does_not_fit_is_refused(transcript: Transcript) -> None:
    """No tool that was not offered, no argument that its schema refuses, no text where a call must come."""
    for answer in transcript.said["answers"]:
        if not answer.get("constrained", True) or answer["parts"][-1][0] != "call":
            continue
        raw = answer["raw"]
        for wrong in (raw.replace("weather", "whether").replace("find", "fund"), raw[:-3]):
            asked = Asked(transcript, tools())
            if answer.get("begins_thinking") and not asked.begins_thinking:
                wrong = wrong.split("</think>", 1)[1]  # noqa: PLW2901
            assert not asked.takes(wrong), wrong
    asked = Asked(transcript, tools(choice="required"))
    assert not asked.takes(f"{before(asked)}Take a coat.")


@every
def test_schema_beside_tools(transcript: Transcript) -> None:
    """An answer is a call, or JSON that fits the schema, and nothing else."""
    framed = "<|channel|>final<|message|>%s" if transcript.name == "harmony" else "%s"
    for text, fits in (('{"yes": true}', True), ('{"yes": 5}', False), ("yes", False)):
        asked = Asked(transcript, tools(), SCHEMA)
        assert asked.takes(before(asked) + framed % text) is fits, text
    call = next(each for each in transcript.said["answers"] if each["parts"][-1][0] == "call")
    if len(call["parts"]) == 1 and transcript.name != "llama3":
        assert Asked(transcript, tools(), SCHEMA).takes(call["raw"])


@every
def test_schema_alone_comes_behind_the_thoughts(transcript: Transcript) -> None:
    """A model that thinks may do so before the answer that fits."""
    asked = Asked(transcript, None, SCHEMA)
    framed = "<|channel|>final<|message|>%s" if transcript.name == "harmony" else "%s"
    assert asked.takes(before(asked) + framed % '{"yes": true}')
    if asked.begins_thinking:
        assert not Asked(transcript, None, SCHEMA).takes('{"yes": true}')


def test_bad_schemas_are_named() -> None:
    """A tool whose schema can not be kept to is refused by its place; so is the answer's own."""
    transcript = next(each for each in transcripts() if each.name == "plain")
    backend = transcript.backend
    offered = tools()
    worse = Tools(
        (offered.tools[0], type(offered.tools[1])("b", "", '{"type": "nonsense"}')), "auto", parallel=True
    )
    preparer = Preparer(PromptBuilder(backend), backend)
    for asked, schema, param in (
        (worse, "", "tools[1]"),
        (offered, '{"type": "nonsense"}', "response_format.json_schema.schema"),
    ):
        refused = preparer.prepare(Generate("a", (Turn("user", "hi"),), SAMPLING, tools=asked, schema=schema))
        assert (refused.code, refused.param) == ("unsupported_schema", param)  # type: ignore[union-attr]
