"""Suites of cases: one JSON object on each line of a file, read with bounds and with the number of the line.

A case asks one question and says what holds of a good answer. The digest of the file's bytes names the suite:
two scores are of the same cases where it is the same. Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from appliance.errors import RequestError
from appliance.evaluating import checks, matching
from appliance.evaluating.questions import MAX_TOKENS, CaseId, Question, Turn
from appliance.evaluating.scores import MAX_CASES

MAX_FILE_BYTES: Final = 16 << 20
MAX_LINE_BYTES: Final = 256 << 10
DEFAULT_MAX_TOKENS: Final = 256
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

Text = Annotated[str, Meta(min_length=1, max_length=100_000)]
Share = Annotated[float, Meta(ge=0, le=1)]
Some = Annotated[list[Text], Meta(min_length=1, max_length=20)]


class Similar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The answer means about the same as one of these texts: the cosine of their embeddings."""

    to: Text | Some
    at_least: Share


class Checks(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What holds of a good answer: all that is said here."""

    exact: Text | Some | None = None  # it is one of these, but for white space around it
    regex: Text | Some | None = None  # each is found in it (RE2)
    no_regex: Text | Some | None = None  # none is found in it
    schema: dict[str, Any] | None = None  # it is JSON that keeps to this JSON Schema
    similarity: Similar | None = None
    refused: bool = False  # the appliance's own rules refuse question or answer


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line. `structured`: the answer is held to the check's schema, as `response_format` would."""

    checks: Checks
    id: CaseId | None = None
    prompt: Text | None = None
    messages: Annotated[list[Turn], Meta(min_length=1, max_length=100)] | None = None
    structured: bool = False
    max_tokens: Annotated[int, Meta(ge=1, le=MAX_TOKENS)] = DEFAULT_MAX_TOKENS
    weight: Annotated[int, Meta(ge=1, le=1000)] = 1
    tags: Annotated[list[CaseId], Meta(max_length=16)] = []


@dataclass(frozen=True, slots=True)
class Case:
    """One question, and what is expected of its answer."""

    id: str
    question: Question = field(repr=False)
    expected: checks.Expected = field(repr=False)
    weight: int = 1
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Suite:
    """A file of cases, in its order."""

    name: str
    sha256: str
    cases: tuple[Case, ...] = field(repr=False)

    @property
    def needs_embeddings(self) -> bool:
        """Whether an answer is to be compared by what it means."""
        return any(each.expected.similar for each in self.cases)


def parse(data: bytes, *, name: str) -> Suite:
    """A suite. RequestError `invalid_cases` names the line that is wrong, and what is wrong with it."""
    if _NAME.fullmatch(name) is None:
        raise RequestError(
            "a suite is named by its file: up to 100 letters, digits, dots, dashes and underscores",
            code="invalid_cases",
        )
    if len(data) > MAX_FILE_BYTES:
        raise RequestError(f"the file has more than {MAX_FILE_BYTES} bytes", code="invalid_cases")
    sha256 = hashlib.sha256(data).hexdigest()
    cases: list[Case] = []
    seen: dict[str, int] = {}
    for number, line in _lines(data):
        if len(cases) == MAX_CASES:
            raise _wrong(number, f"a suite has at most {MAX_CASES} cases")
        case = _case(sha256, number, line)
        if case.id in seen:
            raise _wrong(number, f"line {seen[case.id]} has the id {case.id}, too")
        seen[case.id] = number
        cases.append(case)
    if not cases:
        raise RequestError("the file has no cases", code="invalid_cases")
    return Suite(name, sha256, tuple(cases))


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Lines with something on them, counted from 1."""
    for number, line in enumerate(data.split(b"\n"), 1):
        if len(line) > MAX_LINE_BYTES:
            raise _wrong(number, f"it has more than {MAX_LINE_BYTES} bytes")
        if line.strip():
            yield number, line


def _case(sha256: str, number: int, line: bytes) -> Case:
    try:
        found = msgspec.json.decode(line, type=Line)
        messages = _messages(found)
        expected = _expected(found.checks)
    except (msgspec.DecodeError, matching.PatternError, checks.SchemaError, ValueError) as error:
        raise _wrong(number, str(error)[:300]) from None
    if found.structured and found.checks.schema is None:
        raise _wrong(number, "`structured` holds an answer to the schema of its checks, and there is none")
    name = found.id or f"line-{number}"
    schema = expected.schema if found.structured else ""
    return Case(
        id=name,
        question=Question(sha256, name, messages, found.max_tokens, schema),
        expected=expected,
        weight=found.weight,
        tags=tuple(dict.fromkeys(found.tags)),
    )


def _messages(found: Line) -> tuple[Turn, ...]:
    if (found.prompt is None) == (found.messages is None):
        raise ValueError("a case has either `prompt` or `messages`")
    if found.prompt is not None:
        return (Turn("user", found.prompt),)
    messages = tuple(found.messages or ())
    if messages[-1].role != "user":
        raise ValueError("the last of `messages` is the user's")
    return messages


def _expected(said: Checks) -> checks.Expected:
    if said == Checks():
        raise ValueError("`checks` says nothing about the answer")
    if said.refused and said != Checks(refused=True):
        raise ValueError("a case that is to be refused has no answer to check")
    return checks.Expected(
        exact=_some(said.exact),
        patterns=tuple(map(matching.compiled, _some(said.regex))),
        absent=tuple(map(matching.compiled, _some(said.no_regex))),
        schema=checks.schema_text(said.schema) if said.schema is not None else "",
        similar=_some(said.similarity.to) if said.similarity is not None else (),
        at_least=said.similarity.at_least if said.similarity is not None else 0.0,
        refused=said.refused,
    )


def _some(said: str | list[str] | None) -> tuple[str, ...]:
    if said is None:
        return ()
    return (said,) if isinstance(said, str) else tuple(said)


def _wrong(number: int, problem: str) -> RequestError:
    return RequestError(f"line {number}: {problem}", code="invalid_cases")
