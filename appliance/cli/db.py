"""`appliance db`: schema and backups."""

from __future__ import annotations

import os

import click

import appliance
from appliance import config
from appliance import db as database_room
from appliance.audit.entry import Kind
from appliance.audit.files import require_open, take_lock
from appliance.audit.sequencer import Sequencer, Start
from appliance.cli.base import home_option, json_option, show
from appliance.cli.init import database_upgraded
from appliance.clock import SystemClock
from appliance.config import Home


@click.group(name="db")
def database() -> None:
    """The database: status, upgrade, backup."""


@database.command()
@home_option
@json_option
def status(home: Home, *, as_json: bool) -> None:
    """Tell the schema's revision and whether this release can serve with it.

    \b
    Example: appliance db status
    """
    found = database_room.schema(home.database)
    result = {"state": str(found.state), "revision": found.revision, "head": found.head}
    show(result, [f"{found.state}: revision {found.revision}, release {found.head}"], as_json=as_json)


@database.command()
@home_option
@json_option
def upgrade(home: Home, *, as_json: bool) -> None:
    """Bring an older schema to this release's, after a backup. Refuses a newer one.

    \b
    Example: appliance db upgrade
    """
    result = upgrade_home(home)
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
    """Make a consistent, checked copy; works beside a running gateway.

    \b
    Example: appliance db backup
    """
    path = database_room.backup(home, SystemClock(), note="manual")
    digest = database_room.digest_of(path)
    result = {"backup": str(path), "sha256": digest}
    show(result, [f"{path} sha256 {digest}"], as_json=as_json)


def upgrade_home(home: Home) -> dict[str, object]:
    """Upgrade under the home's lock, and put it on the record."""
    settings = config.load(home)
    clock = SystemClock()
    lock = take_lock(home)
    try:
        if database_room.schema(home.database).state is database_room.SchemaState.OLDER:
            require_open(home)  # the upgrade is an entry
        upgraded = database_room.upgrade(home, clock)
        if upgraded is None:
            return {"upgraded": False}
        sequencer = Sequencer(home, settings.audit, clock)
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
