"""`appliance audit release`: hand out the appliance's half of records' keys, on the record first."""

from __future__ import annotations

from pathlib import Path

import click

from appliance import config
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.cli.base import FILE, NEW_FILE, database_of, home_option, json_option, show
from appliance.cli.reading import on_record, why_options, write_release
from appliance.config import Home
from appliance.errors import RequestError
from appliance.why import Why

MAX_TARGETS = 1000


@click.command()
@click.argument("targets", metavar="SEQ|REQUEST_ID…", nargs=-1, required=True)
@why_options(required=True)
@click.option(
    "--out",
    required=True,
    type=NEW_FILE,
    help="The file that goes to the auditor, with a copy of the database.",
)
@click.option(
    "--database",
    type=FILE,
    help="Of an earlier log of this home, in its archive.",
)
@home_option
@json_option
def release(
    targets: tuple[str, ...],
    purpose: str,
    case: str,
    out: Path,
    database: Path | None,
    home: Home,
    *,
    as_json: bool,
) -> None:
    """Release what an auditor needs to read exchanges on another machine.

    A share opens nothing without an auditor's identity. It covers its subject's month, so a release
    names every exchange that it was made for.

    \b
    Example: appliance audit release 12 40 --purpose "court order" --case 2026-17 --out case.release
             appliance audit show 12 --database copy.db --release case.release --identity alice.identity
    """
    if len(targets) > MAX_TARGETS:
        raise RequestError(f"at most {MAX_TARGETS} targets at once", code="too_many_targets")
    place = database_of(home, database)
    records = [each for target in targets for each in query.exchange(place, target)]
    needed = query.shares_of(records)
    shares = on_record(
        home,
        None,
        Kind.AUDIT_RELEASED,
        {"num_records": len(records), "num_shares": len(needed)},
        {"targets": list(targets), "log": records[0].header.log},
        needed,
        why=Why(purpose, case),
    )
    write_release(out, config.load(home).audit.origin, shares)
    result = {"out": str(out), "records": len(records), "shares": len(shares), "needed": len(needed)}
    lines = [f"{out}: {len(shares)} shares for {len(records)} records"]
    if len(shares) < len(needed):
        lines.append(f"{len(needed) - len(shares)} shares are erased: their records open for nobody")
    show(result, lines, as_json=as_json)
