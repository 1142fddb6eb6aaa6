"""`appliance db`: schema and backups."""

from __future__ import annotations

import os
from pathlib import Path

import click

import appliance
from appliance import config
from appliance import db as database_room
from appliance import restore as restoring
from appliance.audit import lineage
from appliance.audit.files import require_open, take_lock
from appliance.audit.kinds import Kind
from appliance.audit.recipients import parse_identity
from appliance.audit.sequencer import Sequencer, Start
from appliance.backups import copy_database
from appliance.cli.base import FILE, command_gateway, database_of, home_option, json_option, show, warn
from appliance.cli.boxing import restore_box
from appliance.cli.init import database_upgraded, owner_url_option
from appliance.cli.verifying import second_reading
from appliance.clock import SystemClock
from appliance.commands import BackUp
from appliance.config import Home
from appliance.errors import ApplianceError


@click.group(name="db")
def database() -> None:
    """The database: status, upgrade, backup, restore."""


@database.command()
@home_option
@json_option
def status(home: Home, *, as_json: bool) -> None:
    """Tell where the database is, its schema's revision, and whether this release can serve with it.

    \b
    Example: appliance db status
    """
    place = database_of(home)
    found = database_room.schema(place)
    result = {
        "database": str(place),
        "state": str(found.state),
        "revision": found.revision,
        "head": found.head,
    }
    lines = [f"{found.state}: revision {found.revision}, release {found.head}", str(place)]
    show(result, lines, as_json=as_json)


@database.command()
@owner_url_option
@click.option(
    "--backup",
    "made_backup",
    type=FILE,
    help="A backup of this moment that you made elsewhere: its digest goes on the record.",
)
@home_option
@json_option
def upgrade(owner_url: str, made_backup: Path | None, home: Home, *, as_json: bool) -> None:
    """Bring an older schema to this release's, after a backup. Refuses a newer one.

    \b
    Examples: appliance db upgrade
              appliance db upgrade --owner-url postgresql://owner@db.example/appliance
    """
    result = upgrade_home(home, owner_url=owner_url, made_backup=made_backup)
    lines = (
        [f"upgraded from {result['from']} to {result['to']}; backup: {result['backup']}"]
        if result["upgraded"]
        else ["the schema is current"]
    )
    show(result, lines, as_json=as_json)


@database.command()
@home_option
@json_option
def backup(home: Home, *, as_json: bool) -> None:
    """Copy the database, to be kept for years, the shares, for `audit.share_backup_days`, and the box.

    Works beside a running gateway; all are on the record. Shares and box file (keys, settings, head) open
    for the recovery key only. From the three a new machine comes back: appliance db restore-box.

    \b
    Example: appliance db backup
    """
    copied = copy_database(home, database_of(home), SystemClock(), note="manual")
    command = BackUp(
        backup_sha256=copied.sha256,
        tree_size=copied.tree_size,
        schema=copied.schema,
        name=copied.path.name,
        head=copied.head,
    )
    result: dict[str, object] = {
        "backup": str(copied.path),
        "sha256": copied.sha256,
        "tree_size": copied.tree_size,
    }
    lines = [f"{copied.path} sha256 {copied.sha256}, {copied.tree_size} entries"]
    try:
        done = command_gateway(home, command)
    except ApplianceError as error:  # a closed log is what a copy may be needed for
        warn(f"the database is copied, off the record, without its shares and its box: {error.message}")
        result |= {"record": None, "shares": None, "box": None}
    else:
        result |= done
        lines.append(f"{done['shares']}: shares, for the recovery key only; record {done['record']}")
        lines.append(f"{done['box']}: the box, for the recovery key only; older ones here are gone")
        if done["num_expired"]:
            lines.append(f"{done['num_expired']} older backups of shares were removed")
    archived = [str(each.parent) for each in lineage.archived(home)]
    lines += [f"{each}: an earlier log; it never changes, carry it away once" for each in archived]
    show(result | {"archived": archived}, lines, as_json=as_json)


@database.command()
@click.argument("file", type=FILE)
@home_option
@json_option
def restore(file: Path, home: Home, *, as_json: bool) -> None:
    """Put a copy of the database back, while no gateway runs. What is there moves into the archive.

    Where the copy is older than the log was, the log stays closed: see `appliance audit begin-anew`.

    \b
    Example: appliance db restore backups/appliance-20261121T081500000000Z-manual.db
    """
    done = restoring.restore_database(home, config.load(home), SystemClock(), file, verify=second_reading)
    lines = [f"restored {file}: {done.tree_size} entries, green"]
    if done.aside is not None:
        lines.append(f"what was there: {done.aside}")
    if done.closed:
        lines += [f"the log stays closed ({done.closed})", done.hint]
    result = {
        "tree_size": done.tree_size,
        "sha256": done.sha256,
        "aside": str(done.aside) if done.aside else None,
        "closed": done.closed,
    }
    show(result, lines, as_json=as_json)


@database.command(name="restore-shares")
@click.argument("file", type=FILE)
@click.option(
    "--identity",
    "identity_path",
    required=True,
    type=FILE,
    help="The recovery key's identity, from its safe.",
)
@home_option
@json_option
def restore_shares(file: Path, identity_path: Path, home: Home, *, as_json: bool) -> None:
    """Take shares back from their backup, while no gateway runs; what was erased stays erased.

    \b
    Example: appliance db restore-shares backups/shares-20261121T081500000000Z.backup \
               --identity recovery.identity
    """
    identity = parse_identity(identity_path.read_text(encoding="utf-8"))
    taken, num_erased = restoring.restore_shares(home, config.load(home), SystemClock(), file, identity)
    lines = [f"{taken} shares restored" + (f", {num_erased} are erased and stay so" if num_erased else "")]
    show({"restored": taken, "erased": num_erased}, lines, as_json=as_json)


database.add_command(restore_box)


def upgrade_home(home: Home, *, owner_url: str = "", made_backup: Path | None = None) -> dict[str, object]:
    """Upgrade under the home's lock, and put it on the record."""
    settings = config.load(home)
    place = database_room.of(home, settings, owner_url=owner_url)
    clock = SystemClock()
    lock = take_lock(home)
    try:
        if database_room.schema(place).state is database_room.SchemaState.OLDER:
            require_open(home)  # the upgrade is an entry
        upgraded = database_room.upgrade(home, place, clock, made_backup=made_backup)
        if upgraded is None:
            return {"upgraded": False}
        sequencer = Sequencer(home, place, settings.audit, clock)
        try:
            sequencer.open(Start(Kind.LOG_STARTED, {"version": appliance.__version__}))
            sequencer.commit([database_upgraded(upgraded)])
            sequencer.write_head()
        finally:
            sequencer.close()
    finally:
        os.close(lock)
    return {
        "upgraded": True,
        "from": upgraded.from_revision,
        "to": upgraded.to_revision,
        "backup": str(upgraded.backup),
    }
