"""A schema that can not be followed to the end of an answer: that answer's failure, nobody else's."""

from __future__ import annotations

import json

import pytest
from llguidance import LLParserLimits

from appliance.engine.messages import Failed, Finished, Setup
from appliance.engine.worker.grammar import FIRST_NS, Grammar, GrammarExhausted, Source
from tests.engines import Bench

# Compiles under small limits; its string needs far more states than they allow.
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"a": {"type": "string", "pattern": "^(a|b)*a(a|b){12}$"}},
        "required": ["a"],
        "additionalProperties": False,
    }
)
ANSWER = '{"a": "babbabaabbbaba"}'
BEGUN = '{"a": "ab'  # what a model says that stops in the middle, so that the schema must lead it on
SETUP = Setup(n_ctx=1024, n_batch=32, n_threads=1, flash_attn=False)
# The first fails where the mask is computed, the second where a token is taken that was allowed.
LIMITS = [LLParserLimits(max_lexer_states=4), LLParserLimits(step_lexer_fuel=1)]


@pytest.mark.parametrize("limits", LIMITS, ids=["states", "fuel"])
@pytest.mark.parametrize("setup", [None, SETUP], ids=["shared", "alone"])
@pytest.mark.parametrize("text", [f"echo: {BEGUN}", "echo: no JSON at all"])
def test_a_limit_in_the_middle_fails_that_answer_only(
    limits: LLParserLimits, setup: Setup | None, text: str
) -> None:
    """It is no finished answer, holds nothing, and whoever is beside or behind it is answered."""
    bench = Bench()
    bench.preparer._grammars._limits = limits
    bench.ask("bad", text, schema=SCHEMA, setup=setup)
    bench.ask("beside", "echo: I am here")
    bench.run()
    bench.ask("behind", "echo: and I", setup=setup)
    bench.run()
    (end,) = bench.ends("bad")

    assert isinstance(end, Failed)
    assert end.code == "schema_too_complex"
    assert BEGUN not in end.message
    assert (bench.text("beside"), bench.text("behind")) == ("I am here", "and I")
    assert all(isinstance(bench.ends(name)[0], Finished) for name in ("beside", "behind"))
    bench.assert_clean()


def test_without_a_limit_the_same_answer_is_whole() -> None:
    """The schema is no impossible one."""
    bench = Bench()
    bench.ask("good", f"echo: {ANSWER}", schema=SCHEMA)
    bench.run()

    assert bench.text("good") == ANSWER


def test_masks_that_take_too_long_fail_the_answer() -> None:
    """What one answer's schema takes of everybody's time is bounded; a slow machine is no fault of it."""
    bench = Bench()
    ticks = iter(range(0, 10**12, FIRST_NS // 4))
    grammar = bench.preparer._grammars.compile(Source("schema", SCHEMA))
    grammar._clock_ns = lambda: next(ticks)
    bench.ask("bad", "echo: no JSON at all")
    bench.core._shared._sequences["bad"].grammar = grammar
    bench.ask("beside", "echo: I am here")
    bench.run()
    (end,) = bench.ends("bad")

    assert isinstance(end, Failed)
    assert end.code == "schema_too_complex"
    assert bench.text("beside") == "I am here"
    bench.assert_clean()


def test_a_mask_without_a_token_is_an_error() -> None:
    """Nothing that samples is ever given an empty choice: llama.cpp would abort the process."""

    class Nothing:
        def deep_copy(self) -> Nothing:
            return self

        def unsafe_compute_mask_ptr(self, pointer: int, size: int) -> None:
            del pointer, size

        def is_error(self) -> bool:
            return False

    grammar = Grammar(Nothing(), 64, frozenset())  # type: ignore[arg-type]

    with pytest.raises(GrammarExhausted):
        grammar.mask()
