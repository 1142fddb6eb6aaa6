"""`appliance audit`: show, release, replay, erase, hold, retain, verify, recover.

A search or a reading is on the record before its result is shown; where it can not be recorded,
nothing is shown. On a copy (`--database FILE`) nothing can be recorded, and that is said.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from appliance import asking, db
from appliance.audit import files, fsck, lineage, query, shares
from appliance.audit.report import Expected, Report, lines_of
from appliance.audit.report import as_json as report_json
from appliance.audit.rows import plain
from appliance.audit.verdict import Verification
from appliance.cli.base import (
    FILE,
    command_gateway,
    database_of,
    home_option,
    json_option,
    on_one_line,
    show,
    warn,
)
from appliance.cli.beginning import begin_anew
from appliance.cli.erasing import erase
from appliance.cli.evidence import check_evidence, export
from appliance.cli.keeping import hold, retain
from appliance.cli.opening import open_
from appliance.cli.progress import Progress
from appliance.cli.reading import identity_option, open_exchange, why_options
from appliance.cli.release import release
from appliance.cli.replay import replay
from appliance.cli.searching import search_
from appliance.cli.telling import told
from appliance.cli.verifying import expected_schema, state_tables
from appliance.cli.witness import witness_
from appliance.commands import Done, ListKeys, Problem, Recover, Verified
from appliance.config import Home
from appliance.errors import SetupError
from appliance.why import NOT_STATED, Why


@click.group()
def audit() -> None:
    """The record: read, verify, release, erase, recover."""


audit.add_command(search_)
audit.add_command(replay)
audit.add_command(witness_)
audit.add_command(export)
audit.add_command(check_evidence)
audit.add_command(open_)
audit.add_command(release)
audit.add_command(erase)
audit.add_command(hold)
audit.add_command(retain)
audit.add_command(begin_anew)


def database_option(function: Any) -> Any:
    """`--database FILE`: a copy instead of the home's own record."""
    return click.option(
        "--database",
        type=FILE,
        help="Read this copy; the reading can not be recorded then.",
    )(function)


@audit.command(name="show")
@click.argument("target", metavar="SEQ|REQUEST_ID|RECEIPT")
@identity_option
@click.option(
    "--release",
    "release_path",
    type=FILE,
    help="Shares that the appliance released, where a copy is read.",
)
@why_options()
@database_option
@home_option
@json_option
def show_(
    target: str,
    identity_paths: tuple[Path, ...],
    release_path: Path | None,
    purpose: str,
    case: str,
    database: Path | None,
    home: Home,
    *,
    as_json: bool,
) -> None:
    """Decrypt one exchange: who asked what, when, and what was answered.

    \b
    Example: appliance audit show 12 --identity alice.identity
    """
    place = database_of(home, database)
    if database is None:
        target = lineage.find(home, files.read_verifier(home).name, target)
    why = Why(purpose or NOT_STATED.purpose, case)
    opened, _ = open_exchange(home, database, target, identity_paths, release_path, why)
    verifier = lineage.verifiers_of(home, database)[0]
    proofs = {each.seq: query.prove(place, each, verifier) for each in (one.record for one in opened)}
    result = {
        "records": [
            {
                **plain(each.record),
                "content": each.content,
                "erased_by": each.erased_by,
                "included": proofs[each.record.seq][1],
                "tree_size": proofs[each.record.seq][0],
            }
            for each in opened
        ]
    }
    show(result, told(opened, proofs), as_json=as_json)
    if not all(included for _, included in proofs.values()):
        sys.exit(1)


@audit.command()
@click.option(
    "--since-last", is_flag=True, help="Only what came since the last green verification on the record."
)
@click.option("--progress", is_flag=True, help="Lines of JSON on standard error: how far it has come.")
@database_option
@home_option
@json_option
def verify(database: Path | None, home: Home, *, since_last: bool, progress: bool, as_json: bool) -> None:
    """Check the record. Needs no secret. Exit code 0: green; 1: something is not as it must be, and the
    gateway latches; any other: it could not be checked. A running gateway puts the result on the record.

    \b
    Examples: appliance audit verify
              appliance audit verify --since-last
    """
    place = database_of(home, database)
    if not place.exists():
        raise SetupError(
            "the audit database is missing",
            code="database_missing",
            hint="restore it from a backup; the head file remembers how long the log was",
        )
    # Asked before and behind the reading: a share that is made or erased meanwhile was there once.
    shares_before = shares.ids(home)
    running = database is None and asking.send(home.control_socket, ListKeys()) is not None
    is_archived = lineage.is_archived(home, database)
    verifiers = lineage.verifiers_of(home, database)
    expected = Expected(
        verifier=verifiers[0],
        others=verifiers[1:],
        schema=expected_schema(place.dialect),
        revision=db.schema(place).head,
        state_tables=state_tables(),
        head_note=None if is_archived else _head_note(home),
        shares=(lambda: shares_before | shares.ids(home)) if database is None else None,
        may_be_open=running or is_archived,
    )
    began = time.monotonic()
    update = Progress(for_programs=progress).update
    report = fsck.verify(fsck.source_of(place), expected, update, since_last=since_last)
    if is_archived:
        lineage.check_end(home, verifiers[0].name, report)
    record = _record_result(home, report, time.monotonic() - began) if running else None
    mark = "green" if report.is_green else "RED"
    since = f" since {report.begin}" if report.begin else ""
    lines = [
        f"{mark}: {report.num_entries} entries{since}, root {report.root or '-'}"
        + (f", {report.num_open} still open" if report.num_open else "")
        + (f", {report.num_erased} contents erased" if report.num_erased else "")
        + (f", {report.num_removed} removed as their time was over" if report.num_removed else ""),
        *map(on_one_line, lines_of(report)),
    ]
    show({**report_json(report), "record": record}, lines, as_json=as_json)
    if not report.is_green:
        sys.exit(1)


def _record_result(home: Home, report: Report, seconds: float) -> str | None:
    """The result on the record, by the gateway that runs; None where it is not there any more."""
    result = Verification.of(report, int(seconds * 1e6))
    answer = asking.send(home.control_socket, Verified(result=result))
    match answer:
        case Done():
            return str(answer.result["record"])
        case Problem():
            warn(f"the result is not on the record: {answer.message}")
    return None


@audit.command()
@home_option
@json_option
def recover(home: Home, *, as_json: bool) -> None:
    """Open a latched log again, after its cause is gone. Checks first; the act is on the record.

    \b
    Example: appliance audit recover
    """
    result = command_gateway(home, Recover())
    lines = [f"the log is open again, {result['tree_size']} entries"]
    show(result, lines, as_json=as_json)


def _head_note(home: Home) -> str:
    return home.head.read_text(encoding="utf-8", errors="replace") if home.head.exists() else ""
