"""Commands in guides exist: each `appliance …` that a document shows names a command and its options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from appliance.cli import program

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "deploy" / "guides").glob("*.md")])


def shown(text: str) -> list[str]:
    """Commands in code: a block's lines (joined where one ends in a backslash), and inline pieces."""
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    inline = [piece.replace("\n", " ") for piece in re.findall(r"`([^`]+)`", prose)]
    found = [re.sub(r"^(\$ |\.venv/bin/)+", "", each.strip()) for each in [*lines, *inline]]
    return [each for each in found if each.startswith("appliance ")]


def problem_of(command: str) -> str:
    """What is wrong with a command line; empty where nothing is. Alternatives (a|b) are tried each."""
    for variant in _variants(command):
        words = shlex.split(variant, comments=True)[1:]
        found: click.Command = program
        while words and isinstance(found, click.Group):
            following = found.get_command(click.Context(found), words[0])
            if following is None:
                return f"no command {words[0]!r} in {variant!r}"
            found, words = following, words[1:]
        options = {option for each in found.params for option in each.opts} | {"--help"}
        for word in words:
            if word.startswith("--") and word.split("=")[0] not in options:
                return f"no option {word} in {variant!r}"
    return ""


def _variants(command: str) -> list[str]:
    match = re.search(r"\S*\|\S*", command.partition("#")[0])
    if match is None:
        return [command]
    return [command.replace(match[0], one) for one in match[0].split("|")]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_in_documents_exist(path: Path) -> None:
    """A renamed command or option is found in every document that shows it."""
    problems = [problem_of(command) for command in shown(path.read_text())]

    assert [each for each in problems if each] == []


def test_this_test_finds_what_is_wrong() -> None:
    """The control."""
    assert problem_of("appliance audit verify --json") == ""
    assert problem_of("appliance auditor add|remove") == ""
    assert "no command" in problem_of("appliance audit dream")
    assert "no option" in problem_of("appliance audit verify --dream")
    assert len(shown((ROOT / "deploy" / "guides" / "controls.md").read_text())) > 30
