"""`appliance audit hold` and `appliance audit retain`: what must stay, and what has had its time."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from appliance import config, db
from appliance.audit import ceremonies, holds, store
from appliance.cli.base import (
    command_gateway,
    database_of,
    home_option,
    json_option,
    microseconds,
    show,
    table,
    when,
)
from appliance.cli.drafting import act_option, write_act
from appliance.commands import PlaceHold, Retain
from appliance.config import Home
from appliance.errors import RequestError


@click.group()
def hold() -> None:
    """Legal holds: what may be neither erased nor removed."""


@hold.command()
@click.option("--key", default="", metavar="ID", help="Only what one API key asked.")
@click.option("--user", default="", help="Only what concerns one person, as callers name them.")
@click.option("--since", type=click.DateTime(), help="From this moment on, UTC (default: the log's first).")
@click.option("--until", type=click.DateTime(), help="Before this moment, UTC (default: also what comes).")
@click.option("--reason", required=True, help="Why; it stands on the record, sealed.")
@home_option
@json_option
def place(
    key: str,
    user: str,
    since: datetime | None,
    until: datetime | None,
    reason: str,
    home: Home,
    *,
    as_json: bool,
) -> None:
    """Keep content until two members of the key policy lift the hold. One person is enough to place it.

    \b
    Example: appliance audit hold place --user citizen-17 --reason "court case 2026-17"
    """
    command = PlaceHold(
        key=key,
        user=user,
        since_us=microseconds(since) or 0,
        until_us=microseconds(until),
        reason=reason,
    )
    result = command_gateway(home, command)
    show(result, [f"hold {result['hold']} is in force, record {result['record']}"], as_json=as_json)


@hold.command(name="list")
@home_option
@json_option
def list_(home: Home, *, as_json: bool) -> None:
    """Show every hold. Whom one names is sealed in its entry.

    \b
    Example: appliance audit hold list
    """
    with db.reading(database_of(home)) as connection:
        found = holds.load(connection)
    rows = [
        (
            each.id,
            "in force" if each.is_active else f"lifted {when(each.lifted_us)}",
            "named" if each.names_somebody else "everybody",
            when(each.since_us) if each.since_us else "always",
            when(each.until_us) if each.until_us is not None else "open",
            when(each.placed_us),
        )
        for each in found
    ]
    result = {
        "holds": [
            {
                "id": each.id,
                "active": each.is_active,
                "names_somebody": each.names_somebody,
                "since_us": each.since_us,
                "until_us": each.until_us,
                "placed_us": each.placed_us,
                "lifted_us": each.lifted_us,
            }
            for each in found
        ]
    }
    show(result, table(("ID", "STATE", "WHOM", "SINCE", "UNTIL", "PLACED"), rows), as_json=as_json)


@hold.command()
@click.argument("hold_id", metavar="ID")
@click.option("--reason", required=True, help="Why; it stands on the record, sealed.")
@act_option
@home_option
@json_option
def lift(hold_id: str, reason: str, out: Path, home: Home, *, as_json: bool) -> None:
    """Draft the end of a hold. Two members of the key policy sign it.

    \b
    Example: appliance audit hold lift 0f3c5a7e9b1d2c4e --reason "case closed" --out lift.act
    """
    with db.reading(database_of(home)) as connection:
        policy = store.policies(connection)[-1]
        if hold_id not in {each.id for each in holds.load(connection) if each.is_active}:
            raise RequestError("no hold of this id is in force", code="hold_not_found")
    draft = ceremonies.draft_lifting(policy, config.load(home).audit.origin, hold_id, reason)
    write_act(out, draft, as_json=as_json)


@click.command()
@click.option("--dry-run", is_flag=True, help="Only count.")
@home_option
@json_option
def retain(home: Home, *, dry_run: bool, as_json: bool) -> None:
    """Remove contents whose time is over (`audit.retention_days`). A running gateway does it by itself.

    Entries and proofs stay for ever; a hold keeps its contents too.

    \b
    Example: appliance audit retain --dry-run
    """
    result = command_gateway(home, Retain(dry_run=dry_run))
    rows = [(each["kind"], str(each["days"]), str(each["num_contents"])) for each in result["removed"]]
    header = ("KIND", "DAYS", "TO REMOVE" if dry_run else "REMOVED")
    lines = table(header, rows) if rows else ["every content is kept for ever: audit.retention_days is empty"]
    show(result, lines, as_json=as_json)
