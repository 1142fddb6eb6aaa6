"""Tools with the real starter model: small as it is, its calls are valid."""

from __future__ import annotations

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from appliance.dialects import reader
from appliance.engine.messages import Finished, Generate
from appliance.engine.question import Tools, ToolSpec, Turn
from appliance.engine.worker.llama import LlamaBackend
from appliance.engine.worker.sequence import Sequence
from tests.dialects import merged
from tests.integration.real import Bench, vary

pytestmark = pytest.mark.model

WEATHER = {
    "type": "object",
    "properties": {
        "town": {"type": "string", "maxLength": 20},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
        "unit": {"enum": ["C", "F"]},
    },
    "required": ["town", "days", "unit"],
    "additionalProperties": False,
}
FORM = {
    "type": "object",
    "properties": {"number": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{2}$"}},
    "required": ["number"],
    "additionalProperties": False,
}
SCHEMAS = {"weather": WEATHER, "find_form": FORM}
SPECS = (
    ToolSpec("weather", "The weather of the next days in a town.", json.dumps(WEATHER)),
    ToolSpec("find_form", "Where a form lies, by its number.", json.dumps(FORM)),
)


def ask(
    bench: Bench, text: str, choice: Any, specs: tuple[ToolSpec, ...], **sampling: Any
) -> list[list[str]]:
    """The parts of the answer."""
    bench.said.clear()
    question = Generate(
        "a",
        (Turn("user", text),),
        vary(max_tokens=160, **sampling),
        tools=Tools(specs, choice, parallel=False),
    )
    prepared = bench.preparer.prepare(question)
    assert isinstance(prepared, Sequence), prepared
    bench.core.add(prepared)
    text = bench.answers()["a"]
    (end,) = [each for each in bench.said if isinstance(each, Finished)]
    assert end.reason == "stop", text
    read = reader(bench.builder.speech.dialect.name, calls=True, begins_thinking=False)
    return merged(read.feed(text) + read.finish())


@pytest.mark.parametrize(
    ("text", "choice", "specs", "names", "temperature"),
    [
        ("Is there rain in Bonn tomorrow?", "required", SPECS, {"weather", "find_form"}, 0.0),
        ("Tell me a story.", "required", SPECS, {"weather", "find_form"}, 1.0),
        ("Where is form AB-12?", "named", SPECS, {"weather"}, 0.0),
        ("Tell me a story.", "named", SPECS[::-1], {"find_form"}, 1.0),
    ],
)
def test_required_and_named_calls_are_valid(
    backend: LlamaBackend,
    text: str,
    choice: Any,
    specs: tuple[ToolSpec, ...],
    names: set[str],
    temperature: float,
) -> None:
    """A call of an offered tool, of the named one where one is named, with arguments that validate."""
    ((kind, name, arguments),) = ask(Bench(backend), text, choice, specs, temperature=temperature, seed=7)

    assert kind == "call"
    assert name in names
    jsonschema.validate(json.loads(arguments), SCHEMAS[name])


def test_auto_writes_what_it_likes_in_its_own_time(backend: LlamaBackend) -> None:
    """Free text stays free: whatever comes is text, or a call that validates."""
    parts = ask(Bench(backend), "Say hello.", "auto", SPECS)

    assert parts
    for kind, *said in parts:
        if kind == "call":
            jsonschema.validate(json.loads(said[1]), SCHEMAS[said[0]])


def test_the_starter_models_template_knows_no_tools(backend: LlamaBackend) -> None:
    """It is told of them in words, and does not think."""
    speech = Bench(backend).builder.speech

    assert (speech.dialect.name, speech.is_native, speech.thinks) == ("plain", False, False)
