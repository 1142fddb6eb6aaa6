"""What every reading of the record does: an auditor's key, an entry of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from appliance import config
from appliance.audit import query
from appliance.audit.entry import Kind
from appliance.audit.query import Opened
from appliance.audit.recipients import Identity, parse_identity
from appliance.cli.base import command_gateway, warn
from appliance.cli.init import DEV_IDENTITY
from appliance.config import Home
from appliance.control import RecordReading
from appliance.errors import SetupError


def on_record(
    home: Home,
    database: Path | None,
    kind: Kind,
    public: dict[str, str | int],
    content: dict[str, Any],
) -> None:
    """A reading goes on the record before its result is shown."""
    is_own = database is None or (home.database.exists() and database.samefile(home.database))
    if not is_own:
        warn("reading a copy: this can not be put on the record")
        return
    command_gateway(home, RecordReading(event=str(kind), public=public, content=content))


def identity_option(function: Any) -> Any:
    """`--identity FILE`: with whose key to read."""
    return click.option(
        "--identity",
        "identity_path",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="The auditor's identity file (profile dev: the one that init made).",
    )(function)


def open_exchange(
    home: Home, database: Path | None, target: str, identity_path: Path | None
) -> tuple[list[Opened], dict[str, str]]:
    """One exchange with its content, and who reads it. The reading is on the record first."""
    path = database or home.database
    identity = identity_of(home, identity_path)
    records = query.exchange(path, target)
    reader = {"target": target, "reader": identity.recipient.fingerprint, "name": identity.name}
    on_record(home, database, Kind.AUDIT_READ, {"target": records[0].seq}, reader)
    return query.open_records(path, records, identity), reader


def identity_of(home: Home, path: Path | None) -> Identity:
    """The auditor's key pair: from the file, or in profile dev the home's own."""
    if path is None:
        path = home.keys / DEV_IDENTITY
        if config.load(home).profile != "dev" or not path.is_file():
            raise SetupError(
                "reading needs an auditor's identity",
                code="identity_required",
                hint="pass --identity FILE",
            )
        warn("using the identity that profile 'dev' keeps in the home; production has none here")
    return parse_identity(path.read_text(encoding="utf-8"))
