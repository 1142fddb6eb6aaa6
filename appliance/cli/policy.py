"""`appliance policy`: the rules that questions and answers pass, version by version, and tests of them."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.cli import documents
from appliance.cli.base import FILE, command_gateway, home_option, json_option, show, table
from appliance.commands import ShowDocument
from appliance.config import Home
from appliance.core import Genre
from appliance.errors import RequestError, VerificationError
from appliance.policy import cases, rules
from appliance.policy.cases import Outcome


@click.group()
def policy() -> None:
    """Guardrails: check, test, publish, list, show, withdraw. A change is in force at once.

    The rules with the name `default` hold for every key that names no others.
    """


@policy.command()
@click.argument("file", type=FILE)
@home_option
@json_option
def check(file: Path, home: Home, *, as_json: bool) -> None:
    """Read a file of rules as publishing would, and say what is wrong with it. Nothing is changed.

    \b
    Example: appliance policy check default.toml
    """
    del home  # every command takes one
    found = rules.parse(documents.read_text(file))
    result = {"num_rules": len(found.ids), "notes": list(found.notes)}
    lines = [*(f"note: {note}" for note in found.notes), f"{len(found.ids)} rules, nothing wrong"]
    show(result, lines, as_json=as_json)


@policy.command()
@click.argument("file", type=FILE)
@click.option("--published", metavar="NAME", help="Against published rules, not the file that FILE names.")
@home_option
@json_option
def test(file: Path, published: str | None, home: Home, *, as_json: bool) -> None:
    """Run a table of cases, and show those that end otherwise than it says: exit code 1.

    \b
    Example: appliance policy test default.cases.toml
    """
    given = cases.parse(documents.read_text(file))
    if published is not None:
        said = command_gateway(home, ShowDocument(document=Genre.GUARDRAILS, reference=published))
        text = str(said["text"])
    else:
        beside = file.parent / given.guardrails
        if not beside.is_file():
            raise RequestError("the file of rules that the table names is not there", code="file_not_found")
        text = documents.read_text(beside)
    done = cases.run(given, rules.parse(text))
    failed = [each for each in done if each.differences]
    result = {
        "num_cases": len(done),
        "failed": [
            {"number": each.number, "name": each.case.name, "differences": list(each.differences)}
            for each in failed
        ],
    }
    lines = table(("CASE", "ON", "NAME", "DIFFERS"), [_row(each) for each in failed]) if failed else []
    show(result, [*lines, f"{len(done) - len(failed)} of {len(done)} cases as expected"], as_json=as_json)
    if failed:
        raise VerificationError(
            f"{len(failed)} of {len(done)} cases end otherwise than the table says", code="cases_failed"
        )


def _row(each: Outcome) -> tuple[str, str, str, str]:
    return str(each.number), each.case.on, each.case.name, "; ".join(each.differences)


@policy.command()
@click.argument("name")
@click.argument("file", type=FILE)
@home_option
@json_option
def publish(name: str, file: Path, home: Home, *, as_json: bool) -> None:
    """Publish a file of rules as the next version of a name.

    \b
    Example: appliance policy publish default default.toml
    """
    documents.publish(home, Genre.GUARDRAILS, name, file, as_json=as_json)


@policy.command(name="list")
@home_option
@json_option
def list_(home: Home, *, as_json: bool) -> None:
    """Show every version, and the keys whose questions pass it now.

    \b
    Example: appliance policy list
    """
    documents.list_all(home, Genre.GUARDRAILS, as_json=as_json)


@policy.command(name="show")
@click.argument("reference")
@home_option
@json_option
def show_(reference: str, home: Home, *, as_json: bool) -> None:
    """Show published rules; without @VERSION the latest ones.

    \b
    Example: appliance policy show default@1
    """
    documents.show_one(home, Genre.GUARDRAILS, reference, as_json=as_json)


@policy.command()
@click.argument("reference")
@home_option
@json_option
def withdraw(reference: str, home: Home, *, as_json: bool) -> None:
    """Put rules out of force; without @VERSION all of their versions. A key that names them gets no answers.

    \b
    Example: appliance policy withdraw strict@1
    """
    documents.withdraw(home, Genre.GUARDRAILS, reference, as_json=as_json)
