"""`appliance prompt`: system prompts that keys are locked to, version by version."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.cli import documents
from appliance.cli.base import FILE, home_option, json_option
from appliance.config import Home
from appliance.core import Genre


@click.group()
def prompt() -> None:
    """Locked system prompts: publish, list, show, withdraw. A change is in force at once."""


@prompt.command()
@click.argument("name")
@click.argument("file", type=FILE)
@home_option
@json_option
def publish(name: str, file: Path, home: Home, *, as_json: bool) -> None:
    """Publish a file's text as the next version of a prompt.

    Keys that refer to NAME get it with their next question; those that refer to NAME@3 keep theirs.

    \b
    Example: appliance prompt publish lobby lobby.txt
    """
    documents.publish(home, Genre.PROMPT, name, file, as_json=as_json)


@prompt.command(name="list")
@home_option
@json_option
def list_(home: Home, *, as_json: bool) -> None:
    """Show every version, and the keys that get it now.

    \b
    Example: appliance prompt list
    """
    documents.list_all(home, Genre.PROMPT, as_json=as_json)


@prompt.command()
@click.argument("reference")
@home_option
@json_option
def show(reference: str, home: Home, *, as_json: bool) -> None:
    """Show a prompt's text; without @VERSION the latest one's.

    \b
    Example: appliance prompt show lobby@2
    """
    documents.show_one(home, Genre.PROMPT, reference, as_json=as_json)


@prompt.command()
@click.argument("reference")
@home_option
@json_option
def withdraw(reference: str, home: Home, *, as_json: bool) -> None:
    """Put a version out of force; without @VERSION all of them. A key that is bound to it gets no answers.

    \b
    Example: appliance prompt withdraw lobby@2
    """
    documents.withdraw(home, Genre.PROMPT, reference, as_json=as_json)
