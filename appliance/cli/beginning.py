"""`appliance audit begin-anew`: after a backup that is older than the log was, with the auditors' consent."""

from __future__ import annotations

from pathlib import Path

import click

from appliance import anew, config
from appliance.cli.base import home_option, json_option, show
from appliance.cli.drafting import act_option, write_act
from appliance.cli.verifying import second_reading
from appliance.clock import SystemClock
from appliance.config import Home
from appliance.state import CARRIED_TABLES


@click.command(name="begin-anew")
@click.option("--reason", required=True, help="What happened; it stands on the record, sealed.")
@act_option
@home_option
@json_option
def begin_anew(reason: str, out: Path, home: Home, *, as_json: bool) -> None:
    """Draft the end of a log whose database is older than its head file remembers.

    Such a log stays closed: going on would sign two trees of one size. A quorum of the auditors signs;
    `appliance auditor apply`, while no gateway runs, moves the old log into the archive and begins one
    under the next name. API keys and holds are carried over.

    \b
    Example: appliance audit begin-anew --reason "disk lost, backup of Monday" --out restore.act
    """
    write_act(out, anew.draft(home, config.load(home), reason), as_json=as_json)


def begin(home: Home, note: str, *, as_json: bool) -> None:
    """Carry the act out, and say what the operator has to change."""
    begun = anew.apply(
        home, config.load(home), SystemClock(), note, verify=second_reading, tables=CARRIED_TABLES
    )
    result = {
        "origin": begun.origin,
        "archive": str(begun.archive),
        "vkey": begun.vkey,
        "tree_size": begun.tree_size,
        "num_carried": begun.num_carried,
    }
    lines = [
        f"the log {begun.origin} has begun, {begun.num_carried} rows carried over",
        f"the old one, with its public key: {begun.archive}",
        f"verifier key: {begun.vkey}",
        "put this line into appliance.toml, below [audit], in the place of the old one:",
        f'origin = "{begun.origin}"',
    ]
    show(result, lines, as_json=as_json)
