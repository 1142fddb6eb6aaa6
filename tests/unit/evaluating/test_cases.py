"""Suites as files: what is read, and that each thing wrong is named with its line."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from appliance.errors import RequestError
from appliance.evaluating import cases, scores


def line(**fields: Any) -> str:
    return json.dumps({"prompt": "What is due?", "checks": {"exact": "35"}} | fields)


def parsed(*lines: str) -> cases.Suite:
    return cases.parse("\n".join(lines).encode(), name="fines")


def test_a_suite_is_its_lines_in_order() -> None:
    """Lines without anything are passed over; a case without a name has that of its line."""
    conversation = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "And now?"}]
    data = "\n".join(
        [
            line(id="first", tags=["money", "money"], weight=3, max_tokens=8),
            "",
            line(prompt=None, messages=conversation),
        ]
    ).encode()
    suite = cases.parse(data, name="fines")

    assert suite.sha256 == hashlib.sha256(data).hexdigest()
    assert [each.id for each in suite.cases] == ["first", "line-3"]
    first, second = suite.cases
    assert (first.weight, first.tags, first.question.max_tokens) == (3, ("money",), 8)
    assert [(each.role, each.content) for each in second.question.messages] == [
        ("system", "Be brief."),
        ("user", "And now?"),
    ]
    assert first.question.suite_sha256 == suite.sha256


def test_a_structured_case_holds_its_answer_to_the_schema_of_its_check() -> None:
    """As `response_format` would; a case that is only checked asks freely."""
    schema = {"type": "object", "required": ["euros"]}
    suite = parsed(line(checks={"schema": schema}, structured=True), line(checks={"schema": schema}))

    assert json.loads(suite.cases[0].question.schema) == schema
    assert suite.cases[1].question.schema == ""


WRONG = {
    "no JSON": ("{", "Input data was truncated"),
    "a word that is not known": (line(answer="35"), "unknown field `answer`"),
    "neither prompt nor messages": (line(prompt=None), "either `prompt` or `messages`"),
    "both": (line(messages=[{"role": "user", "content": "x"}]), "either `prompt` or `messages`"),
    "a conversation that ends with an answer": (
        line(prompt=None, messages=[{"role": "assistant", "content": "x"}]),
        "the last of `messages` is the user's",
    ),
    "no checks": (line(checks={}), "says nothing about the answer"),
    "a check that is not known": (line(checks={"contains": "x"}), "unknown field `contains`"),
    "a pattern that is none": (line(checks={"regex": "(?=x)"}), "the pattern is not understood"),
    "a schema that is none": (line(checks={"schema": {"type": "integers"}}), "no JSON Schema"),
    "a schema with a pattern that is none": (
        line(checks={"schema": {"properties": {"a": {"pattern": "(?=x)"}}}}),
        "no JSON Schema",
    ),
    "a refusal with an answer": (
        line(checks={"refused": True, "exact": "x"}),
        "is to be refused has no answer",
    ),
    "a form without a schema": (line(structured=True), "there is none"),
    "a cosine above 1": (line(checks={"similarity": {"to": "x", "at_least": 1.5}}), "`float` <= 1.0"),
    "too long an answer": (line(max_tokens=100_000), "`int` <= 8192"),
    "a name with a blank": (line(id="a b"), "matching regex"),
    "a line that is too long": (line(prompt="x" * cases.MAX_LINE_BYTES), "bytes"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_with_its_line(name: str) -> None:
    """The first line is good, so it is the second."""
    text, problem = WRONG[name]
    with pytest.raises(RequestError) as caught:
        parsed(line(), text)

    assert caught.value.code == "invalid_cases"
    assert caught.value.message.startswith("line 2: ")
    assert problem in caught.value.message


def test_two_cases_of_one_name_are_refused_by_both_lines() -> None:
    """A report names cases: each name is one case."""
    with pytest.raises(RequestError, match="line 3: line 1 has the id twice, too"):
        parsed(line(id="twice"), line(), line(id="twice"))


def test_a_suite_has_bounds() -> None:
    """A file that is empty, too large, or of too many cases; a name that is none."""
    many = "\n".join([line()] * (scores.MAX_CASES + 1)).encode()
    for data, name in (
        (b"\n\n", "x"),
        (b" " * (cases.MAX_FILE_BYTES + 1), "x"),
        (many, "x"),
        (b"{}", "../x"),
    ):
        with pytest.raises(RequestError) as caught:
            cases.parse(data, name=name)
        assert caught.value.code == "invalid_cases"


def test_no_repr_holds_a_question() -> None:
    """Suites travel through code that logs."""
    suite = parsed(line(prompt="secret words", checks={"exact": "secret answer"}))

    assert "secret" not in repr(suite)
    assert "secret" not in repr(suite.cases[0])
