"""What every reading of the record does: an auditor's key, an entry of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from appliance import config
from appliance.audit.entry import Kind
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
