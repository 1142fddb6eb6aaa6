"""The threat model says nothing that is not shown: its tests exist, its keys exist, nothing is left out."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import msgspec
import pytest

from appliance.config import Settings

ROOT = Path(__file__).resolve().parent.parent.parent
GUIDE = (ROOT / "deploy/guides/security.md").read_text(encoding="utf-8")
STANDARD = ROOT / "tests/vectors/asvs/5.0.0-levels-1-and-2.txt"
BORDERS = range(1, 11)
_SHOWN = re.compile(r"`([a-z]+(?:/\w+)*/test_\w+)::(\w*)`")
_STATES = ("yes", "part: ", "site", "none")


def rows(text: str) -> list[list[str]]:
    """The cells of each line of a table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[each.strip() for each in line.strip("|").split("|")] for line in lines]


@functools.cache
def functions(file: str) -> frozenset[str]:
    path = ROOT / "tests" / f"{file}.py"
    tree = ast.parse(path.read_bytes()) if path.exists() else ast.Module([], [])
    return frozenset(
        each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def missing(text: str) -> list[str]:
    """Tests that are named and are not there."""
    return [f"{file}::{name}" for file, name in _SHOWN.findall(text) if f"test_{name}" not in functions(file)]


def test_every_test_that_is_named_exists() -> None:
    """A renamed one is found here."""
    assert len(_SHOWN.findall(GUIDE)) > 150
    assert missing(GUIDE) == []


def test_this_test_finds_what_is_missing() -> None:
    """The control."""
    assert missing("`house/test_security_guide::no_such_thing`, `house/test_no_such::thing`") == [
        "house/test_security_guide::no_such_thing",
        "house/test_no_such::thing",
    ]


@pytest.mark.parametrize("number", BORDERS)
def test_every_border_has_every_letter_of_stride(number: int) -> None:
    """In order, each with what holds and the test that shows it."""
    section = re.split(rf"^### B{number} .*$", GUIDE, flags=re.MULTILINE)[1].partition("\n#")[0]
    told = [row for row in rows(section) if row[0] in set("STRIDE")]

    assert "".join(row[0] for row in told) == "STRIDE"
    assert f"B{number}─" in GUIDE
    for _letter, threat, holds, shown, _remains in told:
        assert threat
        assert holds
        assert _SHOWN.search(shown), threat


def test_the_ten_risks_of_language_models_are_all_there() -> None:
    """Once each, in the order of their list, each with what remains."""
    told = [row for row in rows(GUIDE) if row[0].startswith("LLM")]

    assert [row[0][:5] for row in told] == [f"LLM{number:02}" for number in range(1, 11)]
    assert all(_SHOWN.search(row[2]) and row[3] for row in told)


def test_every_requirement_of_the_standard_is_answered_once() -> None:
    """Levels 1 and 2 of ASVS 5.0.0, by the standard's own list; what is said to hold names a test."""
    table = GUIDE.partition("<!-- asvs -->")[2].partition("<!-- /asvs -->")[0]
    told = [row for row in rows(table) if row[0][0].isdigit()]
    answered = [number for row in told for number in row[0].split(", ")]

    assert sorted(answered) == sorted(line.split()[0] for line in STANDARD.read_text("ascii").splitlines())
    for numbers, here, shown, state in told:
        assert here, numbers
        assert state.startswith(_STATES), numbers
        assert _SHOWN.search(shown) or state != "yes", numbers


def test_every_setting_that_is_named_exists() -> None:
    """`section.key`, as appliance.toml has it."""
    known = {
        f"{section.name}.{key.name}"
        for section in msgspec.structs.fields(Settings)
        if isinstance(section.type, type) and issubclass(section.type, msgspec.Struct)
        for key in msgspec.structs.fields(section.type)
    }
    sections = {each.partition(".")[0] for each in known}
    named = {
        each for each in re.findall(r"`([a-z_]+\.[a-z_]+)`", GUIDE) if each.partition(".")[0] in sections
    }

    assert len(named) > 5
    assert named - known == set()
