"""The guide's tables of parameters and of errors say what the code does, row by row."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from appliance import statuses
from appliance.api import completions_schemas, formats, schemas, tooling
from appliance.api import errors as wire
from appliance.api.completions_schemas import CompletionRequest
from appliance.api.sampled import MAX_TOKENS, Sampled
from appliance.api.schemas import ChatCompletionRequest
from appliance.errors import ApplianceError, InternalError, RequestError, Unavailable

GUIDE = (Path(__file__).resolve().parent.parent.parent / "deploy" / "guides" / "api.md").read_text()
UNBOUNDED = {"seed"}  # its bounds are those of 64 bits


def chapter(title: str) -> str:
    return GUIDE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def tables(title: str) -> list[list[list[str]]]:
    """The cells of a chapter's tables, without their heads."""
    blocks = re.findall(r"(?:^\|.*\n)+", chapter(title), re.MULTILINE)
    return [
        [
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
            for line in block.splitlines()[2:]
        ]
        for block in blocks
    ]


def names(table: list[list[str]]) -> dict[str, str]:
    """The parameters that a table names, each with its row."""
    return {name: " | ".join(row) for row in table for name in re.findall(r"`([a-z_]+)`", row[0])}


def used(kind: type[Sampled], *others: tuple[str, ...]) -> set[str]:
    """The parameters that are neither without effect nor refused."""
    return set(kind.model_fields) - {name for each in others for name in each}


USED, NO_EFFECT, REFUSED = tables("Chats")
(COMPLETIONS,) = tables("Completions")
USED_BY_CHATS = used(ChatCompletionRequest, schemas.NO_EFFECT, tuple(schemas.OFF_VALUES))
USED_BY_COMPLETIONS = used(
    CompletionRequest, completions_schemas.NO_EFFECT, tuple(completions_schemas.OFF_VALUES)
)


def bounds(schema: Any, parameter: str) -> set[str]:
    """The numbers and words that a parameter's own schema names as its bounds."""
    found: set[str] = set()
    for each in [schema, *schema.get("anyOf", ())]:
        for key in ("minimum", "maximum", "exclusiveMinimum", "maxItems", "maxProperties"):
            if key in each and parameter not in UNBOUNDED:
                found.add(f"{each[key]:g}" if each[key] < 1_000_000 else str(each[key]))
        found |= {str(word) for word in each.get("enum", ())}
    return found - {str(MAX_TOKENS)}  # more than any context holds


def test_the_table_of_chats_is_complete() -> None:
    """What is used, what has no effect and what is refused stand each in their own table, and only these."""
    assert set(names(USED)) == USED_BY_CHATS
    assert set(names(NO_EFFECT)) == set(schemas.NO_EFFECT)
    assert set(names(REFUSED)) == set(schemas.OFF_VALUES)


def test_the_chapter_of_completions_is_complete() -> None:
    """What they have in common with chats is listed, and the rest stands in the table."""
    prose = chapter("Completions").partition("|")[0]
    common = set(re.findall(r"`([a-z_]+)`", prose)) & set(CompletionRequest.model_fields)

    assert common | set(names(COMPLETIONS)) == USED_BY_COMPLETIONS
    for name in (*completions_schemas.NO_EFFECT, *completions_schemas.OFF_VALUES):
        assert f"`{name}`" in chapter("Completions")


@pytest.mark.parametrize("parameter", sorted(USED_BY_CHATS))
def test_bounds_of_chats_are_told(parameter: str) -> None:
    """A number or a word that bounds a value in the code stands in the value's row."""
    row = names(USED)[parameter]
    schema = ChatCompletionRequest.model_json_schema()["properties"][parameter]

    assert [
        each for each in bounds(schema, parameter) if not re.search(rf"(?<![\w.]){each}(?![\w])", row)
    ] == []


@pytest.mark.parametrize("parameter", sorted(names(COMPLETIONS)))
def test_bounds_of_completions_are_told(parameter: str) -> None:
    """The same for completions."""
    row = names(COMPLETIONS)[parameter]
    schema = CompletionRequest.model_json_schema()["properties"][parameter]

    assert [
        each for each in bounds(schema, parameter) if not re.search(rf"(?<![\w.]){each}(?![\w])", row)
    ] == []


def test_bounds_that_no_schema_names_are_told() -> None:
    """Sizes that are counted elsewhere stand in the guide with the numbers of the code."""
    assert f"{formats.MAX_SCHEMA_CHARACTERS}" in names(USED)["tools"]
    assert f"{tooling.MAX_OFFERED_CHARACTERS}" in names(USED)["tools"]
    assert f"{tooling.MAX_TOOLS}" in names(USED)["tools"]
    assert f"{completions_schemas.MAX_CHOICES_IN_ALL}" in names(COMPLETIONS)["prompt"]
    assert f"{completions_schemas.DEFAULT_MAX_TOKENS}" in names(COMPLETIONS)["max_tokens"]


@pytest.mark.parametrize("name", sorted(schemas.OFF_VALUES))
def test_off_values_are_told(name: str) -> None:
    """What means "off" stands in the row of what is refused otherwise."""
    for value in schemas.OFF_VALUES[name]:
        told = {str(value), str(value).replace("'", '"'), f'"{value}"'}
        assert any(f"`{each}`" in names(REFUSED)[name] for each in told)


def error_of(code: str) -> ApplianceError:
    """An error as the appliance raises it under this code."""
    if code == InternalError.default_code:
        return InternalError("x")
    status = statuses._STATUS.get(code)
    waits = status in {408, 429, 503} and code not in {"body_timeout", "header_timeout"}
    return Unavailable("x", code=code) if waits else RequestError("x", code=code)


ERRORS = [
    (code, int(row[0]), row[2])
    for table in tables("Errors")
    for row in table
    for code in re.findall(r"`([a-z_]+)`", row[1])
]


@pytest.mark.parametrize(("code", "status", "again"), ERRORS, ids=str)
def test_the_table_of_errors_is_true(code: str, status: int, again: str) -> None:
    """Each code has the status, and the word about another try, that its row says."""
    error = error_of(code)

    assert statuses.status_of(error) == status
    assert ("yes" if wire.should_retry(error) else "no") == again


def test_the_table_of_errors_is_complete() -> None:
    """Every code that has a status of its own has a row."""
    assert set(statuses._STATUS) - {code for code, _, _ in ERRORS} == set()
    assert not any(status == 422 for _, status, _ in ERRORS)
