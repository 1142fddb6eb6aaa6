"""Guesses ahead and schemas: what an answer may be, and that guesses change none."""

from __future__ import annotations

import json

import pytest

from appliance.engine.messages import Finished, Rejected
from tests.engines import Bench


@pytest.mark.parametrize("text", ["echo: " + "la la la la " * 8, "say 40 tokens", "echo: no repetition"])
@pytest.mark.parametrize("max_tokens", [1, 7, 33, None])
def test_guesses_change_no_answer(text: str, max_tokens: int | None) -> None:
    """With and without guesses ahead the answer, its length and its end are the same."""
    answers = []
    for speculation in (False, True):
        bench = Bench(speculation=speculation)
        for number in range(2):  # the second finds the first one's answer as a guess
            bench.ask(f"{number}", text, max_tokens=max_tokens, stop=("house",))
            bench.run()
            end = bench.ends(f"{number}")[0]
            assert isinstance(end, Finished)
            answers.append((bench.text(f"{number}"), end.reason, end.completion_tokens))
        bench.assert_clean()

    assert len(set(answers)) == 1


def test_guesses_that_come_true_save_steps() -> None:
    """An answer that was given before takes far fewer steps the second time."""
    bench = Bench()
    for size in (1, 2):  # a device on which one token more costs next to nothing
        bench.core._shared._cost.observe(size, 10_000 + size)
    steps = []
    for number in range(2):
        before = bench.core._tally.steps
        bench.ask(f"{number}", "say 60 tokens")
        bench.run()
        steps.append(bench.core._tally.steps - before)

    assert steps[1] < steps[0] < 60
    assert bench.core._tally.accepted_tokens > 60
    bench.assert_clean()


SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"a": {"enum": [1, 2]}},
        "required": ["a"],
        "additionalProperties": False,
    }
)


def test_answers_keep_to_their_schema() -> None:
    """What the model would say is cut to what the schema allows, and ends where it is complete."""
    bench = Bench()
    bench.ask("one", "echo: no JSON at all", schema=SCHEMA)
    bench.ask("two", 'echo: {"a": 2}', schema=SCHEMA)
    bench.run()
    ends = [*bench.ends("one"), *bench.ends("two")]

    assert json.loads(bench.text("one")) in ({"a": 1}, {"a": 2})
    assert bench.text("two") == '{"a": 2}'
    assert [end.reason for end in ends if isinstance(end, Finished)] == ["stop", "stop"]
    bench.assert_clean()


@pytest.mark.parametrize("schema", ['{"type": "strin"}', "{", '{"$ref": "http://example.org/x"}'])
def test_schemas_that_can_not_be_kept_to_are_refused(schema: str) -> None:
    """A schema that does not compile is the caller's mistake, said before anything is computed."""
    bench = Bench()
    refused = bench.ask("one", "hello", schema=schema)

    assert isinstance(refused, Rejected)
    assert refused.code == "unsupported_schema"
    assert not bench.core.has_work
