"""Tables of cases for rule sets: what is said, and what the rules are to make of it. Pure."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from appliance.errors import RequestError
from appliance.policy.rules import RuleSet
from appliance.policy.streaming import Guard, check
from appliance.policy.verdicts import Action, Rule

MAX_CASES: Final = 10_000


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row. `rules` are those that speak, in any order; without `result` what passes is not looked at."""

    text: str
    on: Literal["input", "output"]
    action: Action
    rules: list[str] = []
    result: str | None = None
    name: str = ""


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of cases. `guardrails` names the file of the rules, beside it."""

    guardrails: str
    cases: Annotated[list[Case], Meta(min_length=1, max_length=MAX_CASES)]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case, and what differs from what it says; nothing where all is well."""

    number: int  # from 1
    case: Case
    action: Action
    rules: tuple[str, ...]
    result: str = field(repr=False)
    differences: tuple[str, ...] = ()


def parse(text: str) -> Table:
    """A table. RequestError says what is wrong with it."""
    try:
        return msgspec.convert(tomllib.loads(text), Table)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise RequestError(f"this is no table of cases: {str(error)[:300]}", code="invalid_cases") from None


def run(table: Table, rules: RuleSet) -> list[Outcome]:
    """Every case, as a whole text; one of an answer also character by character, as a stream."""
    return [_run(number, case, rules) for number, case in enumerate(table.cases, 1)]


def _run(number: int, case: Case, rules: RuleSet) -> Outcome:
    given = rules.input if case.on == "input" else rules.output
    found = check(case.text, given)
    spoke = tuple(sorted({each.rule for each in found.verdicts}))
    result = found.text if found.refusal is None or case.on == "output" else ""
    differences = []
    if found.action is not case.action:
        differences.append(f"action is {found.action}, not {case.action}")
    if set(spoke) != set(case.rules):
        differences.append(f"rules are {_listed(spoke)}, not {_listed(case.rules)}")
    if case.result is not None and result != case.result:
        differences.append(f"result is {result!r}, not {case.result!r}")
    if case.on == "output" and _streamed(case.text, given) != found.text:
        differences.append("a stream of it says something else")
    return Outcome(number, case, found.action, spoke, result, tuple(differences))


def _streamed(text: str, rules: tuple[Rule, ...]) -> str:
    guard = Guard(rules)
    return "".join(map(guard.feed, text)) + guard.finish()


def _listed(ids: tuple[str, ...] | list[str]) -> str:
    return ", ".join(sorted(ids)) or "none"
