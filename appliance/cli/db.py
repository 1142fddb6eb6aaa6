"""`appliance db`: schema and backups."""

from __future__ import annotations

import os
from pathlib import Path

import click

import appliance
from appliance import config
from appliance import db as database_room
from appliance.audit.entry import Kind
from appliance.audit.files import require_open, take_lock
from appliance.audit.sequencer import Sequencer, Start
from appliance.cli.base import command_gateway, database_of, home_option, json_option, show, warn
from appliance.cli.init import database_upgraded, owner_url_option
from appliance.clock import SystemClock
from appliance.config import Home
from appliance.control import RecordReading
from appliance.errors import ApplianceError


@click.group(name="db")
def database() -> None:
    """The database: status, upgrade, backup."""


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
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
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
    """Make a consistent copy, its digest on the record; works beside a running gateway.

    \b
    Example: appliance db backup
    """
    path = database_room.backup(home, database_of(home), SystemClock(), note="manual")
    digest = database_room.digest_of(path)
    copied = RecordReading(event=str(Kind.DATABASE_COPIED), public={"backup_sha256": digest}, content={})
    try:
        command_gateway(home, copied)
    except ApplianceError as error:  # a closed log is what a backup may be needed for
        warn(f"the backup is made, and is not on the record: {error.message}")
    result = {"backup": str(path), "sha256": digest}
    show(result, [f"{path} sha256 {digest}"], as_json=as_json)


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
