"""What an answer must be, and whether it is."""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from appliance.evaluating import cases, checks
from appliance.evaluating.checks import Expected, failures
from appliance.evaluating.questions import Named, Reply

MODEL = Named("m", "0" * 64)


def expected(**said: Any) -> Expected:
    row = json.dumps({"prompt": "x", "checks": said}).encode()
    return cases.parse(row, name="x").cases[0].expected


def failed(text: str, cosine: float | None = None, **said: Any) -> tuple[str, ...]:
    return failures(expected(**said), Reply(MODEL, text), cosine)


def test_exact_is_one_of_the_texts_but_for_white_space_around() -> None:
    """Case counts, and so does what stands inside."""
    assert failed(" 35 euros\n", exact=["35 EUR", "35 euros"]) == ()
    assert failed("35  euros", exact=["35 EUR", "35 euros"]) == ("exact",)
    assert failed("35 Euros", exact="35 euros") == ("exact",)


def test_every_pattern_is_found_and_none_that_must_not_be() -> None:
    """Patterns of a whole answer: they have a beginning and an end, and no bound."""
    assert failed("It is 35.", regex=r"^It .*\b35\b.*$") == ()
    assert failed("It is 35.", regex=[r"\d+", "euros"]) == ("regex 2",)
    assert failed("As a language model", no_regex="(?i)language model") == ("no_regex",)


def test_a_pattern_takes_linear_time() -> None:
    """What makes other engines search for ever."""
    began = time.monotonic()

    assert failed("a" * 50_000 + "b", regex="^(a+)+$") == ("regex",)
    assert failed(json.dumps("a" * 50_000 + "b"), schema={"pattern": "^(a+)+$"}) == ("schema",)
    assert time.monotonic() - began < 5


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"euros": {"type": "integer"}, "on": {"type": "string", "format": "date"}},
    "patternProperties": {"^x_": {"type": "string"}},
    "required": ["euros"],
    "additionalProperties": False,
}
KEEPS = ('{"euros": 35}', ' {"euros": 35, "on": "2026-05-12"}\n', '{"euros": 35, "x_a": "b"}')
DOES_NOT_KEEP = (
    "35",
    '{"euros": "35"}',
    '{"euros": 35, "on": "12 May"}',
    '{"euros": 35, "x_a": 1}',
    '{"euros": 35, "other": 1}',
    '```json\n{"euros": 35}\n```',
    '{"euros": NaN}',
    "[" * 100_000,
    "",
)


@pytest.mark.parametrize("text", KEEPS)
def test_an_answer_that_keeps_to_its_schema(text: str) -> None:
    """Formats and names by pattern, too."""
    assert failed(text, schema=SCHEMA) == ()


@pytest.mark.parametrize("text", DOES_NOT_KEEP, ids=lambda text: text[:30])
def test_an_answer_that_does_not(text: str) -> None:
    """It must be JSON and nothing else, whatever it is made of."""
    assert failed(text, schema=SCHEMA) == ("schema",)


def test_a_schema_may_hold_itself() -> None:
    """References within the schema are followed."""
    tree = {"$ref": "#/$defs/node", "$defs": {"node": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}

    assert failed("[[], [[]]]", schema=tree) == ()
    assert failed("[[], [1]]", schema=tree) == ("schema",)


@pytest.mark.parametrize("reference", ["http://127.0.0.1:9/x", "other.json", "#/$defs/no"])
def test_a_schema_that_points_elsewhere_is_refused(reference: str) -> None:
    """Before anything is asked, as is one that points nowhere."""
    with pytest.raises(checks.SchemaError):
        checks.schema_text({"$ref": reference})
    with pytest.raises(checks.SchemaError):
        checks.schema_text({"properties": {"a": {"items": {"$ref": "http://127.0.0.1:9/x"}}}})


def test_a_schema_that_points_elsewhere_is_never_fetched(tmp_path: Path) -> None:
    """What the library would resolve by itself, it can not fetch: here a file that would allow the answer."""
    elsewhere = tmp_path / "allows.json"
    elsewhere.write_text('{"type": "integer"}', encoding="utf-8")
    reference = elsewhere.as_uri()
    with pytest.raises(checks.SchemaError):
        checks.schema_text({"$ref": reference})

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # with which the library announces that it fetches
        assert not checks.keeps_to("1", json.dumps({"$ref": reference}))


def test_similarity_is_the_nearest_text_s() -> None:
    """Where there was nothing to compare, it failed."""
    said = {"to": ["a", "b"], "at_least": 0.8}

    assert failed("x", cosine=0.8, similarity=said) == ()
    assert failed("x", cosine=0.79, similarity=said) == ("similarity (0.79, at least 0.80)",)
    assert failed("", similarity=said) == ("similarity (nothing to compare, at least 0.80)",)


def test_a_refusal_is_expected_or_a_failure() -> None:
    """Of the appliance's own rules; what could not be answered at all is told by its code."""
    refused, answered = Reply(MODEL, refused=True), Reply(MODEL, "x")

    assert failures(expected(refused=True), refused) == ()
    assert failures(expected(refused=True), answered) == ("refused",)
    assert failures(expected(exact="x"), refused) == ("answered (it was refused)",)
    assert failures(expected(exact="x"), Reply(MODEL, error="context_length_exceeded")) == (
        "answered (context_length_exceeded)",
    )


def test_a_failure_never_holds_the_answer() -> None:
    """Failures are kept in the open; answers are sealed."""
    every: dict[str, Any] = {"exact": "a", "regex": "b", "no_regex": "w", "schema": {"type": "null"}}

    assert "words" not in repr(failed("words", **every, similarity={"to": "c", "at_least": 1}))
    assert "words" not in repr(Reply(MODEL, "words"))
